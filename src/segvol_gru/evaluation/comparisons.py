"""Tables that set runs against each other, task by task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from segvol_gru.evaluation.baselines import BASELINES
from segvol_gru.evaluation.runs import (
    SCOPES,
    Difference,
    Run,
    by,
    difference,
    in_scope,
    set_means,
    task_means,
)
from segvol_gru.evaluation.summary import MIN_TASKS
from segvol_gru.evaluation.tables import Cell, Table
from segvol_gru.evaluation.tasks import Options

PAIRED = ("dsc_1", "dsc_3", "dsc_5", "dsc_auc", "nsd_5", "harmful_share")
CLICKS = ("1", "3", "5")
INTERVALS = (
    f"means over data sets of at least {MIN_TASKS} common tasks; 95 % intervals from subjects "
    "drawn anew within data sets."
)
IDEAL = "tight box, ideal clicks"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "alternate": {"start": "alternate"},
    "jitter": {"jitter": 0.1},
    "random-clicks": {"random_clicks": True},
    "flat": {"start": "flat"},
    "region-growing": {"start": "foreign:region-growing"},
    "threshold": {"start": "foreign:threshold"},
    "low-resolution": {"start": "foreign:low-resolution"},
}
"""What changes in `tasks.Options`: harder starts, careless hands, masks of other tools."""


def varied(options: Options, name: str) -> Options:
    """Options of a variant."""
    return replace(options, **VARIANTS[name])


def paired_table(runs: Sequence[Run]) -> Table:
    """The first model minus every other, with intervals; open and research sets apart, too."""
    head: tuple[str, ...] = ("minus", "licences", "tasks", "data sets")
    head += tuple(f"{c} {part}" for c in PAIRED for part in ("mean", "low", "high"))
    rows: list[tuple[Cell, ...]] = []
    first = runs[0]
    for other in runs[1:]:
        for scope in SCOPES:
            mine = in_scope(first, scope)
            found = [difference(mine, other, column) for column in PAIRED]
            known = next((d for d in found if d is not None), None)
            if known is not None:
                cells = [cell for d in found for cell in _cells(d)]
                rows.append((other.name, scope, known.tasks, known.sets, *cells))
    note = f"Paired by task; {INTERVALS}"
    return Table("paired", f"{first.name} minus the others", note, head, tuple(rows))


def baseline_table(runs: Sequence[Run]) -> Table:
    """The first model minus every baseline, data set by data set; lost cells are named."""
    first = runs[0]
    rows: list[tuple[Cell, ...]] = []
    lost: list[str] = []
    for other in runs[1:]:
        if other.name not in BASELINES or first.name in BASELINES:
            continue
        for dataset, records in by(other.tasks.values(), lambda r: r.dataset).items():
            theirs = [r for r in records if r.key in first.tasks]
            if not theirs:
                continue
            means = [task_means(part) for part in ([first.tasks[r.key] for r in theirs], theirs)]
            gaps = [means[0][f"dsc_{click}"] - means[1][f"dsc_{click}"] for click in CLICKS]
            rows.append((dataset, other.name, len(theirs), *gaps))
            lost += [
                f"{dataset} against {other.name} at click {click} ({gap:+.3f})"
                for click, gap in zip(CLICKS, gaps, strict=True)
                if gap <= 0
            ]
    note = f"DSC of {first.name} minus that of the baseline, means over common tasks. "
    note += f"{len(lost)} of {len(rows) * len(CLICKS)} cells lost"
    note += f": {', '.join(lost)}." if lost else "."
    head = ("data set", "baseline", "tasks", *(f"DSC {click}" for click in CLICKS))
    title = f"{first.name} against the baselines, by data set"
    return Table("baselines", title, note, head, tuple(sorted(rows, key=lambda row: row[:2])))


def variants_table(ideal: Run, variants: Sequence[Run]) -> Table:
    """One model under other prompts.

    Args:
        ideal: its run with tight boxes and clicks by rule.
        variants: its other runs.
    """
    rows: list[tuple[Cell, ...]] = []
    for run in (replace(ideal, name=IDEAL), *variants):
        for scope in SCOPES:
            mine, best = in_scope(run, scope), in_scope(ideal, scope)
            mean = set_means(mine.tasks.values(), MIN_TASKS)
            if mine.tasks and not np.isnan(mean["dsc_5"]):
                loss = None if run.name == IDEAL else difference(best, mine, "dsc_5")
                gain = difference(mine, mine, "dsc_3", "dsc_box")
                steps = (*(mean[f"dsc_{step}"] for step in ("box", *CLICKS)), mean["dsc_auc"])
                shares = (100 * mean["harmful_share"], 100 * mean["worse_than_box_share"])
                change = (*_cells(loss), *_cells(gain))
                rows.append((run.name, scope, len(mine.tasks), *steps, *change, *shares))
    head = ("prompts", "licences", "tasks", "DSC box", *(f"DSC {click}" for click in CLICKS))
    head += ("DSC AUC", "loss 5", "loss 5 low", "loss 5 high")
    head += ("gain 3", "gain 3 low", "gain 3 high", "harmful %", "worse than box %")
    note = (
        f"{ideal.name} under other prompts. DSC box is that of the first mask, also where another "
        "tool made it. loss 5: DSC after click 5 with ideal prompts minus that of the row; gain 3: "
        f"DSC after click 3 minus that of the first mask. Paired by task; {INTERVALS}"
    )
    return Table("variants", f"{ideal.name} under other prompts", note, head, tuple(rows))


def _cells(found: Difference | None) -> tuple[float, float, float]:
    """Mean and interval, NaN where there is none."""
    return (np.nan,) * 3 if found is None else (found.mean, found.low, found.high)
