"""The surface of a mask as points on the lattice of voxel corners.

The surface Dice only asks whether a point lies within a tolerance of the other surface, so no
distance map is made. A surface is held as one bit per lattice corner; growing it by the
tolerance takes a few shifts and ors of bytes, eight corners at a time:

    mask --2x2x2 neighbourhoods--> bits of surface corners --grow--> bits within tolerance
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from segvol_gru.prompts import Index
from segvol_gru.simulate import BoolArray

Spacing = tuple[float, float, float]
Bits = NDArray[np.uint8]  # (D + 2, H + 2, ceil((W + 2) / 8)), the highest bit has the smallest x

MAX_SHIFTS = 2048  # with more (z, y) offsets than this, a search tree is faster than bits


@dataclass(frozen=True, slots=True)
class Surface:
    """Lattice corners whose eight voxels are neither all set nor all clear.

    Corner (i, j, k) touches voxels (i - 1, j - 1, k - 1) to (i, j, k) of the mask; voxels
    beyond the array are clear.

    Attributes:
        bits: one bit per corner.
        corners: (N,) flat bit positions of surface corners, ascending.
        codes: (N,) uint8, the neighbourhood code of each (see `surfels`).
    """

    bits: Bits
    corners: NDArray[np.intp]
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: BoolArray) -> Surface:
        """Surface of a (D, H, W) bool mask."""
        depth, height, width = mask.shape
        bytes_x = -(-(width + 2) // 8)
        voxels = np.zeros((depth + 2, height + 2, 8 * bytes_x), dtype=np.uint8)
        voxels[1:-1, 1:-1, 1 : width + 1] = mask
        packed = np.packbits(voxels, axis=2)
        after = _shifted_left(packed)
        some, every = packed | after, packed & after
        for axis in (1, 0):
            ahead = _ahead(some, axis), _ahead(every, axis)
            some, every = some | ahead[0], every & ahead[1]
        bits = some & ~every
        corners = _positions(bits)
        return cls(bits, corners, _codes(voxels, corners))

    def counts(self) -> NDArray[np.int64]:
        """(256,) how many corners have each code."""
        return np.bincount(self.codes, minlength=256)

    def near(self, other: Surface, spacing_mm: Spacing, tolerance_mm: float) -> NDArray[np.int64]:
        """(256,) how many corners of each code lie within the tolerance of the other surface.

        Both surfaces must come from arrays of one shape.
        """
        depth, height, row = self.bits.shape
        limits = (depth - 1, height - 1, 8 * row - 1)
        reach = _reach(spacing_mm, tolerance_mm, limits)
        if reach is None:
            close = _close_by_tree(self, other, spacing_mm, tolerance_mm)
        else:
            grown = _grow(other.bits, reach).ravel()
            close = (grown[self.corners >> 3] >> (7 - (self.corners & 7)) & 1).astype(bool)
        return np.bincount(self.codes[close], minlength=256)


def _positions(bits: Bits) -> NDArray[np.intp]:
    """Ascending flat positions of set bits."""
    flat = bits.ravel()
    filled = np.flatnonzero(flat)
    row, bit = np.nonzero(np.unpackbits(flat[filled, None], axis=1))
    return filled[row] * 8 + bit


def _codes(voxels: Bits, corners: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Neighbourhood codes at flat corners; `voxels` has a margin, so corner i starts at voxel i."""
    _, height, width = voxels.shape
    flat = voxels.ravel()
    codes = np.zeros(len(corners), dtype=np.uint8)
    for place, (z, y, x) in enumerate(product((0, 1), repeat=3)):
        codes |= flat[corners + ((z * height + y) * width + x)] << (7 - place)
    return codes


def _shifted_left(bits: Bits) -> Bits:
    """Every corner reads its neighbour at x + 1; clear beyond the end."""
    moved: Bits = np.left_shift(bits, np.uint8(1))
    moved[..., :-1] |= bits[..., 1:] >> 7
    return moved


def _shifted_right(bits: Bits) -> Bits:
    """Every corner reads its neighbour at x - 1; clear before the start."""
    moved: Bits = np.right_shift(bits, np.uint8(1))
    moved[..., 1:] |= bits[..., :-1] << 7
    return moved


def _ahead(bits: Bits, axis: int) -> Bits:
    """Every corner reads its neighbour one step later along an axis; clear beyond the end."""
    moved = np.zeros_like(bits)
    size = bits.shape[axis]
    _along(moved, axis, 0, size - 1)[...] = _along(bits, axis, 1, size)
    return moved


def _along(bits: Bits, axis: int, start: int, stop: int) -> Bits:
    index = [slice(None)] * 3
    index[axis] = slice(start, stop)
    return bits[tuple(index)]


def _reach(spacing_mm: Spacing, tolerance_mm: float, limits: Index) -> list[list[int]] | None:
    """For every offset (z, y) >= 0, how far the tolerance reaches along x; -1 not at all.

    The sum of squares is rounded in the order of scipy's distance transform, so corners at
    exactly the tolerance are judged alike.

    Returns:
        reach[z][y] in voxels, clipped to the lattice; None if there are too many offsets.
    """
    span = [min(n, int(tolerance_mm / s) + 1) for n, s in zip(limits, spacing_mm, strict=True)]
    if (span[0] + 1) * (2 * span[1] + 1) > MAX_SHIFTS:
        return None
    along_x = np.square(np.arange(span[2] + 1) * spacing_mm[2])
    reach = []
    for z in range(span[0] + 1):
        row = []
        for y in range(span[1] + 1):
            in_plane = (z * spacing_mm[0]) ** 2 + (y * spacing_mm[1]) ** 2
            distances = np.sqrt(in_plane + along_x)
            row.append(int(np.count_nonzero(distances <= tolerance_mm)) - 1)
        reach.append(row)
    return reach


def _grow(bits: Bits, reach: list[list[int]]) -> Bits:
    """Set every corner within the reach of a set one."""
    stretched = [bits]  # stretched[k]: grown by k along x
    for _ in range(max(map(max, reach))):
        stretched.append(stretched[-1] | _shifted_left(stretched[-1]))
        stretched[-1] |= _shifted_right(stretched[-2])
    grown = np.zeros_like(bits)
    for z, row in enumerate(reach):
        layer = np.zeros_like(bits)
        for y, k in enumerate(row):
            if k >= 0:
                _or_shifted(layer, stretched[k], axis=1, by=y)
        if row[0] >= 0:
            _or_shifted(grown, layer, axis=0, by=z)
    return grown


def _or_shifted(target: Bits, bits: Bits, axis: int, by: int) -> None:
    """Add `bits` moved by `by` steps along the axis, both ways, to the target."""
    size = bits.shape[axis]
    early, late = (0, size - by), (by, size)
    _along(target, axis, *late)[...] |= _along(bits, axis, *early)
    if by:
        _along(target, axis, *early)[...] |= _along(bits, axis, *late)


def _close_by_tree(
    surface: Surface, other: Surface, spacing_mm: Spacing, tolerance_mm: float
) -> BoolArray:
    """(N,) whether each corner lies within the tolerance, by nearest neighbours."""
    depth, height, row = surface.bits.shape
    shape = (depth, height, 8 * row)
    ours, theirs = (np.stack(np.unravel_index(s.corners, shape), axis=1) for s in (surface, other))
    scale = np.array(spacing_mm)
    _, nearest = cKDTree(theirs * scale).query(ours * scale)
    # Distances of whole steps: scaled coordinates would round differently at the tolerance.
    squares = np.square((ours - theirs[nearest]) * scale)
    within: BoolArray = np.sqrt(squares.sum(axis=1)) <= tolerance_mm
    return within
