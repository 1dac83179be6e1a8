"""Pictures of a segmentation: three planes through the structure, one column per step.

    box     click 1   click 2
    ┌────┐  ┌────┐   ┌────┐   plane across the first array axis
    ├────┤  ├────┤   ├────┤   ... the second
    └────┘  └────┘   └────┘   ... the third

Planes are turned as radiologists hang them: head or front up, the patient's left or front on
the viewer's right or left. matplotlib draws into a file (Agg); no window is ever opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from segvol_gru.data.files import whole_file
from segvol_gru.data.preprocess import Window
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.simulate import BoolArray, bounds_of
from segvol_gru.volume import Volume

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".pdf", ".svg")
MARGIN_MM = 15.0  # seen around the structure
NEAR_VOX = 2  # clicks at most as far from a plane count as lying in it
PANEL_INCH = 2.4
MASK = "#00c8a0"
REFERENCE = "#ffd23c"
BOX = "#ffffff"
ADD, REMOVE = "#50e050", "#ff5050"
TOP_OR_LEFT = "SAR"  # ends of the patient that belong at the top or on the viewer's left
RANK = {"S": 0, "I": 0, "A": 1, "P": 1, "R": 2, "L": 2}  # the smaller runs up and down


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One column.

    Attributes:
        title: its heading.
        mask: (D, H, W) bool, drawn as a filled outline.
        clicks: those far from a plane are drawn thinner on it.
    """

    title: str
    mask: BoolArray
    clicks: tuple[Click, ...] = ()


def draw(
    path: Path,
    volume: Volume,
    window: Window,
    panels: Sequence[Panel],
    *,
    box: Box | None = None,
    reference: BoolArray | None = None,
) -> None:
    """Write a picture.

    Args:
        path: file to write, with an ending of `PICTURES`.
        volume: the image.
        window: which intensities are black and white.
        panels: columns, at least one.
        box: drawn as a rectangle.
        reference: (D, H, W) bool, drawn as a thin line.

    Raises:
        InputError: the file cannot be written.
    """
    lo, hi, centre = _view(volume, panels, box, reference)
    extent = (np.array(hi) - lo) * volume.spacing_mm
    heights = [_sides(extent, _hang(volume, axis))[0] for axis in range(3)]
    widest = max(_sides(extent, _hang(volume, axis))[1] for axis in range(3))
    figure = Figure(
        figsize=(PANEL_INCH * len(panels), 0.3 + PANEL_INCH * sum(heights) / widest),
        layout="constrained",
        facecolor="black",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, len(panels), squeeze=False, height_ratios=heights)
    for column, panel in enumerate(panels):
        axes[0, column].set_title(panel.title, color="white", fontsize=9)
        for axis in range(3):
            place = _Plane(volume, axis, centre[axis], lo, hi)
            place.show(axes[axis, column], window, panel, box, reference)
    with whole_file(path) as fresh:
        figure.savefig(fresh, dpi=110)


@dataclass(frozen=True, slots=True)
class _Hang:
    """How a plane is turned.

    Attributes:
        rows: array axis that runs down.
        columns: array axis that runs to the right.
        flip_rows: whether rows are reversed.
        flip_columns: whether columns are reversed.
        top: letter of the patient's end at the top.
        left: letter of the end on the viewer's left.
    """

    rows: int
    columns: int
    flip_rows: bool
    flip_columns: bool
    top: str
    left: str


class _Plane:
    """The cut across one array axis, between two corners."""

    def __init__(self, volume: Volume, axis: int, at: int, lo: Index, hi: Index) -> None:
        self.volume, self.axis, self.at, self.lo, self.hi = volume, axis, at, lo, hi
        self.hang = _hang(volume, axis)

    def cut(self, array: NDArray[Any]) -> NDArray[Any]:
        """The turned plane of an array, rows downwards."""
        index: list[int | slice] = [slice(a, b) for a, b in zip(self.lo, self.hi, strict=True)]
        index[self.axis] = self.at
        plane = array[tuple(index)]
        if self.hang.rows > self.hang.columns:
            plane = plane.T
        rows = -1 if self.hang.flip_rows else 1
        return plane[::rows, :: -1 if self.hang.flip_columns else 1]

    def point(self, at: Sequence[float]) -> tuple[float, float]:
        """(x, y) in the turned plane of a voxel index."""
        x, y = (at[a] - self.lo[a] for a in (self.hang.columns, self.hang.rows))
        width, height = (self.hi[a] - self.lo[a] for a in (self.hang.columns, self.hang.rows))
        return (
            width - 1 - x if self.hang.flip_columns else x,
            height - 1 - y if self.hang.flip_rows else y,
        )

    def show(
        self,
        axes: Any,
        window: Window,
        panel: Panel,
        box: Box | None,
        reference: BoolArray | None,
    ) -> None:
        """Draw image, mask, reference, box and clicks."""
        spacing = self.volume.spacing_mm
        aspect = spacing[self.hang.rows] / spacing[self.hang.columns]
        axes.imshow(window.apply(self.cut(self.volume.array)), "gray", vmin=0, vmax=255)
        axes.set_aspect(aspect)
        axes.set_axis_off()
        axes.autoscale(False)
        mask = self.cut(panel.mask)
        if mask.any():
            axes.contourf(*_framed(mask), levels=[0.5, 1.5], colors=[MASK], alpha=0.3)
            axes.contour(*_framed(mask), levels=[0.5], colors=[MASK], linewidths=1.2)
        if reference is not None and self.cut(reference).any():
            outline = _framed(self.cut(reference))
            axes.contour(*outline, levels=[0.5], colors=[REFERENCE], linewidths=0.7)
        if box is not None and box.lo[self.axis] <= self.at <= box.hi[self.axis]:
            (x0, y0), (x1, y1) = self.point(box.lo), self.point(box.hi)
            left, right = min(x0, x1) - 0.5, max(x0, x1) + 0.5
            top, bottom = min(y0, y1) - 0.5, max(y0, y1) + 0.5
            corners = ([left, right, right, left, left], [top, top, bottom, bottom, top])
            axes.plot(*corners, color=BOX, linewidth=0.7, linestyle=":")
        for click in panel.clicks:
            near = abs(click.at[self.axis] - self.at) <= NEAR_VOX
            x, y = self.point(click.at)
            colour, mark = (ADD, "+") if click.positive else (REMOVE, "x")
            width, alpha = (1.8, 1.0) if near else (1.0, 0.5)
            axes.plot(x, y, mark, color=colour, ms=7, markeredgewidth=width, alpha=alpha)
        self._letter(axes)

    def _letter(self, axes: Any) -> None:
        style = {"color": "white", "fontsize": 8, "transform": axes.transAxes}
        shade = {"facecolor": "black", "edgecolor": "none", "pad": 1.0}
        axes.text(0.5, 0.98, self.hang.top, ha="center", va="top", bbox=shade, **style)
        axes.text(0.02, 0.5, self.hang.left, ha="left", va="center", bbox=shade, **style)


def _framed(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """x, y and a plane with a pixel of background around it, which closes every outline."""
    height, width = mask.shape
    return np.arange(-1, width + 1), np.arange(-1, height + 1), np.pad(mask, 1)


def _hang(volume: Volume, axis: int) -> _Hang:
    """Turn the plane across an array axis as radiologists hang it."""
    ends = [_ends(volume.affine[:3, a]) for a in range(3)]
    rows, columns = sorted((a for a in range(3) if a != axis), key=lambda a: RANK[ends[a][1]])
    flip_rows, flip_columns = (ends[a][1] in TOP_OR_LEFT for a in (rows, columns))
    top, left = ends[rows][flip_rows], ends[columns][flip_columns]
    return _Hang(rows, columns, flip_rows, flip_columns, top, left)


def _ends(direction: NDArray[np.float64]) -> tuple[str, str]:
    """Where an axis comes from and goes to, such as ('I', 'S')."""
    nearest = int(np.argmax(np.abs(direction)))
    low, high = (("L", "R"), ("P", "A"), ("I", "S"))[nearest]
    return (low, high) if direction[nearest] > 0 else (high, low)


def _view(
    volume: Volume, panels: Sequence[Panel], box: Box | None, reference: BoolArray | None
) -> tuple[Index, Index, Index]:
    """First voxel, one past the last, and centre of what is shown."""
    seen = reference if reference is not None else np.any([p.mask for p in panels], axis=0)
    bounds = bounds_of(seen)
    points = [c.at for p in panels for c in p.clicks]
    if box is not None:
        points += [box.lo, box.hi]
    if bounds is not None:
        z, y, x = bounds
        points += [(z.start, y.start, x.start), (z.stop - 1, y.stop - 1, x.stop - 1)]
    corners = np.array(points or [(0, 0, 0), volume.shape])
    margin = np.ceil(MARGIN_MM / np.array(volume.spacing_mm)).astype(int)
    lo = np.maximum(corners.min(axis=0) - margin, 0)
    hi = np.minimum(corners.max(axis=0) + margin + 1, volume.shape)
    centre = np.clip((lo + hi) // 2, lo, hi - 1)
    if bounds is not None:  # the plane with most of the structure
        areas = [seen.sum(axis=tuple(b for b in range(3) if b != a)) for a in range(3)]
        fullest = [np.flatnonzero(area == area.max()) for area in areas]
        centre = np.array([int(at[len(at) // 2]) for at in fullest])
    return _index(lo), _index(hi), _index(centre)


def _sides(extent_mm: NDArray[np.float64], hang: _Hang) -> tuple[float, float]:
    """Height and width of a turned plane in mm."""
    return float(extent_mm[hang.rows]), float(extent_mm[hang.columns])


def _index(values: NDArray[np.int64]) -> Index:
    z, y, x = (int(v) for v in values)
    return z, y, x
