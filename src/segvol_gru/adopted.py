"""Masks of other tools: what their own grain leaves open, the base network may say.

A mask made at low resolution and blown up comes in blocks: along an axis it never changes twice
within a few voxels. Such a mask says nothing finer than a block, so before its first correction
it is taken for a blur of that width, and what the base makes of its box decides within. A mask
that follows single voxels is taken at its word.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segvol_gru.prompts import Index
from segvol_gru.region import Region

FEWEST_CHANGES = 4  # places along an axis where a mask changes, before their distance says much
COARSE_AXES = 2  # along which a mask comes in blocks; one alone may be thick slices of the scan
AGREEING = 0.6  # Dice of the mask and the base's own, below which the base has misunderstood
MOST_LOGIT = 3.5  # of the opinion: the middle of a mask, with 4, cannot be overruled


def blocks(mask: Tensor) -> Index:
    """The size of the blocks that a mask is made of.

    Args:
        mask: (D, H, W) bool.

    Returns:
        Per axis the smallest distance in voxels of two places where the mask changes; 1 where
        there are too few of them.
    """
    found = []
    for axis in range(3):
        ahead = mask.narrow(axis, 1, mask.shape[axis] - 1)
        behind = mask.narrow(axis, 0, mask.shape[axis] - 1)
        others = tuple(other for other in range(3) if other != axis)
        places = (ahead ^ behind).amax(others).nonzero()[:, 0]
        few = len(places) < FEWEST_CHANGES
        found.append(1 if few else int(places.diff().min()))
    return found[0], found[1], found[2]


def is_coarse(size: Index) -> bool:
    """Whether blocks of this size leave something open."""
    return sum(n > 1 for n in size) >= COARSE_AXES


def decided(logits: Tensor, opinion: Tensor, region: Region, size: Index) -> Tensor:
    """A coarse mask whose border an opinion has decided.

    Args:
        logits: (1, 1, d, h, w) float32, the mask's on the cells of `region`.
        opinion: (1, 1, d, h, w) float32, the base's.
        region: the voxels that the cells cover.
        size: voxels of a block along (D, H, W).

    Returns:
        (1, 1, d, h, w) float32; `logits` themselves where the two do not mean the same thing.
    """
    mask, other = logits > 0, opinion > 0
    both = float((mask & other).sum()) / max(float(mask.sum() + other.sum()), 1.0)
    if 2 * both < AGREEING:
        return logits
    wide = [
        2 * round(n * cells / voxels / 2) + 1
        for n, cells, voxels in zip(size, logits.shape[2:], region.size, strict=True)
    ]
    blurred = F.avg_pool3d(
        logits, wide, stride=1, padding=[n // 2 for n in wide], count_include_pad=False
    )
    out: Tensor = blurred + opinion.clamp(-MOST_LOGIT, MOST_LOGIT)
    return out
