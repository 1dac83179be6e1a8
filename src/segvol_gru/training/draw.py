"""One training example: a structure framed, turned and repainted, with its first prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from segvol_gru.data.dataset import Voxels
from segvol_gru.errors import InputError
from segvol_gru.prompts import Index
from segvol_gru.region import Region
from segvol_gru.simulate import next_click, random_error_click


class Structure(NamedTuple):
    """One structure of one volume.

    Attributes:
        image: (D, H, W) uint8.
        labels: (D, H, W) integer.
        label: the structure's value in `labels`.
        lo: its first voxel (z, y, x).
        hi: its last voxel, inclusive.
        spacing_mm: voxel size along (D, H, W).
    """

    image: Voxels
    labels: Voxels
    label: int
    lo: Index
    hi: Index
    spacing_mm: tuple[float, float, float]


class Example(TypedDict):
    """One training example; see `CellPrompts` for the prompts."""

    image: Tensor  # (1, D, H, W) float32, zero mean, unit deviation
    target: Tensor  # (1, D, H, W) float32 in {0, 1}
    box: Tensor  # (6,) float32 outer faces in cells, NaN without a box
    tight: Tensor  # () float32
    point: Tensor  # (3,) float32 first click of a start without a box
    label: Tensor  # () int64: 1 where there is such a click, else -1
    index: Tensor  # () int64: which example this is; seeds its clicks


@dataclass(frozen=True)
class ExampleConfig:
    """How examples are drawn."""

    cells: int = 48
    """Cells along each axis."""
    synthetic_share: float = 0.3
    """Share of synthetic volumes."""
    textured: float = 0.5
    """Share of synthetic volumes through which a real image is seen."""
    unnamed_share: float = 0.0
    """Share of structures that nobody labelled: stable regions of the cases' images."""
    starts: tuple[float, float, float, float] = (0.66, 0.1, 0.1, 0.14)
    """Weights of: tight box, jittered box, box of one slice (competition, 2-D), no box."""
    jitter: float = 0.1
    """Largest error of a jittered box's face, as a share of the box."""
    exact_framing: float = 0.5
    """Share of boxes framed exactly as at inference; the rest are framed at random."""
    rotate: float = 0.2
    """Share of examples turned by up to `max_angle`."""
    flip: float = 0.3
    """Share of examples that are mirrored, along each axis."""
    exchange: float = 0.15
    """Share of examples whose axes change places."""
    max_angle: float = 0.35
    """Radians."""
    bend: float = 0.3
    """Share of examples bent smoothly."""
    recolour: float = 0.2
    """Share of examples whose intensities are mapped by a random curve, not monotonic."""
    shade: float = 0.2
    """Share of examples that are brighter on one side, as next to a receive coil."""
    emphasis: Mapping[str, float] = field(default_factory=dict)
    """How many times as often a data set is drawn (by its name), or one of its structures among
    those of a case (`name:label`); names that the data do not have count for nothing."""

    def __post_init__(self) -> None:
        if self.synthetic_share + self.unnamed_share > 1:
            raise InputError(
                f"synthetic_share is {self.synthetic_share} and unnamed_share "
                f"{self.unnamed_share}, wanted 1 at most together."
            )
        wrong = [f"{name} = {times}" for name, times in self.emphasis.items() if not times > 0]
        if wrong:
            raise InputError(f"emphasis has {wrong[0]}, wanted more than 0.")


def draw_example(
    structure: Structure, config: ExampleConfig, generator: np.random.Generator
) -> Example:
    """Frame one structure, turn and repaint it, and draw its first prompt.

    Only the framed part of the volume is read.

    Args:
        structure: what to show.
        config: how to draw.
        generator: source of every choice.
    """
    start = int(generator.choice(4, p=np.array(config.starts) / sum(config.starts)))
    part = _frame(structure, start, config, generator).slices()
    turn = torch.cat([_turn(config, generator), torch.zeros(3, 1)], 1)[None]
    places = F.affine_grid(turn, [1, 1, *(config.cells,) * 3], align_corners=False)
    if generator.random() < config.bend:
        places = places + _bend(config.cells, generator)
    cells_image = _look(structure.image[part], places)
    target = _look(structure.labels[part] == structure.label, places) >= 0.5
    cells_image = _repaint(_relight(cells_image, config, generator), generator)
    box, tight = _draw_box(target.numpy(), start, config, generator)
    point, label = torch.zeros(3), torch.tensor(-1)
    if start == 3 and target.any():
        point, label = _first_click(target.numpy(), generator), torch.tensor(1)
    deviation = cells_image.std().clamp(min=1e-3)
    return {
        "image": ((cells_image - cells_image.mean()) / deviation)[None],
        "target": target.float()[None],
        "box": torch.from_numpy(box),
        "tight": torch.tensor(tight, dtype=torch.float32),
        "point": point,
        "label": label,
        "index": torch.tensor(0),
    }


def _frame(
    structure: Structure, start: int, config: ExampleConfig, generator: np.random.Generator
) -> Region:
    """Choose the region: as at inference, or larger, smaller and off centre."""
    lo, hi, shape = np.array(structure.lo), np.array(structure.hi), structure.image.shape
    slack = [1.4, 1.4, 1.4]
    shift = np.zeros(3)
    if start == 3:
        slack = list(generator.uniform(1.2, 4.0) * generator.uniform(0.8, 1.25, 3))
        shift = generator.uniform(-0.5, 0.5, 3) * (np.array(slack) - 1)
    elif start == 2 or generator.random() > config.exact_framing:
        slack = list(generator.uniform(1.15, 2.4) * generator.uniform(0.85, 1.15, 3))
        shift = generator.uniform(-0.5, 0.5, 3) * (np.array(slack) - 1)
    offset = np.round(shift * (hi - lo + 1)).astype(int)
    a, b = lo + offset, hi + offset
    n = np.array(shape)
    a, b = np.clip(a, 0, n - 1), np.clip(b, 0, n - 1)
    return Region.around(
        (int(a[0]), int(a[1]), int(a[2])),
        (int(b[0]), int(b[1]), int(b[2])),
        slack,
        (shape[0], shape[1], shape[2]),
        structure.spacing_mm,
    )


def _turn(config: ExampleConfig, generator: np.random.Generator) -> Tensor:
    """A rotation, reflection and exchange of axes in cell space: (3, 3) float32, x first."""
    matrix = np.eye(3)
    if generator.random() < config.rotate:
        for a, b in ((0, 1), (0, 2), (1, 2)):
            angle = generator.uniform(-config.max_angle, config.max_angle)
            plane = np.eye(3)
            plane[[a, b], [a, b]] = np.cos(angle)
            plane[a, b], plane[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ plane
    order = generator.permutation(3) if generator.random() < config.exchange else np.arange(3)
    flip = np.where(generator.random(3) < config.flip, -1.0, 1.0)
    return torch.from_numpy((matrix * flip)[:, order].astype(np.float32))


def _waves(channels: int, knots: int, cells: int, generator: np.random.Generator) -> Tensor:
    """Smooth noise, (channels, D, H, W), of standard deviation 1 at the knots."""
    rough = generator.standard_normal((1, channels, knots, knots, knots), dtype=np.float32)
    return F.interpolate(torch.from_numpy(rough), size=(cells,) * 3, mode="trilinear")[0]


def _bend(cells: int, generator: np.random.Generator) -> Tensor:
    """How far each place moves, (1, D, H, W, 3): no line of cells turns back on itself."""
    knots = int(generator.integers(3, 8))
    reach = float(generator.uniform(0.05, 0.2)) * 2 / knots
    return reach * _waves(3, knots, cells, generator).clamp(-2, 2).movedim(0, -1)[None]


def _look(part: NDArray[Any], places: Tensor) -> Tensor:
    """Show a part of a volume at places (1, D, H, W, 3) of it, edges repeated beyond it."""
    cells = places.shape[1]
    crop = torch.from_numpy(np.ascontiguousarray(part)).float()[None, None]
    coarse = [min(n, max(cells, n // 2)) for n in crop.shape[2:]]
    if coarse != list(crop.shape[2:]):
        crop = F.interpolate(crop, size=coarse, mode="area")
    mode = "border" if part.dtype != np.bool_ else "zeros"
    return F.grid_sample(crop, places, padding_mode=mode, align_corners=False)[0, 0]


def _relight(image: Tensor, config: ExampleConfig, generator: np.random.Generator) -> Tensor:
    """Another modality's look and a coil's shade: (D, H, W) in 0..255 -> the same."""
    if generator.random() < config.recolour:
        curve = generator.uniform(0, 255, int(generator.integers(4, 8)))
        mapped = np.interp(image.numpy(), np.linspace(0, 255, len(curve)), curve)
        share = float(generator.uniform(0.3, 0.9))
        image = torch.lerp(image, torch.from_numpy(mapped).float(), share)
    if generator.random() < config.shade:
        waves = _waves(1, int(generator.integers(2, 5)), image.shape[0], generator)[0]
        image = (image * (float(generator.uniform(0.05, 0.3)) * waves).exp()).clamp(max=255)
    return image


def _repaint(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Contrast, inversion, blur, thick slices and noise: (D, H, W) in 0..255 -> the same."""
    x = image / 255
    if generator.random() < 0.5:
        x = x.clamp(0, 1) ** float(np.exp(generator.uniform(-0.7, 0.7)))
    if generator.random() < 0.12:
        x = 1 - x
    if generator.random() < 0.15:
        size = [max(8, int(n * generator.uniform(0.4, 1.0))) for n in x.shape]
        small = F.interpolate(x[None, None], size=size, mode="area")
        x = F.interpolate(small, size=x.shape, mode="trilinear")[0, 0]
    if generator.random() < 0.3:
        noise = torch.from_numpy(generator.standard_normal(x.shape, dtype=np.float32))
        x = x + float(generator.uniform(0, 0.12)) * noise
    if generator.random() < 0.3:
        low = max(0.0, generator.uniform(-0.2, 0.15))
        high = min(1.0, generator.uniform(0.85, 1.2))
        x = x.clamp(low, high)
    return x


def _draw_box(
    target: NDArray[np.bool_], start: int, config: ExampleConfig, generator: np.random.Generator
) -> tuple[NDArray[np.float32], float]:
    """The box of a start, as outer faces in cells, and its tightness."""
    if start == 3 or not target.any():
        return np.full(6, np.nan, np.float32), 0.0
    at = [np.flatnonzero(target.any(tuple(b for b in range(3) if b != a))) for a in range(3)]
    low = np.array([a[0] for a in at], np.float32)
    high = np.array([a[-1] for a in at], np.float32)
    tight = 1.0
    if start == 2:
        axis = int(generator.integers(3))
        middle = at[axis][len(at[axis]) // 2]
        plane = target.take(middle, axis)
        others = [a for a in range(3) if a != axis]
        grow = generator.integers(0, 6) * generator.uniform(0, 0.6)
        for k, other in enumerate(others):
            line = np.flatnonzero(plane.any(1 - k))
            low[other], high[other] = line[0] - grow, line[-1] + grow
        tight = 1 / 3
        if generator.random() < 0.4:  # drawn on one slice only: the third side is a guess
            side = np.sqrt(np.prod([high[a] - low[a] + 1 for a in others]))
            side *= np.exp(generator.uniform(-0.4, 0.4))
            low[axis], high[axis] = middle - side / 2, middle + side / 2
            tight = 0.0
    elif start == 1:
        size = high - low + 1
        low = low + generator.uniform(-config.jitter, config.jitter, 3) * size
        high = high + generator.uniform(-config.jitter, config.jitter, 3) * size
    faces = np.concatenate([low - 0.5, high + 0.5]).astype(np.float32)
    return faces, tight


def _first_click(target: NDArray[np.bool_], generator: np.random.Generator) -> Tensor:
    """The competition's first click on an empty prediction, sometimes a random voxel."""
    nothing = np.zeros_like(target)
    if generator.random() < 0.3:
        click = random_error_click(target, nothing, generator)
    else:
        click = next_click(target, nothing)
    if click is None:
        raise AssertionError("a non-empty target has an error against nothing")
    return torch.tensor(click[0], dtype=torch.float32)
