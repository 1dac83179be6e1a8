"""Candidates and clicks -> the paper's state tensor X, eight numbers per point.

    0 1 2   cell index over the number of cells (i/D, j/H, k/W)
    3       U: predicted probability; E: label of the click that the point contradicts
    4       1 for a point, 0 for padding (whose eight numbers are all 0)
    5 6 7   the first click over the number of cells, the same for every point

The paper describes the features twice. The dictionary D_t lists coordinates, probability and
label for both sets (nine numbers with flag and first click); the composition of the vector
takes the probability in U and the label in E. Only the second makes the eight that the tensor
has, so it is the one built here. c_first is read as the first click of the session, as worded;
the authors' code repeats the newest click instead, feeds voxel indices without dividing, and
gives U the distance to 0.5, which hides the side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segvol_gru.correct.sampling import Candidates
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.prompts import Index

FEATURES = 8  # per point, paper 2.2


def state_tensor(candidates: Candidates, prompts: CellPrompts, cells: Index) -> Tensor:
    """Compose X_t.

    Args:
        candidates: the points of U and E.
        prompts: all clicks so far.
        cells: cells along (D, H, W).

    Returns:
        (B, 2, K, 8) float32 in [0, 1], set 0 = U, set 1 = E.

    Source: paper 2.2, "Feature Composition".
    """
    valid, label = candidates.valid, candidates.label
    size = torch.tensor(cells, dtype=torch.float32, device=valid.device)
    told = torch.where(label >= 0, label.float(), candidates.p_prob)
    first = (first_click(prompts) / size).clamp(0, 1)[:, None, None].expand(*valid.shape, 3)
    x = torch.cat(
        [candidates.coordinates / size, told[..., None], torch.ones_like(told)[..., None], first],
        -1,
    )
    return torch.where(valid[..., None], x, 0.0)


def first_click(prompts: CellPrompts) -> Tensor:
    """The first click of each item, (B, 3) float32 cells; zeros where there is none."""
    given = prompts.labels >= 0
    first = given & (given.cumsum(1) == 1)
    return torch.where(first[..., None], prompts.points, 0.0).sum(1)
