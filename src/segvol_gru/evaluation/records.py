"""What is kept of every task: one line of JSON, written as soon as the task is done."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from segvol_gru.errors import InputError
from segvol_gru.prompts import Index

ROWS = "rows-{rank}.jsonl"
NOTHING = (math.nan,) * 6

Six = tuple[float, float, float, float, float, float]
Corners = tuple[Index, Index]


@dataclass(frozen=True, slots=True)
class Record:
    """One task: one label of one case.

    Lists of six hold the value after the box (NaN where there was none) and after clicks 1-5.

    Attributes:
        case: file name without ending.
        dataset: name of the data set.
        modality: CT, MR, PET, US or Microscopy.
        licence_class: open or research.
        subject: whose scan it is; one subject may have several cases.
        label: value in the label map; 0 where the case itself could not be read.
        number: place of the task among all tasks of the split, by case and label.
        voxels: size of the structure.
        spacing: voxel size in mm along (D, H, W).
        box: first and last voxel of the box given, None without box.
        clicks: five entries (z, y, x, 1 foreground / 0 background), None where none was given.
        dsc: Dice similarity.
        nsd: surface Dice at 2 mm; NaN for microscopy, whose voxels are far smaller than that.
        seconds: time from the prompt to the mask; NaN where none was given.
        peak_mb: most memory that the process had held until then, in MiB.
        error: what went wrong, empty if nothing. Scores that were not reached are 0.
    """

    case: str
    dataset: str
    modality: str
    licence_class: str
    subject: str
    label: int = 0
    number: int = -1
    voxels: int = 0
    spacing: tuple[float, ...] = ()
    box: Corners | None = None
    clicks: tuple[tuple[int, int, int, int] | None, ...] = (None,) * 5
    dsc: Six = NOTHING
    nsd: Six = NOTHING
    seconds: Six = NOTHING
    peak_mb: float = math.nan
    error: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Names the task among all."""
        return self.case, self.label

    def to_json(self) -> str:
        """One line without line break; NaN is written as null."""
        return json.dumps(nan_to_none(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Read a line back.

        Raises:
            ValueError: the line is not a record, for instance cut off by a power failure.
        """
        values = json.loads(line)
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError("not a record")
        for name in ("dsc", "nsd", "seconds"):
            values[name] = tuple(math.nan if v is None else v for v in values[name])
        if values["peak_mb"] is None:
            values["peak_mb"] = math.nan
        for name in ("box", "clicks"):
            if values[name] is not None:
                values[name] = tuple(v if v is None else tuple(v) for v in values[name])
        return cls(**{**values, "spacing": tuple(values["spacing"])})


def read_records(out: Path) -> list[Record]:
    """All records below a folder, the last one where a task was tried again.

    Lines that are not records (a run may have been killed while writing) are passed over.
    """
    found: dict[tuple[str, int], Record] = {}
    for path in sorted(out.glob(ROWS.format(rank="*"))):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = Record.from_json(line)
            except ValueError:
                continue
            older = found.get(record.key)
            if older is None or older.error or not record.error:
                found[record.key] = record
    readable = {case for case, label in found if label}
    kept = (r for r in found.values() if r.label or r.case not in readable)  # since mended
    return sorted(kept, key=lambda record: record.key)


class Line(Protocol):
    """What can be written as a line."""

    def to_json(self) -> str:
        """One line without line break."""
        ...


def append_records(path: Path, records: Iterable[Line]) -> None:
    """Add records to a file, each on disk before the next one is asked for."""
    with path.open("a", encoding="utf-8") as stream:
        if stream.tell() and not path.read_bytes().endswith(b"\n"):
            stream.write("\n")  # close a line that a killed run left open
        for record in records:
            stream.write(record.to_json() + "\n")
            stream.flush()


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a whole file or nothing; NaN becomes null."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    text = json.dumps(nan_to_none(content), indent=1, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def keep_settings(path: Path, data: Path, settings: dict[str, Any]) -> None:
    """Remember how a folder's records were made, and of which data.

    Data are told apart by the name of their folder, which may lie elsewhere on another machine.

    Raises:
        InputError: records of other data or settings are already there.
    """
    settings = json.loads(json.dumps({**settings, "data": data.resolve().name}))
    if path.is_file():
        older = {"data": settings["data"], **json.loads(path.read_text(encoding="utf-8"))}
        differing = [k for k in settings if older.get(k) != settings[k]]
        if differing:
            raise InputError(
                f"{path.parent} holds results with other settings ({', '.join(differing)}), "
                "wanted the same ones to go on; give an empty folder or the old settings."
            )
        return
    write_json(path, settings)


def nan_to_none(value: Any) -> Any:
    """The same nested value with None for every NaN, which JSON does not know."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: nan_to_none(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(inner) for inner in value]
    return value
