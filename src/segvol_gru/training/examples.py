"""Training examples: one structure in a region of cells, with its first prompt.

Example i is a pure function of (seed, i): the order of the data needs no state, a run resumes
exactly, and ranks take every n-th index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from segvol_gru.data.dataset import Case, LoadedCase, group_by_dataset
from segvol_gru.data.phantoms import phantom_image, phantom_labels
from segvol_gru.prompts import Index
from segvol_gru.training.draw import Example, ExampleConfig, Structure, Voxels, draw_example

PHANTOM_SHAPE = (72, 72, 72)
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
    """

    def __init__(
        self, cases: Sequence[TrainingCase], config: ExampleConfig, seed: int, length: int
    ) -> None:
        self.config, self.seed, self.length = config, seed, length
        rows = cast("list[LoadedCase]", list(cases))  # grouping does not look at the arrays
        self.groups: list[Sequence[TrainingCase]] = list(group_by_dataset(rows).values())
        weights = np.sqrt([2.0 + sum(len(c.tasks) for c in g) for g in self.groups])
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
        if not self.groups or generator.random() < self.config.synthetic_share:
            return _synthetic(generator)
        group = self.groups[int(generator.choice(len(self.groups), p=self.group_share))]
        case = group[int(generator.integers(len(group)))]
        label = list(case.tasks)[generator.integers(len(case.tasks))]
        lo, hi, _ = case.tasks[label]
        return Structure(case.image, case.labels, label, lo, hi, case.spacing_mm)


def _synthetic(generator: np.random.Generator) -> Structure:
    """A phantom and one of its structures."""
    labels = phantom_labels(PHANTOM_SHAPE, generator)
    present, counts = np.unique(labels[labels > 0], return_counts=True)
    large = present[counts >= MIN_CELLS]
    if not len(large):
        return _synthetic(generator)
    label = int(generator.choice(large))
    z, y, x = np.nonzero(labels == label)
    lo, hi = (int(z.min()), int(y.min()), int(x.min())), (int(z.max()), int(y.max()), int(x.max()))
    return Structure(phantom_image(labels, generator), labels, label, lo, hi, (1.0, 1.0, 1.0))
