"""Training and evaluation cases: a folder with `cases/*.npz` and `manifest.csv`."""

from __future__ import annotations

import csv
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError

MIN_TASK_VOXELS = 50  # smaller structures are not a task
MANIFEST = "manifest.csv"
MAX_INSTANCES = 12  # tasks of a case whose labels are object numbers


class Voxels(Protocol):
    """A (D, H, W) array in memory or in a file; a part of it is read by slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H, W)."""

    def __getitem__(self, part: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Read a part."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the manifest."""

    file: Path
    modality: str
    dataset: str
    subject: str
    split: str
    licence_class: str
    instances: bool


@dataclass(slots=True)
class LoadedCase:
    """A case in memory.

    Attributes:
        case: its manifest row.
        image: (D, H, W) uint8.
        labels: (D, H, W) integer.
        spacing_mm: voxel size along (D, H, W).
        tasks: label -> (first voxel, last voxel inclusive, voxels).
    """

    case: Case
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    spacing_mm: tuple[float, float, float]
    tasks: dict[int, tuple[tuple[int, int, int], tuple[int, int, int], int]] = field(
        default_factory=dict
    )


def read_manifest(folder: Path) -> list[Case]:
    """List the cases of a data folder.

    Raises:
        InputError: there is no manifest, a column is missing, or a row is cut short.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder} has no {MANIFEST}; give a data folder made by `prepare`.")
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    short = next((n for n, row in enumerate(rows, start=1) if None in row.values()), None)
    if short is not None:
        raise InputError(f"row {short} of {path} has too few cells; write one for every column.")
    try:
        return [
            Case(
                folder / row["file"],
                row["modality"],
                row["dataset"],
                row["subject"],
                row["split"],
                row["licence_class"],
                row["labels"] == "instances",
            )
            for row in rows
        ]
    except KeyError as missing:
        raise InputError(f"{path} lacks the column {missing}.") from missing


def load_case(case: Case) -> LoadedCase:
    """Read one case and find its tasks (labels of at least 50 voxels, instances: 12 largest).

    Raises:
        InputError: the file is missing, damaged, or its arrays do not fit together.
    """
    try:
        with case.file.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            image, labels = data["imgs"], data["gts"]
            spacing = tuple(float(s) for s in data["spacing"])
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise InputError(f"{case.file.name} cannot be read ({error}).") from error
    return with_tasks(case, image, labels, spacing)


def with_tasks(
    case: Case,
    image: NDArray[np.uint8],
    labels: NDArray[np.integer],
    spacing_mm: tuple[float, ...],
) -> LoadedCase:
    """A case whose arrays are at hand, with its tasks.

    Args:
        case: where it came from.
        image: (D, H, W) uint8.
        labels: (D, H, W) integer.
        spacing_mm: voxel size along (D, H, W).

    Raises:
        InputError: the arrays do not fit together.
    """
    if image.ndim != 3 or image.shape != labels.shape or len(spacing_mm) != 3:
        raise InputError(
            f"{case.file.name} has image {image.shape}, labels {labels.shape} and spacing "
            f"{spacing_mm}, wanted one 3-D shape and three numbers."
        )
    if image.dtype != np.uint8 or labels.dtype.kind not in "biu":
        raise InputError(
            f"{case.file.name} has an image of {image.dtype} and labels of {labels.dtype}, wanted "
            "uint8 and integers; convert it with `prepare`."
        )
    if not all(0 < mm < np.inf for mm in spacing_mm):
        raise InputError(f"{case.file.name} has spacing {spacing_mm}, wanted three above 0 mm.")
    found = _tasks(labels)
    if case.instances:
        largest = sorted(found, key=lambda k: (-found[k][2], k))[:MAX_INSTANCES]
        found = {k: found[k] for k in sorted(largest)}
    return LoadedCase(case, image, labels, spacing_mm, found)


def _tasks(
    labels: NDArray[np.integer],
) -> dict[int, tuple[tuple[int, int, int], tuple[int, int, int], int]]:
    """Bounding box and size of every label of at least 50 voxels."""
    flat = labels.ravel()
    at = np.flatnonzero(flat)
    if not len(at):
        return {}
    values = flat[at]
    order = np.argsort(values, kind="stable")
    present, starts = np.unique(values[order], return_index=True)
    found = {}
    for value, chunk in zip(present, np.split(at[order], starts[1:]), strict=True):
        if len(chunk) < MIN_TASK_VOXELS:
            continue
        zyx = np.unravel_index(chunk, labels.shape)
        lo, hi = [int(c.min()) for c in zyx], [int(c.max()) for c in zyx]
        found[int(value)] = ((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]), len(chunk))
    return found


def group_by_dataset(cases: list[LoadedCase]) -> dict[str, list[LoadedCase]]:
    """Cases that have a task, by data set name."""
    groups: dict[str, list[LoadedCase]] = defaultdict(list)
    for loaded in cases:
        if loaded.tasks:
            groups[loaded.case.dataset].append(loaded)
    return dict(groups)
