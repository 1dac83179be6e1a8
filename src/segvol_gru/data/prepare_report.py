"""What was found in a data set: splits, structures, voxels, and files that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segvol_gru.data.dataset import MIN_TASK_VOXELS
from segvol_gru.prompts import Index

NEITHER = "neither"  # split of who would belong to several
MANY = 40  # labels listed one by one


@dataclass(frozen=True, slots=True)
class CaseFacts:
    """One case that was converted.

    Attributes:
        name: as in the file names.
        file: relative to the training folder.
        modality: CT, MR, PET, US or Microscopy.
        subject: whose scan it is.
        window: how intensities became 0..255.
        shape: (D, H, W).
        spacing_mm: voxel size along (D, H, W).
        voxels: label -> voxels.
        digest: of shape and intensities; equal for equal images.
    """

    name: str
    file: str
    modality: str
    subject: str
    window: str
    shape: Index
    spacing_mm: tuple[float, float, float]
    voxels: Mapping[int, int]
    digest: str

    @property
    def tasks(self) -> list[int]:
        """Labels that are large enough to be segmented."""
        return [label for label, count in self.voxels.items() if count >= MIN_TASK_VOXELS]

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing_mm))


@dataclass(frozen=True, slots=True)
class Report:
    """What `prepare` did.

    Attributes:
        path: the report in words.
        cases: what can be used.
        splits: case name -> split.
        faults: name -> why it cannot be used.
        notes: what a user should know of cases that can be used.
    """

    path: Path
    cases: Sequence[CaseFacts]
    splits: Mapping[str, str]
    faults: Mapping[str, str]
    notes: Sequence[str]


def write_report(
    path: Path, cases: Sequence[CaseFacts], splits: Mapping[str, str], faults: Mapping[str, str]
) -> Report:
    """Write the report as Markdown."""
    notes = list(_notes(cases, splits))
    lines = [
        f"# {path.stem.removeprefix('report-')}",
        "",
        f"{len(cases)} cases of {len({c.subject for c in cases})} subjects can be used, "
        f"{len(faults)} cannot.",
        "",
        *_split_table(cases, splits),
        "",
        *_label_table(cases),
        "",
        *_geometry(cases),
        "",
        "## Notes",
        "",
        *([f"- {note}" for note in notes] or ["None."]),
        "",
        "## Not used",
        "",
        *([f"- `{name}`: {why}" for name, why in faults.items()] or ["None."]),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Report(path, cases, splits, faults, notes)


def _notes(cases: Sequence[CaseFacts], splits: Mapping[str, str]) -> list[str]:
    notes = []
    first: dict[str, CaseFacts] = {}
    for case in cases:
        older = first.setdefault(case.digest, case)
        if older is not case:
            notes.append(f"`{case.name}` shows the same image as `{older.name}`: one split.")
        if splits[case.name] == NEITHER:
            why = "its subject or image lies in several splits of this folder"
            notes.append(f"`{case.name}` is not used: {why}.")
        small = [label for label, n in case.voxels.items() if n < MIN_TASK_VOXELS]
        if small:
            shown = ", ".join(map(str, small[:MANY]))
            few = f"fewer than {MIN_TASK_VOXELS} voxels, too small to train on"
            notes.append(f"`{case.name}`: {len(small)} structures have {few} (labels {shown}).")
    return notes


def _split_table(cases: Sequence[CaseFacts], splits: Mapping[str, str]) -> list[str]:
    lines = ["| split | cases | subjects | structures |", "|---|---|---|---|"]
    for split in sorted(set(splits.values())):
        chosen = [case for case in cases if splits[case.name] == split]
        subjects, tasks = {c.subject for c in chosen}, sum(len(c.tasks) for c in chosen)
        lines.append(f"| {split} | {len(chosen)} | {len(subjects)} | {tasks} |")
    return lines


def _label_table(cases: Sequence[CaseFacts]) -> list[str]:
    volumes: dict[int, list[float]] = {}
    for case in cases:
        for label, count in case.voxels.items():
            volumes.setdefault(label, []).append(count * case.voxel_mm3 / 1000)
    if len(volumes) > MANY:
        return [f"{len(volumes)} different labels, in {len(cases)} cases."]
    lines = ["| label | cases | ml: smallest | median | largest |", "|---|---|---|---|---|"]
    for label, ml in sorted(volumes.items()):
        numbers = f"{min(ml):.3g} | {float(np.median(ml)):.3g} | {max(ml):.3g}"
        lines.append(f"| {label} | {len(ml)} | {numbers} |")
    return lines


def _geometry(cases: Sequence[CaseFacts]) -> list[str]:
    """Smallest, median and largest shape and spacing per axis, and the windows."""
    lines = ["| along (D, H, W) | smallest | median | largest |", "|---|---|---|---|"]
    rows = {
        "voxels": np.array([case.shape for case in cases], dtype=float),
        "mm per voxel": np.array([case.spacing_mm for case in cases]),
    }
    for name, table in rows.items():
        cells = (table.min(0), np.median(table, 0), table.max(0))
        shown = (" x ".join(f"{v:.3g}" for v in cell) for cell in cells)
        lines.append(f"| {name} | {' | '.join(shown)} |")
    windows = Counter((case.modality, case.window) for case in cases)
    said = ", ".join(f"{m} by {w}: {n}" for (m, w), n in sorted(windows.items()))
    return [*lines, "", f"Intensity windows: {said}."]
