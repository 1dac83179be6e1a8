"""Where a next click would tell most: in the middle of the widest band of doubt."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from segvol_gru.correct.sampling import TAU
from segvol_gru.prompts import Index
from segvol_gru.state import State

BAND_CELLS = 5  # doubt is averaged over a cube of this side: thin borders are doubtful everywhere
APART_CELLS = 4.0  # no suggestion nearer to a click than this: that place was asked already


def most_doubtful(state: State) -> Index | None:
    """The voxel around which the mask is least certain.

    Doubt is 4 p (1 - p) on the cells, averaged over a small cube, so that a border that might
    lie elsewhere wins over one that is merely a border. Only cells of the uncertain set U
    (paper Eq. 2) come into question; ties go to the first in C order.

    Args:
        state: of an object.

    Returns:
        Voxel index (z, y, x) to look at and click as what it is; None if nothing is in doubt.
    """
    p_prob = state.logits[0, 0].float().cpu().sigmoid()
    cells = (p_prob.shape[0], p_prob.shape[1], p_prob.shape[2])
    doubt = (4 * p_prob * (1 - p_prob))[None, None]
    doubt = F.avg_pool3d(doubt, BAND_CELLS, 1, BAND_CELLS // 2, count_include_pad=False)[0, 0]
    allowed = (p_prob > TAU) & (p_prob < 1 - TAU)
    z, y, x = torch.meshgrid(*(torch.arange(n) for n in cells), indexing="ij")
    for click in state.clicks:
        at = state.region.to_cells(torch.tensor(click.at, dtype=torch.float32), cells).tolist()
        apart = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2
        allowed &= apart > APART_CELLS**2
    if not bool(allowed.any()):
        return None
    best = int(torch.where(allowed, doubt, -1.0).argmax())
    cell = (best // (cells[1] * cells[2]), best // cells[2] % cells[1], best % cells[2])
    voxel = [
        a + int((c + 0.5) * n / m)
        for a, c, n, m in zip(state.region.lo, cell, state.region.size, cells, strict=True)
    ]
    return voxel[0], voxel[1], voxel[2]
