"""Where the networks look: a box of voxels, cut into cells, and fields of logits on them.

A `Region` is an integer box of voxels that may reach beyond the volume. A grid of cells tiles
it evenly, so the maps volume -> cells and cells -> volume are linear interpolation with
half-voxel centres along each axis.

    volume voxels   |0|1|2|3|4|5|6|7|8|9|
    region lo=2 size=6  |2|3|4|5|6|7|
    3 cells             |   |   |   |     cell c covers voxels lo + [c, c + 1) * size / 3
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from segvol_gru.prompts import Index

ROOM_VOX = 3  # voxels of context on every side of a box, at least
FLATTEST = 0.4  # shortest side of a region over its longest, in mm, unless the volume ends


@dataclass(frozen=True, slots=True)
class Region:
    """A box of voxels.

    Attributes:
        lo: first voxel (z, y, x); may be negative.
        size: number of voxels along (D, H, W), at least 1; may reach past the volume's end.
    """

    lo: Index
    size: Index

    @property
    def hi(self) -> Index:
        """One past the last voxel (z, y, x)."""
        return tuple(a + n for a, n in zip(self.lo, self.size, strict=True))  # type: ignore[return-value]

    def inside(self, shape: Index) -> Region:
        """The part that lies in a volume of this shape (possibly of size 0)."""
        lo = tuple(min(max(a, 0), n) for a, n in zip(self.lo, shape, strict=True))
        hi = tuple(min(max(b, 0), n) for b, n in zip(self.hi, shape, strict=True))
        return Region(lo, tuple(b - a for a, b in zip(lo, hi, strict=True)))  # type: ignore[arg-type]

    @classmethod
    def around(
        cls, lo: Index, hi: Index, slack: Sequence[float], shape: Index, spacing_mm: Sequence[float]
    ) -> Region:
        """Frame a box of voxels: room on every side, not too flat in mm, within the volume.

        Args:
            lo: first voxel (z, y, x) of the box.
            hi: last voxel, inclusive.
            slack: size of the region over size of the box, per axis.
            shape: (D, H, W) of the volume; the region is clipped to it.
            spacing_mm: voxel size along (D, H, W).
        """
        length = [b - a + 1 for a, b in zip(lo, hi, strict=True)]
        size = [max(s * n, n + 2 * ROOM_VOX) for s, n in zip(slack, length, strict=True)]
        widest_mm = max(n * mm for n, mm in zip(size, spacing_mm, strict=True))
        size = [max(n, FLATTEST * widest_mm / mm) for n, mm in zip(size, spacing_mm, strict=True)]
        whole = [int(np.ceil(n)) for n in size]
        first = [(a + b + 1 - n) // 2 for a, b, n in zip(lo, hi, whole, strict=True)]
        region = cls((first[0], first[1], first[2]), (whole[0], whole[1], whole[2]))
        return region.inside(shape)

    def union(self, other: Region) -> Region:
        """Smallest region that holds both."""
        lo = tuple(map(min, self.lo, other.lo))
        hi = tuple(map(max, self.hi, other.hi))
        return Region(lo, tuple(b - a for a, b in zip(lo, hi, strict=True)))  # type: ignore[arg-type]

    def slices(self, origin: Index = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Index this region in an array whose first voxel is `origin`; the region must fit."""
        z, y, x = (
            slice(a - o, a - o + n) for a, n, o in zip(self.lo, self.size, origin, strict=True)
        )
        return z, y, x

    def to_cells(self, points_vox: Tensor, cells: Index) -> Tensor:
        """Voxel indices -> cell coordinates, in which cell c has its centre at c.

        Args:
            points_vox: (..., 3) float, (z, y, x) voxel indices (centres are whole numbers).
            cells: cells along (D, H, W).

        Returns:
            (..., 3) float32 cell coordinates.
        """
        lo = points_vox.new_tensor(self.lo)
        scale = points_vox.new_tensor([c / n for c, n in zip(cells, self.size, strict=True)])
        return (points_vox + 0.5 - lo) * scale - 0.5


@dataclass(frozen=True, slots=True)
class Field:
    """Logits (or a residual of logits) on the cells of a region.

    Attributes:
        region: the voxels it covers.
        logits: (d, h, w) float, one value per cell; any number of cells.
    """

    region: Region
    logits: Tensor

    def render(self, window: Region) -> Tensor:
        """Logits at every voxel of `window`, which must lie inside the region.

        Returns:
            float32 of shape `window.size`.
        """
        batch = self.logits.float()[None, None]
        if batch.shape[2:] != self.region.size:
            batch = F.interpolate(
                batch, size=self.region.size, mode="trilinear", align_corners=False
            )
        return batch[0, 0][window.slices(self.region.lo)].contiguous()


def sample(array: np.ndarray | Tensor, region: Region, cells: Index, outside: float) -> Tensor:
    """Read a volume on the cells of a region: mean over a cell, or interpolation between voxels.

    Args:
        array: (D, H, W) of any numeric type.
        region: where to look; parts beyond the volume read `outside`.
        cells: cells along (D, H, W).
        outside: the value beyond the volume.

    Returns:
        float32 of shape `cells`. Along an axis with more voxels than cells it is the mean over
        the cell, otherwise linear interpolation.
    """
    depth, height, width = array.shape
    shape = (depth, height, width)
    inner = region.inside(shape)
    part = array[inner.slices()]
    crop = torch.as_tensor(np.ascontiguousarray(part) if isinstance(part, np.ndarray) else part)
    if 0 in inner.size:
        return torch.full(cells, outside)
    crop = crop.float()
    pad: list[int] = []
    for axis in (2, 1, 0):
        pad += [inner.lo[axis] - region.lo[axis], region.hi[axis] - inner.hi[axis]]
    if any(pad):
        crop = F.pad(crop, pad, value=outside)
    coarse = [min(n, c) for n, c in zip(crop.shape, cells, strict=True)]
    batch = crop[None, None]
    if list(crop.shape) != coarse:
        batch = F.interpolate(batch, size=coarse, mode="area")
    if coarse != list(cells):
        batch = F.interpolate(batch, size=cells, mode="trilinear", align_corners=False)
    return batch[0, 0]
