"""What a user would otherwise pick: a filled box, a brush, and three classical algorithms.

    prompts ─► window of at most 96 x 96 x 96 cells ─► seeds + / - ─► algorithm ─► mask

The algorithms remember nothing: each prompt runs them again with all clicks so far. Where the
window has more voxels than cells, every n-th voxel is looked at. Beyond the window all is
background. None of them is tuned to any data set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segvol_gru.evaluation.seeds import Scene, geodesic, grow, random_walk
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.simulate import BoolArray, Slices, bounds_of

MOST_CELLS = 96  # along each axis of a window
WALKER_CELLS = 64  # the random walker solves for every cell: 1.6 s for 64^3, 11 s for 96^3
ROOM = 0.3  # of a box's side, added on each side of it
CORE = 0.35  # of a box's half sides: the ellipsoid that seeds the structure
SEED_CELLS = 1  # half width of the cube that a click marks
BRUSH = 1.5  # radius of a stroke over the distance from the click to the mask's border
FIRST_STROKE_MM = 5.0  # radius of a stroke where there is no border yet

Algorithm = Callable[[Scene], BoolArray]
Spacing = tuple[float, float, float]


class FilledBox:
    """The box itself; clicks are not listened to."""

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.Segmenter`; without a box nothing is found."""
        self._mask = np.zeros(array.shape, np.bool_)
        if box is not None:
            self._mask[_slices(box)] = True
        return self._mask.copy()

    def click(self, click: Click) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        return self._mask.copy()


class Brush:
    """A ball per click, added or removed, as far as half as far again as the nearest border."""

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.Segmenter`; a box becomes the ellipsoid inside it."""
        self._spacing_mm = spacing_mm
        self._mask = np.zeros(array.shape, np.bool_)
        if box is not None:
            self._mask[_slices(box)] = _ellipsoid(box.size, 1.0)
            return self._mask.copy()
        assert click is not None
        return self.click(click)

    def adopt(
        self, array: NDArray[np.uint8], spacing_mm: Spacing, mask: BoolArray, modality: str
    ) -> BoolArray:
        """See `evaluation.trial.MaskStarter`."""
        self._spacing_mm, self._mask = spacing_mm, mask.copy()
        return mask.copy()

    def click(self, click: Click) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        radius = BRUSH * _to_border(self._mask, click.at, self._spacing_mm)
        _paint(self._mask, click.at, radius, self._spacing_mm, click.positive)
        return self._mask.copy()


class Seeded:
    """An algorithm that grows from seeds.

    Args:
        algorithm: seeds and image to mask, on cells.
        most_cells: of its window along each axis.
    """

    def __init__(self, algorithm: Algorithm, most_cells: int = MOST_CELLS) -> None:
        self._algorithm, self._most = algorithm, most_cells

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        self._array, self._spacing_mm, self._box = array, spacing_mm, box
        self._clicks = [] if click is None else [click]
        return self._run()

    def click(self, click: Click) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        self._clicks.append(click)
        return self._run()

    def _run(self) -> BoolArray:
        window = self._window()
        steps = [-(-(s.stop - s.start) // self._most) for s in window]
        z, y, x = (
            slice(s.start + (n - 1) // 2, s.stop, n) for s, n in zip(window, steps, strict=True)
        )
        cells = (z, y, x)
        mask = np.zeros(self._array.shape, np.bool_)
        scene = self._scene(cells)
        if scene.positive.any():
            small = self._algorithm(scene) & ~scene.negative | scene.positive
            for axis, n in enumerate(steps):
                small = np.repeat(small, n, axis=axis)
            part = mask[window]
            # Where the last step is cut short, its cell's centre may lie beyond the window.
            held = tuple(slice(min(a, b)) for a, b in zip(part.shape, small.shape, strict=True))
            part[held] = small[held]
        return mask

    def _scene(self, cells: Slices) -> Scene:
        image = self._array[cells].astype(np.float32)
        image = (image - image.mean()) / max(float(image.std()), 1e-3)
        positive, negative = (np.zeros(image.shape, np.bool_) for _ in range(2))
        spacing = tuple(mm * s.step for mm, s in zip(self._spacing_mm, cells, strict=True))
        if self._box is not None:
            outside = np.ones(self._array.shape, np.bool_)
            outside[_slices(self._box)] = False
            negative |= outside[cells]
            core = np.zeros(self._array.shape, np.bool_)
            core[_slices(self._box)] = _ellipsoid(self._box.size, CORE)
            positive |= core[cells]
        else:  # the window's faces are as far away as anything is expected to reach
            negative |= True
            negative[1:-1, 1:-1, 1:-1] = False
        for click in self._clicks:  # a later click overrules whatever was said before
            near = tuple(
                slice(max(0, i - SEED_CELLS), i + SEED_CELLS + 1)
                for i in (
                    min(max((a - s.start) // s.step, 0), n - 1)
                    for a, s, n in zip(click.at, cells, image.shape, strict=True)
                )
            )
            positive[near], negative[near] = click.positive, not click.positive
        return Scene(image, (spacing[0], spacing[1], spacing[2]), positive, negative)

    def _window(self) -> Slices:
        """The box with some room, or a cube around the first click; always every click."""
        points = [c.at for c in self._clicks]
        if self._box is not None:
            room = [int(ROOM * n) + 3 for n in self._box.size]
            points += [
                _moved(self._box.lo, room, -1),
                _moved(self._box.hi, room, 1),
            ]
        else:
            finest = min(self._spacing_mm)
            half = [int(self._most * finest / mm / 2) for mm in self._spacing_mm]
            points += [_moved(self._clicks[0].at, half, side) for side in (-1, 1)]
        z, y, x = (
            slice(max(0, min(p[axis] for p in points)), min(n, max(p[axis] for p in points) + 1))
            for axis, n in enumerate(self._array.shape)
        )
        return z, y, x


def _to_border(mask: BoolArray, at: Index, spacing_mm: Spacing) -> float:
    """Millimetres from a voxel to the nearest voxel on the other side of the mask's border."""
    inside = bool(mask[at])
    bounds = bounds_of(mask)
    if bounds is None:
        return FIRST_STROKE_MM / BRUSH
    lo = [max(0, min(s.start - 1, a)) for s, a in zip(bounds, at, strict=True)]
    hi = [min(n, max(s.stop + 1, a + 1)) for s, a, n in zip(bounds, at, mask.shape, strict=True)]
    part = mask[tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))]
    if inside and part.all():
        return FIRST_STROKE_MM / BRUSH
    other = np.argwhere(part != inside) + lo
    return float(np.sqrt((((other - at) * spacing_mm) ** 2).sum(axis=1).min()))


def _paint(mask: BoolArray, at: Index, radius_mm: float, spacing_mm: Spacing, value: bool) -> None:
    """Set the voxels of a ball, cut to the volume."""
    reach = [int(radius_mm / mm) for mm in spacing_mm]
    window = tuple(
        slice(max(0, a - r), min(n, a + r + 1))
        for a, r, n in zip(at, reach, mask.shape, strict=True)
    )
    axes = [
        (np.arange(s.start, s.stop) - a) * mm
        for s, a, mm in zip(window, at, spacing_mm, strict=True)
    ]
    z, y, x = np.ix_(*axes)
    mask[window][z**2 + y**2 + x**2 <= radius_mm**2] = value


def _ellipsoid(size: Index, share: float) -> BoolArray:
    """The ellipsoid of a box of that size, its half axes times `share`; its centre always."""
    axes = [(np.arange(n) - (n - 1) / 2) / max(share * n / 2, 0.5) for n in size]
    z, y, x = np.ix_(*axes)
    inside: BoolArray = z**2 + y**2 + x**2 <= 1.0
    inside[size[0] // 2, size[1] // 2, size[2] // 2] = True
    return inside


def _slices(box: Box) -> Slices:
    z, y, x = (slice(a, b + 1) for a, b in zip(box.lo, box.hi, strict=True))
    return z, y, x


def _moved(at: Index, by: list[int], sign: int) -> Index:
    z, y, x = (a + sign * b for a, b in zip(at, by, strict=True))
    return z, y, x


WALKER = "random-walker"
BASELINES: dict[str, Callable[[], FilledBox | Brush | Seeded]] = {
    "box": FilledBox,
    "brush": Brush,
    WALKER: partial(Seeded, random_walk, WALKER_CELLS),
    "geodesic": partial(Seeded, geodesic),
    "region-growing": partial(Seeded, grow),
}
