"""Which region to look at: around a box, around a click, and when to look wider or closer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from segvol_gru.prompts import Box, Index
from segvol_gru.region import Region

SLACK = 1.4  # size of a region over the size of what it frames
LOOSE = 2.0  # the same along an axis where a box's extent was guessed
GUARD_CELLS = 2.0  # a click nearer to a region's open face than this widens the region
TOUCHING_CELLS = 12  # a mask with more cells than this on an open face is cut off there
SEARCH_SIDE_VOX = 40  # first region around a click without a box, in the finest voxels
WIDEN = 0.35  # share of a region's side added on each side while a mask is cut off
ROOMY = 0.35  # a mask that fills less than this of every side is looked at closer


def around_box(box: Box, shape: Index, spacing_mm: Sequence[float]) -> Region:
    """Frame a box, loosely along the axes where its extent was guessed."""
    slack = [SLACK if tight else LOOSE for tight in box.tight]
    return Region.around(box.lo, box.hi, slack, shape, spacing_mm)


def grown(box: Box, at: Index) -> Box:
    """The box, its guessed sides moved out to a voxel of the object; itself if it holds it."""
    sides = zip(box.lo, box.hi, at, box.tight, strict=True)
    (z0, z1), (y0, y1), (x0, x1) = (
        (lo, hi) if tight else (min(lo, a), max(hi, a)) for lo, hi, a, tight in sides
    )
    return replace(box, lo=(z0, y0, x0), hi=(z1, y1, x1))


def around_click(at: Index, shape: Index, spacing_mm: Sequence[float]) -> Region:
    """The first region for a click of which nothing else is known."""
    half = [SEARCH_SIDE_VOX * min(spacing_mm) / mm / 2 for mm in spacing_mm]
    low = [round(a - h) for a, h in zip(at, half, strict=True)]
    high = [round(a + h) for a, h in zip(at, half, strict=True)]
    return _framed(low, high, 1.0, shape, spacing_mm)


def better_view(mask: Tensor, region: Region, shape: Index, spacing_mm: Sequence[float]) -> Region:
    """Where to look next for a start without a box; the same region when the mask fits it.

    Args:
        mask: (d, h, w) bool on the cells of `region`.
        region: where it was predicted.
        shape: (D, H, W) of the volume.
        spacing_mm: voxel size along (D, H, W).
    """
    bounds = mask_bounds(mask, region)
    if bounds is None:
        return region
    if cut_off(mask, region, shape):
        low = [a - round(WIDEN * n) for a, n in zip(region.lo, region.size, strict=True)]
        high = [b - 1 + round(WIDEN * n) for b, n in zip(region.hi, region.size, strict=True)]
        return _framed(low, high, 1.0, shape, spacing_mm)
    low, high = bounds
    filled = max((b - a + 1) / n for a, b, n in zip(low, high, region.size, strict=True))
    return region if filled > ROOMY else _framed(low, high, SLACK, shape, spacing_mm)


def widened(
    region: Region, mask: Tensor, at: Index, shape: Index, spacing_mm: Sequence[float]
) -> Region:
    """The region itself if it holds the click and the whole mask, else a larger one.

    Args:
        region: where the corrector looked last.
        mask: (d, h, w) bool on its cells.
        at: voxel of the new click.
        shape: (D, H, W) of the volume.
        spacing_mm: voxel size along (D, H, W).
    """
    cells = (mask.shape[0], mask.shape[1], mask.shape[2])
    point = region.to_cells(torch.tensor(at, dtype=torch.float32), cells).tolist()
    low_open, high_open = _open_faces(region, shape)
    held = all(
        GUARD_CELLS * lo - 0.5 <= p <= n - 0.5 - GUARD_CELLS * hi
        for p, n, lo, hi in zip(point, cells, low_open, high_open, strict=True)
    )
    if held and not cut_off(mask, region, shape):
        return region
    low, high = list(at), list(at)
    bounds = mask_bounds(mask, region)
    if bounds is not None:
        low = [min(a, b) for a, b in zip(low, bounds[0], strict=True)]
        high = [max(a, b) for a, b in zip(high, bounds[1], strict=True)]
    return _framed(low, high, SLACK, shape, spacing_mm).union(region)


def cut_off(mask: Tensor, region: Region, shape: Index) -> bool:
    """Whether a mask (d, h, w) bool on cells reaches a face beyond which the volume goes on."""
    low_open, high_open = _open_faces(region, shape)
    return any(
        is_open and int(mask.select(axis, face).sum()) > TOUCHING_CELLS
        for axis in range(3)
        for face, is_open in ((0, low_open[axis]), (-1, high_open[axis]))
    )


def mask_bounds(mask: Tensor, region: Region) -> tuple[list[int], list[int]] | None:
    """First and last voxel (z, y, x) of a mask on cells; None if it is empty."""
    if not bool(mask.any()):
        return None
    low, high = [], []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        at = mask.any(others[1]).any(others[0]).nonzero()
        scale = region.size[axis] / mask.shape[axis]
        low.append(region.lo[axis] + int(float(at[0]) * scale))
        high.append(region.lo[axis] + max(int(float(at[-1] + 1) * scale - 1e-6), 0))
    return low, high


def _open_faces(region: Region, shape: Index) -> tuple[list[bool], list[bool]]:
    """Per axis, whether the volume goes on beyond the region's low and high face."""
    low = [a > 0 for a in region.lo]
    high = [b < n for b, n in zip(region.hi, shape, strict=True)]
    return low, high


def _framed(
    low: Sequence[int],
    high: Sequence[int],
    slack: float,
    shape: Index,
    spacing_mm: Sequence[float],
) -> Region:
    """Frame two inclusive corners, cut to the volume."""
    z0, y0, x0 = (max(0, a) for a in low)
    z1, y1, x1 = (min(n - 1, b) for b, n in zip(high, shape, strict=True))
    return Region.around((z0, y0, x0), (z1, y1, x1), [slack] * 3, shape, spacing_mm)
