"""The tables of a report. Numbers stay numbers; how they are shown is the page's business."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segvol_gru.data.files import whole_file
from segvol_gru.evaluation.records import Record
from segvol_gru.evaluation.runs import (
    Key,
    Run,
    by,
    of_tasks,
    set_means,
    shared_tasks,
    task_means,
)
from segvol_gru.evaluation.summary import MIN_TASKS, STEPS
from segvol_gru.evaluation.traits import HARD, Test, Traits, size_bin

Cell = str | int | float
MODALITIES = {"CT": "CT", "MR": "MRI", "Microscopy": "Microscopy", "PET": "PET", "US": "Ultrasound"}
ITERATIONS = ("Initial prompt", "First", "Second", "Third", "Fourth", "Fifth")
PLAIN = "none of these"
LOST = 0.5  # a structure below this DSC after the last click counts as lost


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: short, for file names.
        title: its heading.
        note: what is counted, in a sentence.
        head: names of the columns.
        rows: cells; NaN where there is no value.
    """

    name: str
    title: str
    note: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def write(self, folder: Path) -> None:
        """Write it as CSV, empty cells for NaN."""
        with (
            whole_file(folder / f"{self.name}.csv") as fresh,
            fresh.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(self.head)
            for row in self.rows:
                writer.writerow(["" if _missing(cell) else cell for cell in row])


def models_table(runs: Sequence[Run]) -> Table:
    """All models on the tasks that all of them did."""
    keys = shared_tasks(runs)
    head: tuple[str, ...] = ("model", "tasks", "DSC box", *(f"DSC {s}" for s in STEPS[1:]))
    head += ("DSC AUC", "NSD 5", "NSD AUC", "clicks to 0.85", "clicks to 0.90")
    head += ("harmful %", "s first", "s / click", "process peak MiB")
    columns = (*(f"dsc_{s}" for s in STEPS), "dsc_auc", "nsd_5", "nsd_auc")
    rows: list[tuple[Cell, ...]] = []
    for run in runs:
        records = of_tasks(run, keys)
        if records:
            mean = set_means(records, MIN_TASKS)
            rows.append(
                (
                    run.name,
                    len(records),
                    *(mean[c] for c in columns),
                    *(mean[c] for c in ("clicks_to_85", "clicks_to_90")),
                    100 * mean["harmful_share"],
                    *(mean[c] for c in ("seconds_box", "seconds_click")),
                    _most(r.peak_mb for r in records),
                )
            )
    note = (
        f"Means over data sets of at least {MIN_TASKS} tasks, on the tasks that every model did. "
        "Where a goal was not reached, 6 clicks are counted. The peak is that of the "
        "process, which ran all models one after the other unless there were several workers."
    )
    return Table("models", "Models side by side", note, head, tuple(rows))


def modality_table(runs: Sequence[Run]) -> Table:
    """The layout of the paper's Table 3."""
    rows: list[tuple[Cell, ...]] = []
    for modality, shown in MODALITIES.items():
        for run in runs:
            if run.tasks:
                mine = [r for r in run.tasks.values() if r.modality == modality]
                mean = set_means(mine)
                scores = [mean[c] for c in ("dsc_auc", "nsd_auc", "dsc_5", "nsd_5")]
                rows.append((shown, run.name, *scores, len(mine)))
    head = ("Modality", "Methods", "DSC AUC", "NSD AUC", "DSC Final", "NSD Final", "tasks")
    note = "Means over the data sets of a modality. AUC over five clicks is at most 4."
    return Table(
        "modalities", "By modality (layout of the paper's Table 3)", note, head, tuple(rows)
    )


def iteration_table(run: Run) -> Table:
    """The layout of the paper's Table 4, for one model."""
    begun = [record for record in run.tasks.values() if not np.isnan(record.dsc[0])]
    mean = set_means(begun or run.tasks.values(), MIN_TASKS)
    values = [mean[f"dsc_{step}"] for step in STEPS]
    rows: list[tuple[Cell, ...]] = [(f"{ITERATIONS[0]} (DSC)", values[0], np.nan, np.nan)]
    for name, before, after in zip(ITERATIONS[1:], values, values[1:], strict=False):
        gain = after - before
        relative = 100 * gain / before if before else np.nan
        rows.append((f"{name} Correction (DSC)", after, gain, relative))
    head = ("Iteration", "DSC Value", "Absolute Improvement", "Relative Improvement (%)")
    title = f"Gain per click of {run.name} (layout of the paper's Table 4)"
    note = (
        f"Means over data sets of at least {MIN_TASKS} tasks, of those with a mask before a click."
    )
    return Table("iterations", title, note, head, tuple(rows))


def set_table(runs: Sequence[Run]) -> Table:
    """Every data set, every model."""
    return _grouped(runs, "sets", "By data set", "Means over tasks.", lambda r: r.dataset)


def size_table(runs: Sequence[Run]) -> Table:
    """Sizes in voxels."""
    return _grouped(runs, "sizes", "By size in voxels", "Means over tasks.", size_bin)


def failure_table(run: Run, traits: dict[Key, Traits]) -> Table:
    """What fails most, for one model."""
    records = list(run.tasks.values())
    rows: list[tuple[Cell, ...]] = []
    groups: list[tuple[str, Test]] = list(HARD.items())
    groups.append((PLAIN, lambda r, t: not any(test(r, t) for test in HARD.values())))
    for name, test in groups:
        mine = [r for r in records if test(r, traits.get(r.key))]
        mean = task_means(mine)
        lost = float(np.mean([r.dsc[-1] < LOST for r in mine])) if mine else np.nan
        rows.append(
            (
                name,
                len(mine),
                *(mean[f"dsc_{s}"] for s in ("box", "1", "5")),
                mean["nsd_5"],
                100 * mean["harmful_share"],
                100 * lost,
            )
        )
    head = ("structures", "tasks", "DSC box", "DSC 1", "DSC 5", "NSD 5", "harmful %", "lost %")
    note = f"Means over tasks; lost: DSC under {LOST} after the last click. Groups overlap."
    note += _hardest(rows)
    return Table("failures", f"What fails most ({run.name})", note, head, tuple(rows))


def _hardest(rows: Sequence[tuple[Cell, ...]]) -> str:
    """Which group ends lowest, beside the structures of no group, in a sentence."""
    final = {str(row[0]): float(row[4]) for row in rows if row[1]}
    plain = final.pop(PLAIN, np.nan)
    if not final or np.isnan(plain):
        return ""
    worst = min(final, key=lambda name: final[name])
    return f" Hardest: {worst}, DSC {final[worst]:.3f} after five clicks; {PLAIN}: {plain:.3f}."


def error_table(runs: Sequence[Run]) -> Table:
    """Everything that went wrong, by name."""
    rows: list[tuple[Cell, ...]] = [
        (run.name, record.case, record.label or "-", record.error)
        for run in runs
        for record in run.errors
    ]
    rows += [(run.name, "-", "-", run.reason) for run in runs if run.reason]
    note = "Scores that were not reached count as 0; cases that cannot be read have none."
    head = ("model", "case", "label", "what went wrong")
    return Table("errors", f"Failures by name ({len(rows)})", note, head, tuple(rows))


def _grouped(
    runs: Sequence[Run], name: str, title: str, note: str, part: Callable[[Record], str]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    names = sorted({part(r) for run in runs for r in run.tasks.values()})
    groups = {run.name: by(run.tasks.values(), part) for run in runs}
    for group in names:
        for run in runs:
            records = groups[run.name].get(group, [])
            if records:
                mean = task_means(records)
                scores = [mean[f"dsc_{s}"] for s in ("box", "1", "3", "5")]
                rest = (mean["dsc_auc"], mean["nsd_5"], 100 * mean["harmful_share"])
                rows.append((group, run.name, len(records), *scores, *rest))
    head = (name.removesuffix("s"), "model", "tasks", "DSC box", "DSC 1", "DSC 3", "DSC 5")
    return Table(name, title, note, (*head, "DSC AUC", "NSD 5", "harmful %"), tuple(rows))


def _missing(cell: Cell) -> bool:
    return isinstance(cell, float) and np.isnan(cell)


def _most(values: Iterable[float]) -> float:
    """Largest known value, NaN where none is."""
    known = [v for v in values if not np.isnan(v)]
    return max(known) if known else float("nan")
