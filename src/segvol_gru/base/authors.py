"""What the paper authors' checkpoints hold beyond SegVol: five GRU blocks, one per click.

Declared so that their files can be checked and their parameters counted. The blocks are never
run: the authors' code writes their answers to the wrong voxels, and its inference leaves them
out.

Source: MoriiHuang/SegVol_GRU_Correction@9ce4d48, segvol/segvol_gru_correction.py.
"""

from __future__ import annotations

import torch
from torch import nn

ROUNDS = 5
POINTS = 400  # 2K sampled voxels
FEATURES = 8  # of a point


class AuthorsBlock(nn.Module):
    """One block: half the points, flattened, are one step of the sequence."""

    def __init__(self) -> None:
        super().__init__()
        hidden = 5 * POINTS
        self.gru = nn.GRU(FEATURES * POINTS // 2, hidden, batch_first=True)
        self.fc_prob = nn.Linear(hidden + 3 * POINTS, POINTS)


def authors_blocks() -> nn.ModuleDict:
    """All five blocks, under the checkpoints' keys and without memory for weights."""
    with torch.device("meta"):
        return nn.ModuleDict({"gru_blocks": nn.ModuleList(AuthorsBlock() for _ in range(ROUNDS))})
