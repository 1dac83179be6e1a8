"""Shards: many cases in one file, of which only the parts that are asked for are ever read.

    shard-0000.safetensors
      header    what every case is, its structures, the licences: opening reads no voxel
      0.image   uint8, the voxels of case 0 in C order
      0.runs    uint32 (2, n), its labels as runs: where each ends, and its value

The file is plain safetensors without pickles. An image is read through the page cache of the
system and labels become dense within a crop only, so a data set may be far larger than memory.

Source: the paper, section 3.2 (sparse ground truth, dense only where it is computed with).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import MANIFEST, Case
from segvol_gru.errors import InputError
from segvol_gru.prompts import Index

FORMAT = "segvol-gru shard 1"
PATTERN = "shard-*.safetensors"
HEADER_LIMIT = 100_000_000  # as safetensors has it
Part = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The voxels of a case in a shard: (D, H, W) uint8, read by parts."""

    path: Path
    offset: int
    shape: Index

    def __getitem__(self, part: Part, /) -> NDArray[np.uint8]:
        """Read a part, in memory of its own."""
        # Mapped anew each time: an open map would be copied whole into loading processes.
        voxels = np.memmap(self.path, np.uint8, "r", self.offset, self.shape)
        return np.array(voxels[part])


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """The label map of a case in a shard: (D, H, W) uint32, decoded by parts."""

    path: Path
    offset: int
    runs: int
    shape: Index

    def __getitem__(self, part: Part, /) -> NDArray[np.uint32]:
        """Decode a part."""
        ends, values = np.memmap(self.path, "<u4", "r", self.offset, (2, self.runs))
        _, height, width = self.shape
        (z0, z1, _), (y0, y1, _), (x0, x1, _) = (
            s.indices(n) for s, n in zip(part, self.shape, strict=True)
        )
        out = np.empty((max(z1 - z0, 0), max(y1 - y0, 0), max(x1 - x0, 0)), np.uint32)
        for plane, z in zip(out, range(z0, z1), strict=True):
            first = (z * height + y0) * width
            rows = _decoded(ends, values, first, first + plane.shape[0] * width)
            plane[:] = rows.reshape(-1, width)[:, x0:x1]
        return out


def _decoded(
    ends: NDArray[np.uint32], values: NDArray[np.uint32], start: int, stop: int
) -> NDArray[np.uint32]:
    """Labels of the flat range [start, stop)."""
    if stop <= start:
        return np.empty(0, np.uint32)
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(ends, stop, side="left")) + 1
    until = np.minimum(ends[first:last].astype(np.int64), stop)
    return np.repeat(values[first:last], np.diff(until, prepend=start))


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A case in a shard; like `dataset.LoadedCase`, without its arrays in memory.

    Attributes:
        case: its manifest row; `file` is its name below the shard's path.
        image: (D, H, W) uint8.
        labels: (D, H, W) unsigned.
        spacing_mm: voxel size along (D, H, W).
        tasks: label -> (first voxel, last voxel inclusive, voxels).
    """

    case: Case
    image: StoredImage
    labels: StoredLabels
    spacing_mm: tuple[float, float, float]
    tasks: Mapping[int, tuple[Index, Index, int]]


def has_shards(folder: Path) -> bool:
    """Whether a folder holds shards and no manifest."""
    return not (folder / MANIFEST).is_file() and any(folder.glob(PATTERN))


def open_shards(folder: Path) -> list[StoredCase]:
    """All cases of a folder's shards, without reading a voxel.

    Raises:
        InputError: there are none, or one is damaged.
    """
    cases = [case for path in _paths(folder) for case in _open(path)]
    if not cases:
        raise InputError(f"{folder} holds no {PATTERN}; make them with `segvol-gru pack`.")
    return cases


def licences(folder: Path) -> dict[str, dict[str, str]]:
    """What the shards say of their data sets: modality_dataset -> licence, citation."""
    said: dict[str, dict[str, str]] = {}
    for path in _paths(folder):
        said |= json.loads(_header(path)[0]["__metadata__"]["datasets"])
    return said


def _paths(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob(PATTERN))


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """A shard's header and where its data begin."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEADER_LIMIT:
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, Any] = json.loads(file.read(length))
        if header["__metadata__"]["format"] != FORMAT:
            raise ValueError("another format")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise InputError(f"{path} is no shard of ours ({error}); pack it again.") from None
    return header, 8 + length


def _open(path: Path) -> list[StoredCase]:
    header, start = _header(path)
    size = path.stat().st_size - start
    try:
        rows = json.loads(header["__metadata__"]["cases"])
        return [_case(path, header, start, size, key, row) for key, row in enumerate(rows)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}); pack it again.") from None


def _case(
    path: Path, header: Mapping[str, Any], start: int, size: int, key: int, row: Mapping[str, Any]
) -> StoredCase:
    """One case; its tensors must lie in the file and have the sizes that its row says."""
    d, h, w = (int(n) for n in row["shape"])
    image, runs = header[f"{key}.image"], header[f"{key}.runs"]
    count = int(runs["shape"][1])
    for tensor, kind, least in ((image, "U8", d * h * w), (runs, "U32", 8 * count)):
        begin, end = tensor["data_offsets"]
        if tensor["dtype"] != kind or not (begin >= 0 and begin + least <= end <= size):
            raise ValueError(f"case {key} lies outside the file")
    case = Case(
        path / str(row["name"]),
        str(row["modality"]),
        str(row["dataset"]),
        str(row["subject"]),
        str(row["split"]),
        str(row["licence_class"]),
        bool(row["instances"]),
    )
    a, b, c = (float(mm) for mm in row["spacing"])
    return StoredCase(
        case,
        StoredImage(path, start + image["data_offsets"][0], (d, h, w)),
        StoredLabels(path, start + runs["data_offsets"][0], count, (d, h, w)),
        (a, b, c),
        {int(label): _task(task) for label, task in row["tasks"].items()},
    )


def _task(values: Any) -> tuple[Index, Index, int]:
    (z0, y0, x0), (z1, y1, x1), voxels = values
    return (z0, y0, x0), (z1, y1, x1), voxels
