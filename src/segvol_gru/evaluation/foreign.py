"""Masks as other tools make them, to see what clicks do to a mask of foreign make.

All of them are told the tight box of the structure, as their user would tell them. None of them
is met in training.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.evaluation.baselines import BASELINES, FilledBox
from segvol_gru.prompts import Box
from segvol_gru.simulate import BoolArray

PREFIX = "foreign:"
COARSE_CELLS = 8  # of a low-resolution mask across the structure's longest side
GREYS = 256

Spacing = tuple[float, float, float]
Maker = Callable[[NDArray[np.uint8], Spacing, BoolArray, Box], BoolArray]


def foreign_mask(
    kind: str, image: NDArray[np.uint8], spacing_mm: Spacing, gt: BoolArray, box: Box
) -> BoolArray:
    """A first mask by another tool; the filled box where that tool finds nothing.

    Args:
        kind: a key of `FOREIGN`.
        image: (D, H, W) uint8.
        spacing_mm: voxel size along (D, H, W).
        gt: (D, H, W) bool, the structure; only low-resolution masks look at it.
        box: its tight box.

    Returns:
        (D, H, W) bool, not empty.
    """
    mask = FOREIGN[kind](image, spacing_mm, gt, box)
    return mask if mask.any() else FilledBox().start(image, spacing_mm, box, None, "")


def _grown(image: NDArray[np.uint8], spacing_mm: Spacing, gt: BoolArray, box: Box) -> BoolArray:
    """Region growing from the box's core."""
    return BASELINES["region-growing"]().start(image, spacing_mm, box, None, "")


def _thresholded(
    image: NDArray[np.uint8], spacing_mm: Spacing, gt: BoolArray, box: Box
) -> BoolArray:
    """Otsu's threshold within the box, that side of it that holds most of the box's middle."""
    window = tuple(slice(a, b + 1) for a, b in zip(box.lo, box.hi, strict=True))
    inside = image[window]
    bright = inside > otsu(inside)
    middle = bright[tuple(slice(n // 4, n - n // 4) for n in bright.shape)]
    chosen = bright if middle.mean() >= 0.5 else ~bright
    parts, count = ndimage.label(chosen)
    mask = np.zeros(image.shape, np.bool_)
    if count:
        mask[window] = parts == np.bincount(parts[chosen]).argmax()
    return mask


def _coarse(image: NDArray[np.uint8], spacing_mm: Spacing, gt: BoolArray, box: Box) -> BoolArray:
    """The truth as a tool of low resolution would draw it: blocks that are mostly inside."""
    longest_mm = max(n * mm for n, mm in zip(box.size, spacing_mm, strict=True))
    steps = [max(1, round(longest_mm / COARSE_CELLS / mm)) for mm in spacing_mm]
    window = tuple(slice(a, b + 1) for a, b in zip(box.lo, box.hi, strict=True))
    part = gt[window].astype(np.float32)
    full = [-(-n // step) * step for n, step in zip(part.shape, steps, strict=True)]
    ends = [(0, f - n) for f, n in zip(full, part.shape, strict=True)]
    d, h, w = (f // step for f, step in zip(full, steps, strict=True))
    inside, room = (
        np.pad(values, ends).reshape(d, steps[0], h, steps[1], w, steps[2]).sum(axis=(1, 3, 5))
        for values in (part, np.ones_like(part))
    )
    share = inside / room
    blocks = share >= min(0.5, float(share.max()))
    for axis, step in enumerate(steps):
        blocks = np.repeat(blocks, step, axis=axis)
    mask = np.zeros(gt.shape, np.bool_)
    mask[window] = blocks[tuple(slice(n) for n in part.shape)]
    return mask


FOREIGN: dict[str, Maker] = {
    "region-growing": _grown,
    "threshold": _thresholded,
    "low-resolution": _coarse,
}


def otsu(image: NDArray[np.uint8]) -> int:
    """The grey value that best parts an image in two: those up to it, those above.

    Source: Otsu 1979, doi:10.1109/TSMC.1979.4310076.
    """
    counts = np.bincount(image.ravel(), minlength=GREYS).astype(np.float64)
    below, total = counts.cumsum(), counts.sum()
    weighted = (counts * np.arange(GREYS)).cumsum()
    between = np.zeros(GREYS)
    both = (below > 0) & (below < total)
    mean_gap = weighted[both] / below[both] - (weighted[-1] - weighted[both]) / (
        total - below[both]
    )
    between[both] = below[both] * (total - below[both]) * mean_gap**2
    return int(between.argmax())
