"""What is asked of a segmenter: tasks, and the first prompt of each.

A task is one label of one case with at least 50 voxels; where labels are object numbers, the 12
largest objects of a case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from segvol_gru.data.dataset import Case, LoadedCase
from segvol_gru.errors import InputError
from segvol_gru.evaluation.foreign import PREFIX
from segvol_gru.evaluation.inputs import Boxed, find_cases, load
from segvol_gru.evaluation.records import Record
from segvol_gru.prompts import Box, Index
from segvol_gru.simulate import BoolArray, challenge_box, jittered_box

Start = Literal[
    "tight",
    "challenge",
    "flat",
    "none",
    "alternate",
    "foreign:region-growing",
    "foreign:threshold",
    "foreign:low-resolution",
]


@dataclass(frozen=True, slots=True)
class Options:
    """How the protocol is run."""

    start: Start = "alternate"
    """First prompt. `tight`: smallest box. `challenge`: competition box, the case's own where it
    comes with one. `flat`: rectangle on the largest slice. `none`: a click. `alternate`: tasks
    with an even number get a competition box, the others a click. `foreign:...`: the mask of
    another tool (see `foreign`)."""

    jitter: float = 0.0
    """Every face of a box is moved by up to this share of the side."""

    random_clicks: bool = False
    """Click on any voxel of the largest error instead of the deepest one."""

    split: str = "val"
    """Which split of the manifest; folders without a manifest have none."""

    datasets: tuple[str, ...] = ()
    """Data sets to run; none named means all. Task numbers do not depend on it."""

    most: int | None = None
    """At most so many tasks of each data set, spread evenly over its numbers; None for all."""

    seed: int = 2025
    """Of the boxes, the jitter and the random clicks."""

    workers: int = 1
    """Processes on this machine, each with a segmenter of its own."""

    def __post_init__(self) -> None:
        if self.start not in get_args(Start):
            raise InputError(
                f"start is {self.start!r}, wanted one of {', '.join(get_args(Start))}."
            )
        if self.most is not None and self.most < 1:
            raise InputError(f"most is {self.most}, wanted 1 or more tasks a data set, or None.")
        if not 0 <= self.jitter <= 1:
            raise InputError(f"jitter is {self.jitter}, wanted a share from 0 to 1 of the side.")
        if self.workers < 1:
            raise InputError(f"workers is {self.workers}, wanted 1 or more processes.")

    @property
    def foreign(self) -> str:
        """A key of `FOREIGN` where masks of another tool are started from, else empty."""
        return self.start.removeprefix(PREFIX) if self.start.startswith(PREFIX) else ""


@dataclass(frozen=True, slots=True)
class Task:
    """One label and its first prompt.

    Attributes:
        number: place among all tasks of the split, by case and label.
        label: value in the label map.
        voxels: size of the structure.
        box: the box to start from, None to start from a click.
    """

    number: int
    label: int
    voxels: int
    box: Box | None


def plan(data: Path, options: Options) -> Iterator[tuple[Case, list[Task] | Record]]:
    """List the cases of a split in order of file names, each with its tasks.

    Boxes are drawn here, in order of the tasks and from one stream of chance, so that they do
    not depend on how cases are later dealt out to processes.

    Yields:
        A case and its tasks, or a record that names the fault of a case that cannot be read.

    Raises:
        InputError: the folder has no known form, or no case of the split (and data sets) asked
            for.
    """
    cases = find_cases(data, options.split)
    unknown = set(options.datasets) - {case.dataset for case in cases}
    if unknown or not cases:
        raise InputError(
            f"{data} has no cases of split {options.split!r}"
            + (f" and data set {', '.join(sorted(unknown))}" if unknown else "")
            + ", wanted a split and data sets of its manifest.csv."
        )
    generator = np.random.default_rng(options.seed)
    number = 0
    for case in cases:
        try:
            loaded = load(case)
        except Exception as error:  # a damaged file fails in many ways and must not stop the rest
            tasks: list[Task] | Record = blank_record(case, describe(error))
        else:
            tasks = []
            for label in loaded.tasks:
                box = _first_box(loaded, label, number, options, generator)
                tasks.append(Task(number, label, loaded.tasks[label][2], box))
                number += 1
        if not options.datasets or case.dataset in options.datasets:
            yield case, tasks


def thinned(
    planned: Iterable[tuple[Case, list[Task] | Record]], most: int | None
) -> list[tuple[Case, list[Task] | Record]]:
    """Keep at most so many tasks of each data set, evenly spread; all if None."""
    entries = list(planned)
    if most is None:
        return entries
    numbers: dict[str, list[int]] = defaultdict(list)
    for case, tasks in entries:
        if not isinstance(tasks, Record):
            numbers[case.dataset] += [task.number for task in tasks]
    kept = {
        n if len(all_) <= most else all_[i * len(all_) // most]
        for all_ in numbers.values()
        for i, n in enumerate(all_[:most])
    }
    return [
        (case, tasks if isinstance(tasks, Record) else [t for t in tasks if t.number in kept])
        for case, tasks in entries
    ]


def blank_record(case: Case, error: str = "") -> Record:
    """A record without scores; with an error, that of a case that could not be read."""
    return Record(
        case=case.file.stem,
        dataset=case.dataset,
        modality=case.modality,
        licence_class=case.licence_class,
        subject=case.subject,
        error=error,
    )


def describe(error: Exception) -> str:
    """An error's kind and words, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _first_box(
    loaded: LoadedCase, label: int, number: int, options: Options, generator: np.random.Generator
) -> Box | None:
    kind = options.start
    if kind == "alternate":
        kind = "none" if number % 2 else "challenge"
    if kind == "none":
        return None
    shape: Index = loaded.labels.shape
    mask = loaded.labels == label
    lo, hi, _ = loaded.tasks[label]
    if kind == "challenge":
        own = loaded.boxes.get(label) if isinstance(loaded, Boxed) else None
        box = own or challenge_box(mask, generator)
    elif kind == "flat":
        box = flat_box(mask, loaded.spacing_mm)
    else:
        box = Box(lo, hi)
    return jittered_box(box, shape, options.jitter, generator) if options.jitter else box


def flat_box(mask: BoolArray, spacing_mm: tuple[float, float, float]) -> Box:
    """A rectangle drawn on the slice with most voxels, lifted to 3-D.

    Args:
        mask: (D, H, W) bool, not empty.
        spacing_mm: voxel size along (D, H, W) in mm.
    """
    slice_z = int(np.argmax(np.count_nonzero(mask, axis=(1, 2))))
    y, x = np.nonzero(mask[slice_z])
    lo, hi = (slice_z, int(y.min()), int(x.min())), (slice_z, int(y.max()), int(x.max()))
    if lo[1] == hi[1] or lo[2] == hi[2]:
        return Box(lo, hi, (False, True, True))  # a line: no depth can be guessed from it
    shape: Index = mask.shape
    return Box.lifted(lo, hi, shape, spacing_mm)
