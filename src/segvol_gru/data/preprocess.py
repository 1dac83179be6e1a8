"""Intensities before the network: windows to 0..255, and SegVol's foreground normalisation.

A window is two numbers, found once per volume (0.2 s for 52 million voxels) and applied to
crops, so that no full-size float copy of the image ever exists.

Source: the paper, section 3.2; windows and percentiles as in MedSAM's preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.data.intensity import Histogram, ct_window_name, is_hounsfield, is_shifted_ct
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Index
from segvol_gru.volume import LARGEST, Volume

PERCENTILES = (0.005, 0.995)  # paper, section 3.2
FOREGROUND_PERCENTILES = (0.05, 99.95)  # SegVol ForegroundNorm
GREY_MIN = 100.0
"""Other types than uint8 count as 0..255 already if their maximum is between this and 255."""


@dataclass(frozen=True, slots=True)
class Window:
    """A linear map of intensities to 0..255, clipped at both ends.

    Attributes:
        lo: the intensity that becomes 0.
        hi: the intensity that becomes 255.
        name: how it was found: 'soft-tissue', 'lung', 'brain', 'bone', 'percentile', 'none' or
            'given'.
    """

    lo: float
    hi: float
    name: str = "given"

    def __post_init__(self) -> None:
        if not -LARGEST <= self.lo < self.hi <= LARGEST:
            raise InputError(
                f"window runs from {self.lo} to {self.hi}, wanted two intensities within "
                f"+-{LARGEST:g}, the smaller first."
            )
        object.__setattr__(self, "lo", float(self.lo))  # of any type of number
        object.__setattr__(self, "hi", float(self.hi))

    def apply(self, array: ArrayLike) -> NDArray[np.float32]:
        """Map intensities of any shape and real type to float32 0..255, in a new array."""
        grey = np.array(array, dtype=np.float32)
        grey -= self.lo
        grey *= 255.0 / (self.hi - self.lo)
        return np.clip(grey, 0.0, 255.0, out=grey)


AS_IT_IS = Window(0.0, 255.0, "none")
CT_WINDOWS = {  # width and level: soft tissue 400/40, lung 1500/-160, brain 80/40, bone 1800/400
    "soft-tissue": Window(-160.0, 240.0, "soft-tissue"),
    "lung": Window(-910.0, 590.0, "lung"),
    "brain": Window(0.0, 80.0, "brain"),
    "bone": Window(-500.0, 1300.0, "bone"),
}


def window_for(
    volume: Volume,
    window: str | tuple[float, float] | Window = "auto",
    box: Box | None = None,
) -> Window:
    """Find the window of a volume.

    Args:
        volume: the image.
        window: 'soft-tissue', 'lung', 'brain' or 'bone' for CT in Hounsfield units; 'percentile';
            'none' for an image that is 0..255 already; two intensities (lo, hi); or 'auto':
            uint8, and other types that reach from 0 or more to 100..255, are left as they are;
            raw CT (modality 'CT', or values that look like Hounsfield units while the modality
            is unknown, see `is_hounsfield`) gets the window that suits the box, see
            `ct_window_name`; everything else the percentiles.
        box: the first box; only 'auto' on raw CT looks at it.

    Returns:
        The window. 'percentile' means 0.5 and 99.5 %, of the voxels above 0 where 0 is the
        minimum (air or a blanked background would drag them down). A constant image becomes 0.

    Raises:
        InputError: an unknown name, a window that no voxel falls into, a box outside the
            volume, or a CT stored with an offset.
    """
    if isinstance(window, Window) or not isinstance(window, str) or window in CT_WINDOWS:
        return _given(volume, window)
    if window == "none":
        return AS_IT_IS
    if window == "percentile":
        return _percentile(Histogram.of(volume.array))
    if window != "auto":
        names = ", ".join(("auto", *CT_WINDOWS, "percentile", "none"))
        raise InputError(f"window is {window!r}, wanted one of {names} or a pair (lo, hi).")
    if box is not None:
        Box.checked(box.lo, box.hi, volume.shape)
    if volume.array.dtype == np.uint8:
        return AS_IT_IS
    histogram = Histogram.of(volume.array)
    if histogram.lo >= 0 and GREY_MIN <= histogram.hi <= 255:
        return AS_IT_IS
    if volume.modality == "CT" and is_shifted_ct(histogram):
        raise InputError(
            f"CT runs from {histogram.lo:g} to {histogram.hi:g} with water near 1024, wanted "
            "Hounsfield units: subtract 1024 or give a window as (lo, hi)."
        )
    if volume.modality == "CT" or (volume.modality is None and is_hounsfield(histogram)):
        return ct_window(volume, box)
    return _percentile(histogram)


def ct_window(volume: Volume, box: Box | None) -> Window:
    """The window of a CT in Hounsfield units that suits what lies in a box.

    Args:
        volume: the CT.
        box: the first box, inside the volume; None if there is none.
    """
    return CT_WINDOWS[ct_window_name(volume.array, volume.spacing_mm, box)]


def window_of_pair(window: object) -> Window:
    """Two intensities as a window.

    Args:
        window: (lo, hi).

    Raises:
        InputError: it is no such pair.
    """
    if isinstance(window, tuple | list) and [isinstance(w, int | float) for w in window] == [1, 1]:
        return Window(float(window[0]), float(window[1]))
    raise InputError(f"window is {window!r}, wanted a name or a pair of numbers (lo, hi).")


def _given(volume: Volume, window: str | tuple[float, float] | Window) -> Window:
    if isinstance(window, str):
        chosen = CT_WINDOWS[window]
    elif isinstance(window, Window):
        chosen = window
    else:
        chosen = window_of_pair(window)
    lo, hi = float(volume.array.min()), float(volume.array.max())
    if lo < hi and (hi <= chosen.lo or lo >= chosen.hi):
        raise InputError(
            f"window {chosen.name} shows {chosen.lo:g} to {chosen.hi:g}, but the image runs from "
            f"{lo:g} to {hi:g} and would become one grey: use 'auto' or another window."
        )
    return chosen


def _percentile(histogram: Histogram) -> Window:
    seen = histogram.positive() if histogram.lo == 0 else histogram
    lo, hi = (seen.quantile(q) for q in PERCENTILES)
    if lo == hi:  # nearly all voxels alike, as in a sparse stain
        lo, hi = histogram.lo, histogram.hi
    return Window(lo, hi if lo < hi else lo + max(1.0, abs(lo)), "percentile")


def foreground_norm(array: NDArray[Any]) -> NDArray[np.float32]:
    """SegVol's ForegroundNorm: clip to the foreground's tails, then standardise by it.

    Foreground is what lies above the mean. Args: array, (D, H, W) of real numbers, not empty.

    Returns:
        (D, H, W) float32; zeros for a constant volume, which has no foreground.

    Source: SegVol, data preprocessing; statistics of the foreground before clipping.
    """
    values = np.array(array, dtype=np.float32)
    if values.min() == values.max():
        return np.zeros_like(values)
    foreground = values[values > float(values.mean(dtype=np.float64))]
    lo, hi = np.percentile(foreground, FOREGROUND_PERCENTILES)
    mean, deviation = foreground.mean(dtype=np.float64), foreground.std(dtype=np.float64)
    np.clip(values, float(lo), float(hi), out=values)
    values -= float(mean)
    values /= max(float(deviation), 1e-8)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class ForegroundCrop:
    """The part of a volume that SegVol looks at, and the way back.

    Attributes:
        image: float32 in [0, 1], of shape `end - start`.
        start: first voxel (z, y, x) of the crop in the volume.
        end: one past the last voxel.
        shape: (D, H, W) of the volume.
    """

    image: NDArray[np.float32]
    start: Index
    end: Index
    shape: Index

    def paste(self, values: NDArray[Any], outside: float) -> NDArray[Any]:
        """Put an array of the crop's shape back into the volume's, `outside` everywhere else."""
        whole = np.full(self.shape, outside, dtype=values.dtype)
        whole[tuple(slice(a, b) for a, b in zip(self.start, self.end, strict=True))] = values
        return whole


def foreground_crop(array: NDArray[Any]) -> ForegroundCrop:
    """ForegroundNorm, scaled to [0, 1], cut to the bounding box of the values above 0.

    A constant volume is not cut.
    """
    values = foreground_norm(array)
    values -= values.min()
    values /= max(float(values.max()), 1e-8)
    start, end = [], []
    for axis, n in enumerate(values.shape):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero((values > 0).any(axis=others))
        start.append(int(at[0]) if at.size else 0)
        end.append(int(at[-1]) + 1 if at.size else n)
    crop = values[start[0] : end[0], start[1] : end[1], start[2] : end[2]].copy()
    d, h, w = values.shape
    return ForegroundCrop(crop, (start[0], start[1], start[2]), (end[0], end[1], end[2]), (d, h, w))
