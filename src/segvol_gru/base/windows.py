"""Where the network's window goes: around a box, sliding over a region; boxes of masks.

region   |-----------------------|
windows  |=========|             |
         |    |=========|        |    step: half a window
         |         |====+====|   |
         |             |=========|    the last one ends at the border
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from segvol_gru.prompts import Index
from segvol_gru.region import Region


def starts(length: int, window: int) -> list[int]:
    """First voxels of windows that slide over an axis with half overlap."""
    step = max(window // 2, 1)
    last = max(length - window, 0)
    return [*range(0, last, step), last]


def tiles(size: Index, window: Index) -> list[Region]:
    """Windows that slide over an array of this size, the last axis fastest."""
    every = product(*(starts(n, w) for n, w in zip(size, window, strict=True)))
    return [Region((z, y, x), window) for z, y, x in every]


def cover(region: Region, window: Index, shape: Index) -> list[Region]:
    """Windows over a region, filled with the volume where it reaches.

    Args:
        region: what has to be covered, inside the volume.
        window: size of a window.
        shape: (D, H, W) of the volume.

    Returns:
        Windows, the last axis fastest. Along an axis where the region fits one window, that is
        centred on the region and pushed into the volume; it sticks out evenly on both sides
        where the volume itself is shorter. Elsewhere windows slide with half overlap.
    """
    axes = []
    for lo, n, w, total in zip(region.lo, region.size, window, shape, strict=True):
        if total <= w:
            axes.append([-((w - total) // 2)])
        elif n <= w:
            axes.append([min(max(lo - (w - n) // 2, 0), total - w)])
        else:
            axes.append([lo + s for s in starts(n, w)])
    return [Region((z, y, x), window) for z, y, x in product(*axes)]


def enlarged(region: Region, window: Index, shape: Index) -> Region:
    """Grow a region to about one window, as the reference does.

    Along every axis shorter than the window, floor((window - length) / 2) voxels are added on
    both sides. The reference clamps the *inclusive* end at the axis length, so the result may
    reach one voxel beyond the volume; cut it with `Region.inside`.
    """
    low, size = [], []
    for lo, n, w, total in zip(region.lo, region.size, window, shape, strict=True):
        first, last = lo, lo + n - 1
        if n < w:
            first, last = max(first - (w - n) // 2, 0), min(last + (w - n) // 2, total)
        low.append(first)
        size.append(last - first + 1)
    return Region((low[0], low[1], low[2]), (size[0], size[1], size[2]))


def bounds(mask: Tensor) -> Region | None:
    """Smallest region that holds a (D, H, W) bool mask; None if it is empty."""
    spans = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        held = mask.any(second).any(first).nonzero()
        if not len(held):
            return None
        spans.append((int(held[0]), int(held[-1] - held[0]) + 1))
    (z, d), (y, h), (x, w) = spans
    return Region((z, y, x), (d, h, w))


def middle_slice_bounds(mask: Tensor) -> Region | None:
    """The z range of a mask, and the rectangle of the slice that holds its median voxel.

    That is no bounding box: other slices may stick out of the rectangle. The released SegFM
    model was prompted with it.

    Args:
        mask: (D, H, W) bool.

    Returns:
        None if the mask is empty.
    """
    whole = bounds(mask)
    if whole is None:
        return None
    through = mask.sum((1, 2)).cumsum(0)
    middle = int((through > int(through[-1]) // 2).nonzero()[0])
    flat = bounds(mask[middle : middle + 1])
    assert flat is not None
    return Region((whole.lo[0], *flat.lo[1:]), (whole.size[0], *flat.size[1:]))


def slide(image: Tensor, window: Index, predict: Callable[[Tensor, Region], Tensor]) -> Tensor:
    """Predict in windows and average where they overlap.

    Args:
        image: (D, H, W) float. Padded with zeros where shorter than the window, half before and
            the rest after.
        window: size of a window.
        predict: (1, 1, *window) image and its place in voxels of `image` (which may begin
            before 0, in the padding) -> float logits of that size.

    Returns:
        (D, H, W) float32.
    """
    short = [max(w - n, 0) for w, n in zip(window, image.shape, strict=True)]
    before = [n // 2 for n in short]
    sides = [side for b, n in zip(before, short, strict=True) for side in (n - b, b)]
    padded = F.pad(image, sides[::-1])
    total = torch.zeros(padded.shape)
    count = torch.zeros(padded.shape)
    depth, height, width = padded.shape
    for tile in tiles((depth, height, width), window):
        z, y, x = (a - b for a, b in zip(tile.lo, before, strict=True))
        total[tile.slices()] += predict(
            padded[tile.slices()][None, None], Region((z, y, x), window)
        )
        count[tile.slices()] += 1
    inner = [slice(b, b + n) for b, n in zip(before, image.shape, strict=True)]
    return (total / count)[inner[0], inner[1], inner[2]]
