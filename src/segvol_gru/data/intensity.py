"""What the voxel values say: histograms, whether they are Hounsfield units, of which tissue."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segvol_gru.prompts import Box

RealArray = NDArray[np.bool_ | np.integer | np.floating]
SAMPLE = 2_000_000
"""Voxels looked at where values do not fit a table. The rank of a quantile q is then off by
sqrt(q (1 - q) / SAMPLE), 5e-5 for q = 0.005: a hundredth of that tail."""
CHUNK = 2**22

AIR = -950.0  # HU; below it there is no tissue
LUNG_MAX = -500.0
BONE_MIN = 300.0
HU_LOWEST = (-3100.0, -500.0)  # where the lowest value of a CT lies: air, or a scanner's padding
BRAIN = (-20.0, 100.0)  # brain, liquor and fresh blood, but neither fat nor bone
SKULL_MIN_MM = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often values occur.

    Attributes:
        values: (n,) ascending.
        up_to: (n,) int64, how many voxels hold `values[i]` or less.
    """

    values: RealArray
    up_to: NDArray[np.int64]

    @classmethod
    def of(cls, array: RealArray) -> Histogram:
        """Count an array of any shape, at least one value.

        Exact for 8- and 16-bit integers, and for other types up to `SAMPLE` values; of larger
        arrays every k-th value in memory order is taken, with both extremes added.
        """
        if array.dtype.kind in "biu" and array.dtype.itemsize <= 2:
            return _table(array)
        step = math.ceil(array.size / SAMPLE)
        while math.gcd(step, array.size) != 1 and step > 1:  # do not walk along one column
            step += 1
        parts, position = [np.array([array.min(), array.max()])] if step > 1 else [], 0
        for part in _chunks(array):
            parts.append(part[-position % step :: step])
            position += part.size
        values = np.sort(np.concatenate(parts))
        return cls(values, np.arange(1, values.size + 1))

    @property
    def lo(self) -> float:
        """Smallest value."""
        return float(self.values[0])

    @property
    def hi(self) -> float:
        """Largest value."""
        return float(self.values[-1])

    def share(self, lo: float, hi: float) -> float:
        """Fraction of voxels with lo <= value < hi."""
        ends = np.searchsorted(self.values, (lo, hi))
        counts = [0 if end == 0 else int(self.up_to[end - 1]) for end in ends]
        return (counts[1] - counts[0]) / int(self.up_to[-1])

    def quantile(self, q: float) -> float:
        """Quantile by linear interpolation between ranks, as `numpy.quantile` gives it."""
        rank = q * (int(self.up_to[-1]) - 1)
        below, above = (
            float(self.values[np.searchsorted(self.up_to, r, side="right")])
            for r in (math.floor(rank), math.ceil(rank))
        )
        return below + (above - below) * (rank - math.floor(rank))

    def positive(self) -> Histogram:
        """Only the values above 0; all of them where none is."""
        first = int(np.searchsorted(self.values, 0, side="right"))
        if first in (0, self.values.size):
            return self
        return Histogram(self.values[first:], self.up_to[first:] - self.up_to[first - 1])


def is_hounsfield(histogram: Histogram) -> bool:
    """Whether the values look like raw CT.

    The lowest is that of air or of a scanner's padding (-3024 to -500), and at least half of
    the voxels lie between air and soft tissue or are padding. MR, PET and microscopy have no
    values as low; phase images do, but spread over thousands of units.
    """
    lo = histogram.lo
    common = histogram.share(-1100, BONE_MIN) + histogram.share(lo, min(lo + 1, -1100))
    return HU_LOWEST[0] <= lo <= HU_LOWEST[1] and common >= 0.5


def is_shifted_ct(histogram: Histogram) -> bool:
    """Whether a CT was stored with 1024 added: nothing negative, a tenth near water at 1024."""
    return histogram.lo >= 0 and histogram.share(824, 1324) >= 0.1


def ct_window_name(array: RealArray, spacing_mm: Sequence[float], box: Box | None) -> str:
    """Choose 'lung', 'bone', 'brain' or 'soft-tissue' for raw CT by what lies in the box.

    Fractions are of the voxels above -950 HU, since air outside the body says nothing:

    1. 40 % between -950 and -500 HU -> 'lung'. A box around both lungs had 45-50 %, around a
       nodule mostly 53-92 % (an ellipsoid leaves 48 % of its box to the corners).
    2. 35 % at 300 HU or more -> 'bone'. Few boxes: the spine fills up to 32 % of a box around the
       spinal cord, which the bone window would hide, while the soft-tissue window still shows
       where a bone ends. Strongly enhanced vessels pass too, and it suits them.
    3. 90 % between -20 and 100 HU, under 2 % bone, and a skull around -> 'brain'. All eight rays
       in the slice must meet bone through nothing but such voxels (at most 5 % others), 60 mm or
       more from bone to bone: no other place has no fat inside a ring of bone as wide.
    4. Anything else, and no box -> 'soft-tissue'.

    Tried on public cases whose HU were estimated from windowed copies: 42 of 46 nodules (LIDC)
    and three of three pairs of lungs got 'lung', 272 of 273 head-and-neck organs (OpenKBP) and
    42 of 42 sarcomas 'soft-tissue'.

    Args:
        array: (D, H, W) HU.
        spacing_mm: voxel size along (D, H, W).
        box: the first box, inside the volume; None if there is none.
    """
    if box is None:
        return "soft-tissue"
    inside = Histogram.of(
        array[tuple(slice(a, b + 1) for a, b in zip(box.lo, box.hi, strict=True))]
    )
    body = inside.share(AIR, math.inf)
    if body == 0:
        return "soft-tissue"
    if inside.share(AIR, LUNG_MAX) >= 0.4 * body:
        return "lung"
    bone = inside.share(BONE_MIN, math.inf)
    if bone >= 0.35 * body:
        return "bone"
    brain = inside.share(*BRAIN) >= 0.9 * body and bone < 0.02 * body
    return "brain" if brain and _in_skull(array, spacing_mm, box) else "soft-tissue"


def _in_skull(array: RealArray, spacing_mm: Sequence[float], box: Box) -> bool:
    z, y, x = ((a + b) // 2 for a, b in zip(box.lo, box.hi, strict=True))
    plane = array[z]
    passed, reach = [], {}
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        if dy == dx == 0:
            continue
        n = min(_room(y, dy, plane.shape[0]), _room(x, dx, plane.shape[1]))
        ray = plane[y + dy * np.arange(n), x + dx * np.arange(n)]
        hits = np.flatnonzero(ray >= BONE_MIN)
        if hits.size == 0:
            return False
        passed.append(ray[: hits[0]])
        reach[dy, dx] = hits[0] * math.hypot(dy * spacing_mm[1], dx * spacing_mm[2])
    values = np.concatenate(passed)
    like_brain = bool(
        np.count_nonzero((values >= BRAIN[0]) & (values < BRAIN[1])) >= 0.95 * values.size
    )
    return like_brain and all(reach[dy, dx] + reach[-dy, -dx] >= SKULL_MIN_MM for dy, dx in reach)


def _room(at: int, step: int, size: int) -> int:
    """How many voxels from `at` on, itself included, lie inside when walking by `step`."""
    return {-1: at + 1, 0: size, 1: size - at}[step] if step else 2**31


def _table(array: RealArray) -> Histogram:
    """Exact counts of 8- or 16-bit integers."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    bins = 2 ** (8 * array.dtype.itemsize)
    lowest = 0 if array.dtype.kind == "u" else -bins // 2
    counts = np.zeros(bins, np.int64)
    for part in _chunks(array):
        counts += np.bincount(part.view(f"u{array.dtype.itemsize}"), minlength=bins)
    counts = np.roll(counts, lowest)  # unsigned order puts negative numbers last
    present = np.flatnonzero(counts)
    return Histogram(present + lowest, np.cumsum(counts[present]))


def _chunks(array: RealArray) -> Iterator[RealArray]:
    """The array as flat pieces in memory order; at most one plane is copied at a time."""
    by_stride = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    for slab in np.atleast_2d(array.transpose(by_stride)):
        flat = slab.reshape(-1)
        for start in range(0, flat.size, CHUNK):
            yield flat[start : start + CHUNK]
