"""Cases of any data folder as the competition would pose them.

Competition files are posed as they are, with the boxes that came with them. Other cases get what
the competition's preparation gives: labels renumbered from 1, and a box for each.

Source: challenge-protocol sections 1 and 3.1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.challenge import PREFIXES
from segvol_gru.data.dataset import Case
from segvol_gru.data.npz import read_npz
from segvol_gru.errors import InputError
from segvol_gru.evaluation.folder import BoxRecord, Spacing, box_record
from segvol_gru.evaluation.inputs import Competition, find_cases, load
from segvol_gru.simulate import BoolArray, challenge_box


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A case in memory.

    Attributes:
        name: of its files; the prefix says the modality.
        image: (D, H, W) uint8.
        gts: (D, H, W) labels, 0 = background.
        values: the labels as they are in the data folder, ascending.
        spacing_mm: voxel size along (D, H, W).
        boxes: one per label, ascending; none if a competition file has none.
    """

    name: str
    image: NDArray[np.uint8]
    gts: NDArray[Any]
    values: tuple[int, ...]
    spacing_mm: Spacing
    boxes: tuple[BoxRecord, ...]


Numbered = tuple[int, Case]  # place among all cases of the split


def chosen_cases(
    data: Path, split: str, datasets: Sequence[str], most: int | None
) -> list[Numbered]:
    """Cases of a folder with their places, which do not depend on what is left out.

    Args:
        data: a folder of any form of `inputs`.
        split: of the manifest.
        datasets: only these; all if empty.
        most: at most so many cases of each data set, evenly spread; all if None.

    Raises:
        InputError: no known form, or no such cases.
    """
    groups: dict[str, list[Numbered]] = defaultdict(list)
    for place, case in enumerate(find_cases(data, split)):
        groups[case.dataset].append((place, case))
    unknown = sorted(set(datasets) - set(groups))
    if unknown or not groups:
        raise InputError(
            f"{data} has no cases of split {split!r}"
            + (f" and data set {', '.join(unknown)}" if unknown else "")
            + f"; it has the data sets {', '.join(sorted(groups)) or 'of other splits'}."
        )
    kept: list[Numbered] = []
    for name, group in groups.items():
        if not datasets or name in datasets:
            count = len(group) if most is None else min(most, len(group))
            kept += [group[i * len(group) // count] for i in range(count)]
    return sorted(kept)


def file_name(case: Case) -> str:
    """Name of a case's files in the competition, without ending."""
    name = case.file.name.removesuffix(".npz").split(".nii")[0]
    known = any(name.startswith(prefix) for prefix in PREFIXES)
    return name if known else f"{case.modality or 'CT'}_{name}"


def pose(case: Case, generator: np.random.Generator) -> Entry:
    """Read a case.

    Args:
        case: of any form of `inputs`.
        generator: draws the boxes of a case that is no competition file.

    Raises:
        InputError: it cannot be read, or holds no labels.
    """
    loaded = load(case)
    values = tuple(int(v) for v in np.unique(loaded.labels) if v > 0)
    if not values:
        raise InputError(f"{case.file.name} holds no labels, wanted one at least.")
    gts, boxes = loaded.labels, tuple[BoxRecord, ...]()
    if isinstance(case, Competition):
        boxes = tuple(read_npz(case.file, ("boxes",)).get("boxes", ()))
    else:
        kind = np.uint8 if len(values) < 256 else np.uint16
        gts = np.where(gts > 0, np.searchsorted(values, gts) + 1, 0).astype(kind)
        boxes = tuple(_drawn(gts == k + 1, generator) for k in range(len(values)))
    return Entry(file_name(case), loaded.image, gts, values, loaded.spacing_mm, boxes)


def _drawn(mask: BoolArray, generator: np.random.Generator) -> BoxRecord:
    """A competition box of a (D, H, W) mask, with the slice that its rectangle is of."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    return {**box_record(challenge_box(mask, generator)), "z_mid": int(slices[len(slices) // 2])}
