"""An image as a user hands it over: voxels, their grid, what kind of image it is.

    volume = Volume(array, spacing=(sz, sy, sx))      # (D, H, W) voxels, mm
    volume = read_volume("scan.nii.gz")               # segvol_gru.data.io

How array axes relate to a file's axes and to RAS mm is said in `segvol_gru.grid`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader, Grid, affine_from_ijk
from segvol_gru.prompts import Index

Modality = Literal["CT", "MR", "PET", "US", "Microscopy"]
LARGEST = 1e30  # intensities beyond are padding, and overflow float32 where networks look


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Volume:
    """An image on a grid. Treat the array as read-only: a session keeps no copy.

    Attributes:
        array: (D, H, W), bool, integer or float of 16 to 64 bits, within +-`LARGEST` everywhere.
        grid: where the voxels lie.
        modality: 'CT', 'MR', 'PET', 'US', 'Microscopy' or None for unknown.
    """

    array: NDArray[Any]
    grid: Grid
    modality: Modality | None

    def __init__(
        self,
        array: ArrayLike,
        spacing: Sequence[float] | None = None,
        *,
        affine: ArrayLike | None = None,
        modality: str | None = None,
        header: FileHeader | None = None,
    ) -> None:
        """Check an array and place it.

        Args:
            array: (D, H, W) real numbers, not copied if it can be helped. Values that are not
                finite or beyond +-`LARGEST` are replaced in a copy: NaN and those below by the
                smallest value within, those above by the largest.
            spacing: voxel size in mm along (D, H, W). Alone it puts voxel (0, 0, 0) at the
                origin with w to the right, h to the front and d to the head.
            affine: (4, 4) voxel index (z, y, x) -> RAS mm; `spacing`, if given too, must agree.
            modality: what kind of image it is; None where unknown.
            header: the file's header, from a reader.

        Raises:
            InputError: any of these is not usable.
        """
        values = _checked_array(array)
        if modality is not None and modality not in get_args(Modality):
            raise InputError(
                f"modality is {modality!r}, wanted one of {get_args(Modality)} or None."
            )
        place = _checked_affine(spacing, affine)
        d, h, w = values.shape
        object.__setattr__(self, "array", values)
        object.__setattr__(self, "grid", Grid((d, h, w), place, header))
        object.__setattr__(self, "modality", modality)

    def __repr__(self) -> str:
        """Say what it is without printing voxels."""
        return (
            f"Volume(shape={self.shape}, dtype={self.array.dtype}, spacing_mm={self.spacing_mm}, "
            f"modality={self.modality!r})"
        )

    @property
    def shape(self) -> Index:
        """(D, H, W)."""
        return self.grid.shape

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (D, H, W) in mm."""
        return self.grid.spacing_mm

    @property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) float64, (z, y, x, 1) -> RAS mm, read-only."""
        return self.grid.affine

    def to_world(self, points_vox: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) voxel indices (z, y, x) -> (..., 3) float64 RAS mm."""
        return self.grid.to_world(points_vox)

    def to_voxel(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) RAS mm -> (..., 3) float64 voxel indices (z, y, x), not rounded or clipped."""
        return self.grid.to_voxel(points_mm)


def _checked_array(array: ArrayLike) -> NDArray[Any]:
    try:
        values = np.asarray(array)
    except ValueError as error:
        raise InputError(f"array is ragged ({error}), wanted (D, H, W) numbers.") from None
    if values.ndim != 3 or values.size == 0:
        raise InputError(
            f"array has shape {values.shape}, wanted three axes (D, H, W) of at least one voxel; "
            "of a colour or time series image give one channel or frame."
        )
    if values.dtype.kind not in "biuf":
        raise InputError(f"array holds {values.dtype}, wanted real numbers: convert it first.")
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if not values.dtype.isnative:  # torch takes native byte order only
        values = values.astype(values.dtype.newbyteorder("="))
    return _within(values) if values.dtype.kind == "f" else values


def _within(values: NDArray[Any]) -> NDArray[Any]:
    """Floats of which none is NaN or beyond `LARGEST`; the same array if none was."""
    most = values.dtype.type(min(LARGEST, float(np.finfo(values.dtype).max)))
    # One pass each: NaN and what lies beyond always show in the minimum or the maximum.
    if -most <= values.min() and values.max() <= most:
        return values
    usable = values[(values >= -most) & (values <= most)]
    if usable.size == 0:
        raise InputError(
            f"array has no finite voxel within +-{LARGEST:g}, wanted an image: read the file again."
        )
    lo, hi = usable.min(), usable.max()
    within: NDArray[Any] = np.nan_to_num(np.clip(values, lo, hi), copy=False, nan=lo)
    return within


def _checked_affine(
    spacing: Sequence[float] | None, affine: ArrayLike | None
) -> NDArray[np.float64]:
    if spacing is None:
        if affine is None:
            raise InputError("neither spacing nor affine came; give spacing=(sz, sy, sx) in mm.")
        return _numbers(affine)
    try:
        sizes = tuple(float(s) for s in spacing)
    except (TypeError, ValueError, OverflowError):
        sizes = ()
    if len(sizes) != 3 or not all(math.isfinite(s) and s > 0 for s in sizes):
        raise InputError(
            f"spacing is {spacing!r}, wanted three positive sizes in mm, (sz, sy, sx)."
        )
    if affine is None:
        return affine_from_ijk(np.diag((*sizes[::-1], 1.0)))
    placed = _numbers(affine)
    if placed.shape == (4, 4) and not np.allclose(
        np.linalg.norm(placed[:3, :3], axis=0), sizes, rtol=1e-3
    ):
        raise InputError(
            f"spacing {sizes} and affine {placed.tolist()} disagree; give one of them."
        )
    return placed


def _numbers(affine: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(affine, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"affine is {affine!r}, wanted a 4x4 matrix of numbers.") from None
