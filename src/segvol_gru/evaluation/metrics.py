"""Overlap and surface agreement of two masks, and the area under a curve of clicks.

Source: challenge-protocol section 5; surface Dice of Nikolov et al., arXiv:1809.04430.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segvol_gru.errors import InputError
from segvol_gru.evaluation.surface import Spacing, Surface
from segvol_gru.evaluation.surfels import surfel_areas
from segvol_gru.simulate import BoolArray, bounds_of, check_pair

TOLERANCE_MM = 2.0
CLICKS = 5


def dice(gt: BoolArray, pred: BoolArray) -> float:
    """Twice the overlap over the sum of sizes.

    Args:
        gt: (D, H, W) bool.
        pred: (D, H, W) bool.

    Returns:
        0..1; NaN if both masks are empty.

    Raises:
        InputError: the arrays are not boolean, not 3-D or differ in shape.
    """
    check_pair(gt, pred)
    total = int(np.count_nonzero(gt)) + int(np.count_nonzero(pred))
    return 2 * int(np.count_nonzero(gt & pred)) / total if total else float("nan")


def nsd(
    gt: BoolArray,
    pred: BoolArray,
    spacing: Sequence[float],
    tolerance_mm: float = TOLERANCE_MM,
) -> float:
    """Share of both surfaces that lies within the tolerance of the other one.

    Args:
        gt: (D, H, W) bool.
        pred: (D, H, W) bool.
        spacing: voxel size in mm along axes (0, 1, 2) of the arrays, applied as given.
        tolerance_mm: largest accepted distance, inclusive.

    Returns:
        0..1; 0 if one mask is empty, NaN if both are.

    Raises:
        InputError: the arrays do not match, or a spacing or the tolerance is not usable.
    """
    check_pair(gt, pred)
    spacing_mm = _checked_spacing(spacing)
    if not 0 <= tolerance_mm < float("inf"):
        raise InputError(f"tolerance_mm is {tolerance_mm}, wanted a finite length of 0 or more.")
    bounds = bounds_of(gt | pred)
    if bounds is None:
        return float("nan")
    one, other = Surface.of(gt[bounds]), Surface.of(pred[bounds])
    if not (len(one.corners) and len(other.corners)):
        return 0.0
    areas = surfel_areas(spacing_mm)
    near = areas @ one.near(other, spacing_mm, tolerance_mm)
    near += areas @ other.near(one, spacing_mm, tolerance_mm)
    return float(near / (areas @ (one.counts() + other.counts())))


def auc(values: Sequence[float]) -> float:
    """Area under the five click values at abscissae 0..4, by trapezoids; at most 4.

    Raises:
        InputError: there are not five values (the value after the box does not belong here).
    """
    if len(values) != CLICKS:
        raise InputError(
            f"values has {len(values)} entries, wanted the {CLICKS} after each click; "
            "leave the value after the box out."
        )
    first, *middle, last = (float(v) for v in values)
    return first / 2 + sum(middle) + last / 2


def _checked_spacing(spacing: Sequence[float]) -> Spacing:
    values = tuple(float(s) for s in spacing)
    if len(values) != 3 or not all(0 < s < float("inf") for s in values):
        raise InputError(f"spacing is {values}, wanted three positive lengths in mm (D, H, W).")
    return values
