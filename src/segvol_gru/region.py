"""Where the networks look: a box of voxels, cut into cells, and fields of logits on them.

A `Region` is an integer box of voxels that may reach beyond the volume. A grid of cells tiles
it evenly, so the maps volume -> cells and cells -> volume are linear interpolation with
half-voxel centres along each axis.

    volume voxels   |0|1|2|3|4|5|6|7|8|9|
    region lo=2 size=6  |2|3|4|5|6|7|
    3 cells             |   |   |   |     cell c covers voxels lo + [c, c + 1) * size / 3
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
        whole = [math.ceil(n) for n in size]
        first = [(a + b + 1 - n) // 2 for a, b, n in zip(lo, hi, whole, strict=True)]
        region = cls((first[0], first[1], first[2]), (whole[0], whole[1], whole[2]))
        return region.inside(shape)

    def union(self, other: Region) -> Region:
        """Smallest region that holds both."""
        lo = tuple(map(min, self.lo, other.lo))
        hi = tuple(map(max, self.hi, other.hi))
        return Region(lo, tuple(b - a for a, b in zip(lo, hi, strict=True)))  # type: ignore[arg-type]

    def overlap(self, other: Region) -> Region:
        """What both hold; they must touch."""
        lo = tuple(map(max, self.lo, other.lo))
        hi = map(min, self.hi, other.hi)
        return Region(lo, tuple(b - a for a, b in zip(lo, hi, strict=True)))  # type: ignore[arg-type]

    def holds(self, at: Sequence[int]) -> bool:
        """Whether a voxel (z, y, x) lies in it."""
        return all(a <= v < b for a, v, b in zip(self.lo, at, self.hi, strict=True))

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
        logits: (d, h, w) float or int8, one value per cell; any number of cells.
    """

    region: Region
    logits: Tensor

    def render(self, window: Region) -> Tensor:
        """Logits at every voxel of `window`, which must lie inside the region.

        Returns:
            float32 of shape `window.size`, in memory of its own.
        """
        out = torch.empty(window.size)
        for z, plane in enumerate(self.planes(window)):
            out[z] = plane
        return out

    def planes(self, window: Region) -> Iterator[Tensor]:
        """The same, one (H, W) float32 plane after the other.

        Nothing of the window's size is ever held: a mask of 25 million voxels takes the time of
        its arithmetic, and not four times that for fetching memory. A plane is the caller's own.
        """
        z, y, x = window.slices(self.region.lo)
        if self.logits.shape == self.region.size:
            for plane in self.logits[z, y, x]:
                yield plane.to(torch.float32, copy=True)
            return
        wide: dict[int, Tensor] = {}  # planes of cells at full height and width
        for below, above, share in _taps(self.region.size[0], len(self.logits))[z]:
            wide = {i: wide[i] if i in wide else self._widened(i)[y, x] for i in (below, above)}
            yield torch.lerp(wide[below], wide[above], share)

    def onto(self, region: Region, cells: Index, outside: float = 0.0) -> Tensor:
        """What `to_cells` makes of this field, rendered on another region.

        Rendering and averaging are linear along each axis: one small matrix per axis does both.

        Args:
            region: any region.
            cells: its cells along (D, H, W).
            outside: value of the voxels that this field does not cover.

        Returns:
            float32 of shape `cells`.
        """
        deep, high, wide = (self._axis(axis, region, cells[axis]) for axis in range(3))
        # Fresh copies lie alike in memory whatever the logits were read from, and round alike.
        planes = [
            high @ (plane.to(torch.float32, copy=True) - outside) @ wide.T for plane in self.logits
        ]
        out: Tensor = torch.tensordot(deep, torch.stack(planes), 1) + outside
        return out

    def _widened(self, plane: int) -> Tensor:
        """One plane of cells, interpolated to the region's height and width."""
        batch = self.logits[plane].float()[None, None]
        size = self.region.size[1:]
        return F.interpolate(batch, size, mode="bilinear", align_corners=False)[0, 0]

    def _axis(self, axis: int, region: Region, cells: int) -> Tensor:
        """Values along one axis of this field -> cells of a region: (cells, n) float32."""
        lo, n = self.region.lo[axis], self.region.size[axis]
        other, m = region.lo[axis], region.size[axis]
        first, last = max(lo, other), max(min(lo + n, other + m), lo, other)
        average = _averages(m, cells)[:, first - other : last - other]
        if self.logits.shape == self.region.size:
            placed = torch.zeros(cells, n)
            placed[:, first - lo : last - lo] = average
            return placed
        eye = torch.eye(self.logits.shape[axis])[None]
        render = F.interpolate(eye, n, mode="linear", align_corners=False)[0].T
        return average @ render[first - lo : last - lo]


def _taps(voxels: int, cells: int) -> list[tuple[int, int, float]]:
    """For every voxel along an axis: the cells below and above its centre, and the latter's share.

    As in torch's linear interpolation with half-voxel centres.
    """
    taps = []
    for v in range(voxels):
        at = max((v + 0.5) * cells / voxels - 0.5, 0.0)
        below = min(int(at), cells - 1)
        taps.append((below, min(below + 1, cells - 1), at - below))
    return taps


def _averages(voxels: int, cells: int) -> Tensor:
    """What `to_cells` does along one axis, (cells, voxels) float32."""
    if voxels < cells:
        return to_cells(torch.eye(voxels)[:, None], (cells, 1, voxels))[:, 0]
    cell, voxel = torch.arange(cells)[:, None], torch.arange(voxels)
    first, last = cell * voxels // cells, ((cell + 1) * voxels + cells - 1) // cells
    return ((first <= voxel) & (voxel < last)) / (last - first)


def to_cells(values: Tensor, cells: Index) -> Tensor:
    """Bring a crop of voxels onto cells: mean over a cell, or interpolation between voxels.

    Args:
        values: (D, H, W) float32.
        cells: cells along (D, H, W).

    Returns:
        float32 of shape `cells`. Along an axis with more voxels than cells it is the mean over
        the cell, otherwise linear interpolation.
    """
    coarse = [min(n, c) for n, c in zip(values.shape, cells, strict=True)]
    batch = values[None, None]
    if list(values.shape) != coarse:
        batch = F.interpolate(batch, size=coarse, mode="area")
    if coarse != list(cells):
        batch = F.interpolate(batch, size=cells, mode="trilinear", align_corners=False)
    return batch[0, 0]


def regrid(values: Tensor, old: Region, new: Region, cells: Index | None = None) -> Tensor:
    """Carry channels from the cells of one region to those of another, zero where it was not.

    Args:
        values: (B, C, d, h, w) float32 on the cells of `old`.
        old: where they lie.
        new: where they are wanted.
        cells: on how many cells; as many as before by default.
    """
    centre_old = torch.tensor([a + n / 2 for a, n in zip(old.lo, old.size, strict=True)])
    centre_new = torch.tensor([a + n / 2 for a, n in zip(new.lo, new.size, strict=True)])
    half_old, half_new = torch.tensor(old.size) / 2, torch.tensor(new.size) / 2
    scale = (half_new / half_old).flip(0)
    shift = ((centre_new - centre_old) / half_old).flip(0)
    theta = torch.cat([torch.diag(scale), shift[:, None]], 1).to(values)
    theta = theta.expand(len(values), 3, 4)
    size = [*values.shape[:2], *(cells or values.shape[2:])]
    grid = F.affine_grid(theta, size, align_corners=False)
    return F.grid_sample(values, grid, padding_mode="zeros", align_corners=False)
