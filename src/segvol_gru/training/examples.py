"""Training examples: one structure in a region of cells, with its first prompt.

Example i is a pure function of (seed, i): the order of the data needs no state, a run resumes
exactly, and ranks take every n-th index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import Dataset

from segvol_gru.data.dataset import (
    MIN_TASK_VOXELS,
    Case,
    LoadedCase,
    Voxels,
    group_by_dataset,
)
from segvol_gru.data.phantoms import draw_phantom, phantom_image
from segvol_gru.data.stable_regions import draw_structure, draw_view
from segvol_gru.errors import InputError
from segvol_gru.prompts import Index
from segvol_gru.training.draw import Example, ExampleConfig, Structure, draw_example

PHANTOM_SHAPE = (72, 72, 72)
HARDNESS = 0.7  # power of the share of its box by which a structure is drawn more often
HARD_SHARE = 0.6  # of phantoms, one of whose hard structures is asked for
MIN_CELLS = 30  # a region that shows less of its target than this is drawn again


class TrainingCase(Protocol):
    """A `LoadedCase`, or the same without its arrays in memory."""

    @property
    def case(self) -> Case:
        """Its manifest row."""

    @property
    def image(self) -> Voxels:
        """(D, H, W) uint8."""

    @property
    def labels(self) -> Voxels:
        """(D, H, W) integer."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along (D, H, W)."""

    @property
    def tasks(self) -> Mapping[int, tuple[Index, Index, int]]:
        """Label -> (first voxel, last voxel inclusive, voxels)."""


class Examples(Dataset[Example]):
    """An endless, indexable source of examples.

    Args:
        cases: real cases, in memory or in shards (may be empty if `synthetic_share` is 1).
        config: how to draw.
        seed: the same seed gives the same examples.
        length: number of examples.

    Raises:
        InputError: no case has a structure that is large enough, and not all is synthetic.
    """

    def __init__(
        self, cases: Sequence[TrainingCase], config: ExampleConfig, seed: int, length: int
    ) -> None:
        self.config, self.seed, self.length = config, seed, length
        rows = cast("list[LoadedCase]", list(cases))  # grouping does not look at the arrays
        self.groups: list[Sequence[TrainingCase]] = list(group_by_dataset(rows).values())
        if not self.groups and config.synthetic_share < 1:
            raise InputError(
                f"none of {len(rows)} cases has a structure of {MIN_TASK_VOXELS} voxels; give "
                "others, or the recipe a synthetic_share of 1."
            )
        weights = np.sqrt([2.0 + sum(len(c.tasks) for c in g) for g in self.groups])
        weights *= [config.emphasis.get(g[0].case.dataset, 1.0) for g in self.groups]
        self.group_share = weights / max(weights.sum(), 1e-9)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        """Draw example `index`."""
        generator = np.random.default_rng([self.seed, index])
        while True:
            example = draw_example(self._structure(generator), self.config, generator)
            if float(example["target"].sum()) >= MIN_CELLS:
                return {**example, "index": torch.tensor(index)}

    def _structure(self, generator: np.random.Generator) -> Structure:
        """A volume and one structure in it."""
        chance = generator.random() if self.groups else 0.0
        if not self.groups or chance < self.config.synthetic_share:
            texture = None
            if self.groups and generator.random() < self.config.textured:
                texture = _texture(self._case(generator).image, generator)
            return _synthetic(texture, generator)
        if chance < self.config.synthetic_share + self.config.unnamed_share:
            return self._unnamed(generator)
        case = self._case(generator)
        label = int(generator.choice(list(case.tasks), p=self._shares(case)))
        lo, hi, _ = case.tasks[label]
        return Structure(case.image, case.labels, label, lo, hi, case.spacing_mm)

    def _unnamed(self, generator: np.random.Generator) -> Structure:
        """Stable regions of some case's image; every data set is as likely."""
        while True:
            group = self.groups[int(generator.integers(len(self.groups)))]
            case = group[int(generator.integers(len(group)))]
            view = draw_view(case.image, case.spacing_mm, generator)
            structure = draw_structure(view.image, generator)
            if structure is not None:
                labels = structure.view(np.uint8)
                (slices,) = ndimage.find_objects(labels)
                lo, hi = (s.start for s in slices), (s.stop - 1 for s in slices)
                z0, y0, x0 = lo
                z1, y1, x1 = hi
                return Structure(view.image, labels, 1, (z0, y0, x0), (z1, y1, x1), view.spacing_mm)

    def _case(self, generator: np.random.Generator) -> TrainingCase:
        group = self.groups[int(generator.choice(len(self.groups), p=self.group_share))]
        return group[int(generator.integers(len(group)))]

    def _shares(self, case: TrainingCase) -> NDArray[np.float64]:
        """How often each structure of a case is drawn: more often if it fills little of its box."""
        emphasis, weights = self.config.emphasis, []
        for label, (lo, hi, voxels) in case.tasks.items():
            filled = voxels / np.prod([b - a + 1 for a, b in zip(lo, hi, strict=True)])
            asked = emphasis.get(f"{case.case.dataset}:{label}", 1.0)
            weights.append(asked * filled**-HARDNESS)
        return np.array(weights) / sum(weights)


def _texture(image: Voxels, generator: np.random.Generator) -> NDArray[np.float32]:
    """A random part of a real image, as large as a phantom or stretched to that."""
    part, places = [], []
    for n, wanted in zip(image.shape, PHANTOM_SHAPE, strict=True):
        side = min(n, wanted)
        first = int(generator.integers(n - side + 1))
        part.append(slice(first, first + side))
        places.append(np.arange(wanted) * side // wanted)
    z, y, x = part
    return image[z, y, x][np.ix_(*places)].astype(np.float32)


def _synthetic(texture: NDArray[np.float32] | None, generator: np.random.Generator) -> Structure:
    """A phantom and one of its structures, rather a hard one."""
    labels, hard = draw_phantom(PHANTOM_SHAPE, generator)
    counts = np.bincount(labels.ravel())
    large = [label for label in range(1, len(counts)) if counts[label] >= MIN_CELLS]
    if generator.random() < HARD_SHARE:
        large = [label for label in hard if label in large] or large
    if not large:
        return _synthetic(texture, generator)
    label = large[generator.integers(len(large))]
    z, y, x = ndimage.find_objects(labels, label)[label - 1]
    image = phantom_image(labels, generator, texture)
    lo, hi = (z.start, y.start, x.start), (z.stop - 1, y.stop - 1, x.stop - 1)
    return Structure(image, labels, label, lo, hi, (1.0, 1.0, 1.0))
