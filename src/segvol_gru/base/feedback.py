"""The feedback path (L1): SegVol's dense prompt sees the previous mask and the clicks.

SegVol has no input for a previous mask. This small network makes one; its last layer starts at
zero, so that until trained every official answer stays what it was, to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segvol_gru.base.prompt_encoder import NEGATIVE, POSITIVE
from segvol_gru.base.segvol import SegVolConfig
from segvol_gru.prompt_maps import click_maps, shown

REACH_CELLS = 4.0  # standard deviation of a click's mark: one image token of 4 cells and a little


class Feedback(nn.Module):
    """Previous low-resolution logits and clicks -> what is added to the dense prompt.

    Args:
        config: sizes of the network that listens.
        width: channels of the first layer.
    """

    def __init__(self, config: SegVolConfig, width: int = 16) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.Sequential(
            nn.Conv3d(3, width, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv3d(width, 2 * width, 3, stride=2, padding=1),
            nn.GELU(),
        )
        self.last = nn.Conv3d(2 * width, config.width, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, low_res_logits: Tensor, points: Tensor, labels: Tensor) -> Tensor:
        """Look at the previous answer.

        Args:
            low_res_logits: (P, 1, 4gD, 4gH, 4gW) logits before the newest click.
            points: (P, N, 3) float (z, y, x) voxels of the network's frame.
            labels: (P, N): 1 positive, 0 negative, -1 padding.

        Returns:
            (P, E, gD, gH, gW) float; zeros until trained.
        """
        d, h, w = low_res_logits.shape[2:]
        scale = [n / m for n, m in zip((d, h, w), self.config.image, strict=True)]
        at = (points + 0.5) * points.new_tensor(scale) - 0.5
        marks = [
            click_maps(at, labels == kind, (d, h, w), REACH_CELLS) for kind in (POSITIVE, NEGATIVE)
        ]
        out: Tensor = self.last(self.layers(torch.cat([shown(low_res_logits.float()), *marks], 1)))
        return out
