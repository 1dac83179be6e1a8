"""How far a probability can be believed: counts by bin, calibration error, one temperature.

Source: Guo et al. 2017, arXiv:1706.04599 (expected calibration error, temperature scaling).
"""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from segvol_gru.simulate import BoolArray, Slices, bounds_of

BINS = 15
NEAR_VOX = 5  # from a boundary; farther away everything is certain and would flatter the error
EXTREME = 10.0  # logits beyond are counted as this
LOGIT_BINS = 200  # each 0.1 wide
CENTRES = (np.arange(LOGIT_BINS) + 0.5) * (2 * EXTREME / LOGIT_BINS) - EXTREME
LOG_T = 3.0  # a temperature is looked for between exp(-3) and exp(3)

FloatArray = NDArray[np.float64]


def near_boundaries(gt: BoolArray, pred: BoolArray) -> tuple[Slices, BoolArray] | None:
    """Voxels from which the other side of the true or the predicted boundary is near.

    Args:
        gt: (D, H, W) bool.
        pred: (D, H, W) bool.

    Returns:
        A window of the volume and, (d, h, w) bool, its voxels whose nearest voxel of the other
        side of one of the masks has its centre within 5 voxels; None if both masks are empty.
    """
    bounds = bounds_of(gt | pred)
    if bounds is None:
        return None
    z, y, x = (
        slice(max(0, part.start - NEAR_VOX), min(n, part.stop + NEAR_VOX))
        for part, n in zip(bounds, gt.shape, strict=True)
    )
    window = (z, y, x)
    return window, _near(gt[window], NEAR_VOX) | _near(pred[window], NEAR_VOX)


def edge(mask: BoolArray) -> NDArray[np.intp]:
    """(N, 3) voxels on both sides of a (D, H, W) mask's boundary, in C order; none if empty."""
    bounds = bounds_of(mask)
    if bounds is None:
        return np.empty((0, 3), dtype=np.intp)
    starts = [max(0, part.start - 1) for part in bounds]
    window = tuple(slice(a, part.stop + 1) for a, part in zip(starts, bounds, strict=True))
    places: NDArray[np.intp] = np.argwhere(_near(mask[window], 1)) + np.array(starts)
    return places


def _near(mask: BoolArray, reach_vox: float) -> BoolArray:
    """Voxels with one of the other side within reach; what lies outside the array is no side."""
    inside = np.ascontiguousarray(mask).view(np.uint8)
    distance = np.where(
        mask, edt.edt(inside, black_border=False), edt.edt(1 - inside, black_border=False)
    )
    near: BoolArray = distance <= reach_vox
    return near


def by_probability(p_prob: NDArray[np.float32], truth: BoolArray) -> FloatArray:
    """Sort (N,) voxels into equal bins of the probability.

    Returns:
        (3, 15): per bin how many, the sum of their probabilities, how many belong to the truth.
    """
    place = np.minimum((p_prob * BINS).astype(np.intp), BINS - 1)
    weights = (None, p_prob, truth)
    return np.stack([np.bincount(place, w, minlength=BINS).astype(float) for w in weights])


def by_logit(p_prob: NDArray[np.float32], truth: BoolArray) -> FloatArray:
    """Sort (N,) voxels into fine bins of the logit: (2, 200), how many, and how many are true."""
    p = p_prob.astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(p) - np.log1p(-p)
    place = ((logits.clip(-EXTREME, EXTREME) + EXTREME) * (LOGIT_BINS / (2 * EXTREME))).astype(int)
    place = np.minimum(place, LOGIT_BINS - 1)
    return np.stack(
        [np.bincount(place, w, minlength=LOGIT_BINS).astype(float) for w in (None, truth)]
    )


def calibration_error(bins: FloatArray) -> float:
    """Expected calibration error of (3, 15) bins; NaN of empty ones."""
    count, said, true = bins
    return float(np.abs(said - true).sum() / count.sum()) if count.sum() else float("nan")


def tempered(logits: FloatArray, temperature: float) -> FloatArray:
    """The (3, 15) bins after logits, as (2, 200) of `by_logit`, are divided by a temperature."""
    count, true = logits
    p_prob = 1 / (1 + np.exp(-CENTRES / temperature))
    place = np.minimum((p_prob * BINS).astype(np.intp), BINS - 1)
    weights = (count, count * p_prob, true)
    return np.stack([np.bincount(place, w, minlength=BINS) for w in weights])


def best_temperature(sets: Sequence[FloatArray]) -> float:
    """What logits are best divided by: least log loss per voxel, mean over data sets.

    Args:
        sets: of each data set its (2, 200) of `by_logit`, not empty.
    """

    def loss(log_t: float) -> float:
        z = CENTRES / np.exp(log_t)
        losses = [(count @ np.logaddexp(0, z) - true @ z) / count.sum() for count, true in sets]
        return float(np.mean(losses))

    return float(np.exp(minimize_scalar(loss, bounds=(-LOG_T, LOG_T), method="bounded").x))
