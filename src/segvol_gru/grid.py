"""Where voxels lie in the patient: the one place that knows file order, LPS and RAS.

Array axes are (D, H, W) = (z, y, x) everywhere. They are the axes of the file in reverse, never
reoriented and never resampled:

    NIfTI            (i, j, k) in the file  ->  array[k, j, i]
    NRRD, MHA, DICOM (x, y, z) in ITK       ->  array[z, y, x]
    competition npz  stored as (z, y, x)    ->  array[z, y, x]

So a point is either three voxel indices (z, y, x) of that array, whole numbers at voxel centres,
or three millimetres in RAS (x to the right, y to the front, z to the head of the patient).
"""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.errors import InputError
from segvol_gru.prompts import Index

SAME_GRID_VOX = 0.1
"""Grids count as one if no corner is further off: above what headers lose to rounding
(1e-4 voxels), well below the half voxel at which a point names another voxel."""


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file said of its geometry, word for word, so that a mask can say the same.

    Attributes:
        kind: 'nifti', 'nrrd' or 'itk': which module of `segvol_gru.data` reads `raw`.
        raw: bytes in that module's own form.
    """

    kind: str
    raw: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Where the voxels of an array lie.

    Attributes:
        shape: (D, H, W).
        affine: (4, 4) float64, homogeneous voxel index (z, y, x, 1) -> RAS mm.
        header: the file's own words, None for an array from memory.
    """

    shape: Index
    affine: NDArray[np.float64]
    header: FileHeader | None = None

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError(
                f"affine has shape {affine.shape} or values that are not finite, "
                "wanted a finite 4x4 matrix from (z, y, x) voxel indices to RAS mm."
            )
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        volume = abs(np.linalg.det(affine[:3, :3]))
        if not np.array_equal(affine[3], (0, 0, 0, 1)) or volume <= 1e-6 * sizes.prod():
            raise InputError(
                f"affine {affine.tolist()} cannot be inverted; wanted three independent voxel "
                "directions and the last row (0, 0, 0, 1): repair the header or give a spacing."
            )
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (D, H, W) in mm."""
        d, h, w = (math.hypot(*self.affine[:3, axis].tolist()) for axis in range(3))
        return d, h, w

    def to_world(self, points_vox: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) voxel indices (z, y, x) -> (..., 3) float64 RAS mm."""
        return _triples(points_vox) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_voxel(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """(..., 3) RAS mm -> (..., 3) float64 voxel indices (z, y, x), not rounded or clipped."""
        offset = _triples(points_mm) - self.affine[:3, 3]
        solved = np.linalg.solve(self.affine[:3, :3], offset[..., None])
        return np.asarray(solved[..., 0], dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; `from_json` gives every bit back."""
        header = self.header and {
            "kind": self.header.kind,
            "raw": base64.b64encode(self.header.raw).decode("ascii"),
        }
        return {"shape": list(self.shape), "affine": self.affine.tolist(), "header": header}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Grid:
        """Read what `to_json` gave.

        Raises:
            InputError: the record is not such a description.
        """
        try:
            d, h, w = (int(n) for n in record["shape"])
            header = record["header"] and FileHeader(
                str(record["header"]["kind"]), base64.b64decode(record["header"]["raw"])
            )
            return cls((d, h, w), np.array(record["affine"], dtype=np.float64), header)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"grid record is damaged ({error}); save the session again.") from None


def grid_offset_vox(a: Grid, b: Grid) -> float:
    """How far apart the corners of two grids of one shape lie, in voxels of `b` (the worst)."""
    corners = np.array(list(itertools.product(*((0, n - 1) for n in a.shape))), dtype=np.float64)
    return float(np.abs(b.to_voxel(a.to_world(corners)) - corners).max())


def same_grid(a: Grid, b: Grid) -> bool:
    """Whether two grids agree: one shape, no corner more than a tenth of a voxel off."""
    return a.shape == b.shape and grid_offset_vox(a, b) <= SAME_GRID_VOX


def require_same_grid(got: Grid, wanted: Grid, name: str) -> None:
    """Refuse two grids that disagree.

    Args:
        got: the grid that came, called `name` in the error.
        wanted: the image's grid.
        name: what the user knows it by, such as a path.

    Raises:
        InputError: shapes differ or a corner is more than a tenth of a voxel off.
    """
    if got.shape != wanted.shape:
        raise InputError(
            f"{name} has shape {got.shape}, the image {wanted.shape} (D, H, W); "
            "give a mask drawn on this very image."
        )
    offset = grid_offset_vox(got, wanted)
    if offset > SAME_GRID_VOX:
        raise InputError(
            f"{name} has the image's shape but lies up to {offset:.3g} voxels away from it; "
            "give a mask drawn on this very image or mend the geometry in its header."
        )


def affine_from_ijk(affine_ijk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn an affine of file order (i, j, k) into one of (k, j, i), or back: it is one swap."""
    return np.asarray(affine_ijk, dtype=np.float64)[:, [2, 1, 0, 3]]


def affine_from_itk(
    direction: Sequence[float], spacing: Sequence[float], origin: Sequence[float]
) -> NDArray[np.float64]:
    """ITK geometry -> affine of (z, y, x) in RAS mm.

    Args:
        direction: 9 numbers, row by row, LPS.
        spacing: 3 numbers (x, y, z) in mm.
        origin: 3 numbers, LPS mm.
    """
    affine = np.eye(4)
    affine[:3, :3] = np.array(direction).reshape(3, 3) * np.array(spacing)
    affine[:3, 3] = origin
    affine[:2] *= -1  # LPS and RAS differ in the sign of the first two axes
    return affine_from_ijk(affine)


def itk_from_affine(
    affine: NDArray[np.float64],
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Inverse of `affine_from_itk`: (direction, spacing, origin)."""
    lps = affine_from_ijk(affine)
    lps[:2] *= -1
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    return tuple(direction.ravel().tolist()), tuple(spacing.tolist()), tuple(lps[:3, 3].tolist())


def _triples(points: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(points, dtype=np.float64)
    if array.shape[-1:] != (3,):
        raise InputError(f"points have shape {array.shape}, wanted (..., 3): three numbers each.")
    return array
