"""Packing a training folder into shards below a given size (see `shards` for the form)."""

from __future__ import annotations

import json
import shutil
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segvol_gru.data.dataset import Case, LoadedCase, load_case
from segvol_gru.data.files import make_folder, whole_file
from segvol_gru.data.shards import FORMAT, has_shards
from segvol_gru.data.sparse import SparseMask
from segvol_gru.errors import InputError

ALIGN = 8  # bytes; runs are read as 32-bit numbers where they lie
TENSOR_BYTES = 300  # of the header, for the two tensors of a case, at most
FIXED_BYTES = 4096  # of the header, for everything but cases and licences
Watch = Callable[[int, int], None]  # cases done, cases in all


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed.

    Attributes:
        shards: file -> cases in it.
        left: cases that the wished number of shards had no room for.
        faults: case -> why it was left out.
    """

    shards: dict[Path, int]
    left: int
    faults: dict[str, str]


def pack(
    cases: Sequence[Case],
    out: Path,
    max_bytes: int,
    *,
    said: dict[str, dict[str, str]] | None = None,
    most: int | None = None,
    seed: int = 2025,
    watch: Watch | None = None,
) -> Packed:
    """Write cases as shards, each complete in itself.

    Cases are shuffled and every data set is spread evenly over the shards: each is a fair
    sample of the whole, and one alone is a core set.

    Args:
        cases: rows of a manifest.
        out: folder without shards, made if absent.
        max_bytes: no shard is larger.
        said: modality_dataset -> licence and citation, kept in the shards.
        most: stop after so many shards.
        seed: of the shuffling.
        watch: told after every case.

    Raises:
        InputError: there are shards already, or not one case fits.
    """
    make_folder(out)
    if has_shards(out):
        raise InputError(f"{out} holds shards already; give a new folder as --out.")
    shards: dict[Path, int] = {}
    faults: dict[str, str] = {}
    waiting = dealt(cases, seed)
    while waiting and (most is None or len(shards) < most):
        path = out / f"shard-{len(shards):04d}.safetensors"
        with whole_file(path) as fresh:
            shard = _Shard(fresh, max_bytes, said or {})
            for _ in _fill(shard, waiting, faults):
                shards[path] = len(shard.rows)
                if watch is not None:
                    watch(len(cases) - len(waiting), len(cases))
            shard.close()
    if not shards:
        name, why = next(iter(faults.items()), ("", "there are none"))
        raise InputError(f"no case could be packed; {name}: {why}")
    return Packed(shards, len(waiting), faults)


def _fill(shard: _Shard, waiting: list[Case], faults: dict[str, str]) -> Iterator[Case]:
    """Move cases from the end of the list into a shard until one does not fit."""
    while waiting:
        case = waiting[-1]
        try:
            fits = shard.add(load_case(case))
        except InputError as error:
            faults[case.file.name] = str(error)
        else:
            if not fits and shard.rows:
                return
            if not fits:
                faults[case.file.name] = f"it alone is larger than {shard.max_bytes} bytes"
        waiting.pop()
        if case.file.name not in faults:
            yield case


class _Shard:
    """A shard being written: voxels go to a file beside it, since the header comes first."""

    def __init__(self, path: Path, max_bytes: int, said: dict[str, dict[str, str]]) -> None:
        self.path, self.max_bytes, self.said = path, max_bytes, said
        self.rows: list[dict[str, Any]] = []
        self._tensors: dict[str, Any] = {}
        self._data = path.with_suffix(".data").open("w+b")
        self._header_bytes = FIXED_BYTES + len(json.dumps(json.dumps(said)))

    def add(self, loaded: LoadedCase) -> bool:
        """Append a case if it fits."""
        row = _row(loaded)
        image = np.ascontiguousarray(loaded.image).reshape(-1)
        image = np.pad(image, (0, -image.size % ALIGN))
        mask = SparseMask.of(loaded.labels)
        runs = np.stack([np.cumsum(mask.lengths, dtype=np.uint64), mask.values]).astype("<u4")
        header_bytes = self._header_bytes + len(json.dumps(json.dumps(row))) + TENSOR_BYTES
        if header_bytes + self._data.tell() + image.nbytes + runs.nbytes > self.max_bytes:
            return False
        for name, array, kind in (("image", image, "U8"), ("runs", runs, "U32")):
            begin = self._data.tell()
            self._data.write(array.tobytes())
            self._tensors[f"{len(self.rows)}.{name}"] = {
                "dtype": kind,
                "shape": list(array.shape),
                "data_offsets": [begin, self._data.tell()],
            }
        self.rows.append(row)
        self._header_bytes = header_bytes
        return True

    def close(self) -> None:
        """Write the file, if there are cases."""
        with self._data as data:
            if self.rows:
                notes = {
                    "format": FORMAT,
                    "cases": json.dumps(self.rows),
                    "datasets": json.dumps(self.said),
                }
                header = json.dumps({"__metadata__": notes, **self._tensors}).encode()
                header += b" " * (-len(header) % ALIGN)
                data.seek(0)
                with self.path.open("wb") as file:
                    file.write(struct.pack("<Q", len(header)) + header)
                    shutil.copyfileobj(data, file, 2**24)
        Path(data.name).unlink()


def _row(loaded: LoadedCase) -> dict[str, Any]:
    """What the header says of a case."""
    case = loaded.case
    return {
        "name": case.file.name,
        "modality": case.modality,
        "dataset": case.dataset,
        "subject": case.subject,
        "split": case.split,
        "licence_class": case.licence_class,
        "instances": case.instances,
        "shape": list(loaded.image.shape),
        "spacing": list(loaded.spacing_mm),
        "tasks": {str(label): list(task) for label, task in loaded.tasks.items()},
    }


def dealt(cases: Sequence[Case], seed: int) -> list[Case]:
    """Shuffle each data set and spread it evenly; the first to pack comes last."""
    generator = np.random.default_rng(seed)
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.file.name):
        groups[case.dataset].append(case)
    places = []
    for group in groups.values():
        for rank, at in enumerate(generator.permutation(len(group))):
            places.append(((rank + 0.5) / len(group), group[at]))
    return [case for _, case in sorted(places, key=lambda item: -item[0])]


def said_in(folder: Path) -> dict[str, dict[str, str]]:
    """The `datasets.json` of a folder: modality_dataset -> licence, citation; often empty."""
    path = folder / "datasets.json"
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: {key: str(row.get(key, "")) for key in ("licence", "citation")}
        for name, row in found.items()
    }
