"""What a user says: boxes and clicks, in voxel indices of the (D, H, W) array.

No torch here: these values travel over the wire and into session files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segvol_gru.errors import InputError

Index = tuple[int, int, int]


def check_index(point: Sequence[float], shape: Index, name: str) -> Index:
    """Round a point to a voxel index and demand that it lies in the volume.

    Args:
        point: three numbers (z, y, x), voxel indices of a (D, H, W) array.
        shape: (D, H, W) of that array.
        name: what to call the argument in the error.

    Returns:
        The rounded index (z, y, x).

    Raises:
        InputError: the point is not three finite numbers inside the volume.
    """
    values = tuple(point)
    if len(values) != 3 or not all(math.isfinite(v) for v in values):
        raise InputError(f"{name} is {values!r}, wanted three finite voxel indices (z, y, x).")
    z, y, x = (round(v) for v in values)
    if not all(0 <= v < n for v, n in zip((z, y, x), shape, strict=True)):
        raise InputError(
            f"{name} is {(z, y, x)}, outside the volume of shape {shape}; "
            "give voxel indices in the order (z, y, x), each from 0 to size - 1."
        )
    return z, y, x


@dataclass(frozen=True, slots=True)
class Click:
    """One corrective click.

    Attributes:
        at: voxel index (z, y, x) in the (D, H, W) array.
        positive: True where the structure should be added, False where removed.
    """

    at: Index
    positive: bool


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box, both corners inclusive.

    Attributes:
        lo: smallest voxel index (z, y, x).
        hi: largest voxel index (z, y, x), inclusive.
        tight: per axis, True where the box is meant to touch the object, False where the
            extent was guessed (a 2-D box lifted to 3-D, or the in-plane sides of a
            competition box, which are tight in one slice only).
    """

    lo: Index
    hi: Index
    tight: tuple[bool, bool, bool] = (True, True, True)

    def __post_init__(self) -> None:
        if any(a > b for a, b in zip(self.lo, self.hi, strict=True)):
            raise InputError(
                f"box has lo {self.lo} beyond hi {self.hi}; give the smaller corner first."
            )

    @property
    def size(self) -> Index:
        """Extent in voxels (D, H, W)."""
        return tuple(b - a + 1 for a, b in zip(self.lo, self.hi, strict=True))  # type: ignore[return-value]

    @classmethod
    def checked(cls, lo: Sequence[float], hi: Sequence[float], shape: Index) -> Box:
        """Build a box from user input, ordering nothing and guessing nothing.

        Raises:
            InputError: a corner is outside the volume or the corners are swapped.
        """
        return cls(check_index(lo, shape, "lo"), check_index(hi, shape, "hi"))

    @classmethod
    def from_challenge(cls, box: Mapping[str, Any], shape: Index) -> Box:
        """Read a competition box: z range and the rectangle on its middle slice.

        Source: challenge-protocol section 1.1 (closed intervals).
        """
        lo = (box["z_min"], box["z_mid_y_min"], box["z_mid_x_min"])
        hi = (box["z_max"], box["z_mid_y_max"], box["z_mid_x_max"])
        return cls(
            check_index(lo, shape, "box"), check_index(hi, shape, "box"), (True, False, False)
        )

    @classmethod
    def lifted(
        cls, lo: Sequence[float], hi: Sequence[float], shape: Index, spacing_mm: Sequence[float]
    ) -> Box:
        """Lift a 2-D box (one axis of extent 1) to 3-D.

        The unknown extent is guessed as the geometric mean of the drawn sides in millimetres,
        centred on the drawn slice and clipped to the volume. A line in a volume of one slice has
        one drawn side.

        Args:
            lo: smaller corner (z, y, x).
            hi: larger corner, inclusive; equal to `lo` on exactly one axis, those of which the
                volume has one voxel only not counted.
            shape: (D, H, W) of the volume.
            spacing_mm: voxel size along (D, H, W) in mm.

        Raises:
            InputError: a corner is outside the volume, or the box is no 2-D box.
        """
        flat = cls.checked(lo, hi, shape)
        thin = [a for a in range(3) if flat.size[a] == 1]
        axes = [a for a in thin if shape[a] > 1] or thin
        sides = [n * float(mm) for n, mm in zip(flat.size, spacing_mm, strict=True) if n > 1]
        if len(axes) != 1 or not sides:
            raise InputError(
                f"2-D box {flat.lo}..{flat.hi} is flat along {len(thin)} axes in a volume of shape "
                f"{shape}, wanted exactly one; draw it on a slice."
            )
        axis = axes[0]
        half = math.sqrt(sides[0] * sides[-1]) / float(spacing_mm[axis]) / 2
        lo3, hi3, tight = list(flat.lo), list(flat.hi), [False, False, False]
        lo3[axis] = max(0, round(flat.lo[axis] - half))
        hi3[axis] = min(shape[axis] - 1, round(flat.hi[axis] + half))
        return cls(
            (lo3[0], lo3[1], lo3[2]), (hi3[0], hi3[1], hi3[2]), (tight[0], tight[1], tight[2])
        )
