"""Examples for SegVol: a view of a volume and one class of it, as the paper draws them.

    volume ─► ForegroundNorm, foreground crop ─► patch around the class, 3 : 1, or all of it resized
           ─► flips ─► intensities ─► competition box

Example i is a pure function of (seed, i). Classes take turns: every one is shown once, then all of
them again in a new order.

Source: the paper, section 3.2 and Table 2; MONAI's transforms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from monai.transforms.compose import Compose, OneOf
from monai.transforms.croppad.dictionary import RandCropByPosNegLabeld, SpatialPadd
from monai.transforms.intensity.dictionary import RandScaleIntensityd, RandShiftIntensityd
from monai.transforms.spatial.dictionary import RandFlipd, Resized
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from segvol_gru.base.ask import EMPTY
from segvol_gru.data.preprocess import foreground_crop
from segvol_gru.errors import InputError
from segvol_gru.prompts import Index
from segvol_gru.simulate import challenge_box
from segvol_gru.training.examples import TrainingCase

CLASS_STREAM = 6  # first word of the seed of the order of classes
WHOLE = (slice(None), slice(None), slice(None))
KEYS = ("image", "target")


class View(TypedDict):
    """One training example."""

    image: Tensor  # (1, D, H, W) float32, about 0..1
    target: Tensor  # (1, D, H, W) float32 in {0, 1}; may be empty in a patch beside the class
    box: Tensor  # (6,) float32 corners in voxels of the view, the larger inclusive; -1 if empty
    index: Tensor  # () int64: which example this is; seeds its clicks


@dataclass(frozen=True)
class ViewConfig:
    """How views are drawn."""

    patch: float = 3.0
    """Weight of cutting a patch at full resolution (RandCropByPosNegLabel)."""
    whole: float = 1.0
    """Weight of resizing the whole foreground."""
    positive: float = 3.0
    """Weight of patches centred on the class."""
    negative: float = 1.0
    """Weight of patches centred beside it."""
    flip: float = 0.2
    """Share of views mirrored, for each axis."""
    scale: float = 0.2
    """Intensities are multiplied by up to 1 plus or minus this ..."""
    shift: float = 0.2
    """... and moved by up to this share of their range, ..."""
    intensity_share: float = 0.2
    """... each in this share of the views."""


class _Class(NamedTuple):
    """A kind of structure: a label of a data set, or the objects of one with instances."""

    dataset: str
    label: int | None
    cases: list[TrainingCase]


class Views(Dataset[View]):
    """An endless, indexable source of views.

    Args:
        cases: real cases, in memory or in shards.
        config: how to draw.
        frame: (D, H, W) of a view.
        seed: the same seed gives the same views.

    Raises:
        InputError: no case has a structure.
    """

    def __init__(
        self, cases: Sequence[TrainingCase], config: ViewConfig, frame: Index, seed: int
    ) -> None:
        self.seed = seed
        self.classes = _classes(cases)
        if not self.classes:
            raise InputError("no case has a structure; SegVol needs real cases to train on.")
        self._transform = view_transform(config, frame)

    def __getitem__(self, index: int) -> View:
        """Draw view `index`."""
        generator = np.random.default_rng([self.seed, index])
        kind = self.class_of(index)
        while True:
            case = kind.cases[int(generator.integers(len(kind.cases)))]
            label = kind.label
            if label is None:
                label = list(case.tasks)[int(generator.integers(len(case.tasks)))]
            image, target = normalised(case, label)
            drawn = self._draw(image, target, generator)
            if drawn is not None:
                view, mask = drawn
                box = _box(mask, generator)
                return {"image": view, "target": mask, "box": box, "index": torch.tensor(index)}

    def class_of(self, index: int) -> _Class:
        """The class that view `index` shows: every class once, then again in a new order."""
        turn, place = divmod(index, len(self.classes))
        order = np.random.default_rng([CLASS_STREAM, self.seed, turn])
        return self.classes[int(order.permutation(len(self.classes))[place])]

    def _draw(
        self, image: NDArray[np.float32], target: NDArray[np.bool_], generator: np.random.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """A view and its target; None where resizing has lost a small structure."""
        self._transform.set_random_state(seed=int(generator.integers(2**31)))
        given = {"image": torch.from_numpy(image)[None], "target": torch.from_numpy(target)[None]}
        given["target"] = given["target"].float()
        found: Any = self._transform(given)
        view = found[0] if isinstance(found, list) else found
        picture, mask = (torch.as_tensor(view[key]).float().contiguous() for key in KEYS)
        whole = not isinstance(found, list)
        return None if whole and not mask.any() else (picture, mask)


def normalised(case: TrainingCase, label: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A case as SegVol sees it: (D, H, W) float32 in [0, 1] and the mask of one label.

    Cut to the foreground, or where the structure reaches beyond it to both.
    """
    crop = foreground_crop(case.image[WHOLE])
    lo, hi, _ = case.tasks[label]
    low = [min(a, b) for a, b in zip(lo, crop.start, strict=True)]
    high = [max(a + 1, b) for a, b in zip(hi, crop.end, strict=True)]
    part = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
    return crop.paste(crop.image, 0.0)[part].copy(), case.labels[part] == label


def view_transform(config: ViewConfig, frame: Index) -> Compose:
    """MONAI's transforms for dictionaries of `image` and `target`, each (1, D, H, W)."""
    patch = Compose(
        [
            SpatialPadd(KEYS, frame),
            RandCropByPosNegLabeld(
                KEYS, "target", frame, config.positive, config.negative, num_samples=1
            ),
        ]
    )
    whole = Resized(KEYS, frame, mode=("area", "nearest-exact"))
    return Compose(
        [
            OneOf([patch, whole], weights=(config.patch, config.whole)),
            *(RandFlipd(KEYS, prob=config.flip, spatial_axis=axis) for axis in range(3)),
            RandScaleIntensityd("image", factors=config.scale, prob=config.intensity_share),
            RandShiftIntensityd("image", offsets=config.shift, prob=config.intensity_share),
        ]
    )


def _classes(cases: Sequence[TrainingCase]) -> list[_Class]:
    found: dict[tuple[str, int | None], list[TrainingCase]] = defaultdict(list)
    for case in cases:
        labels = {None} if case.case.instances and case.tasks else set(case.tasks)
        for label in labels:
            found[case.case.dataset, label].append(case)
    order = sorted(found, key=lambda key: (key[0], key[1] or 0))
    return [_Class(dataset, label, found[dataset, label]) for dataset, label in order]


def _box(mask: Tensor, generator: np.random.Generator) -> Tensor:
    """The competition's box of a target, as corners; -1 six times for an empty one."""
    target = mask[0].numpy() > 0.5
    if not target.any():
        return torch.tensor(EMPTY, dtype=torch.float32)
    box = challenge_box(target, generator)
    return torch.tensor([*box.lo, *box.hi], dtype=torch.float32)
