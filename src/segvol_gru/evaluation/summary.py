"""From records of tasks to the numbers that are reported.

A data set's score is the mean over its tasks; the headline is the mean over data sets of at
least four tasks, given for open data sets, research-only ones and all. Intervals hold 95 % of
bootstrap draws that resample subjects within each data set.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.evaluation.metrics import CLICKS
from segvol_gru.evaluation.records import Record, read_records, write_json

MIN_TASKS = 4  # smaller data sets are listed but do not enter the headline
HARM = 0.005  # a click that costs more DSC than this is called harmful
WORSE = 0.01  # a task that ends by more than this below its box DSC is called worse than its box
GOALS = (0.85, 0.90)
DRAWS = 2000
SEED = 2025

FloatArray = NDArray[np.float64]
Stats = dict[str, Any]

# Columns of the table that `measures` makes of every record.
STEPS = ("box", "1", "2", "3", "4", "5")
COLUMNS = (
    *(f"dsc_{step}" for step in STEPS),
    *(f"nsd_{step}" for step in STEPS),
    "dsc_auc",
    "nsd_auc",
    "harmful_share",
    "worse_than_box_share",
    "seconds_box",
    "seconds_click",
    *(f"{kind}_{round(100 * goal)}" for goal in GOALS for kind in ("clicks_to", "reached")),
)


def summarise(out: Path, *, whole: bool = True) -> Stats:
    """Aggregate the records of a folder; write `summary.json` and `summary.csv` beside them.

    Args:
        out: the folder.
        whole: other processes do not add to it, so that records must be there.

    Returns:
        `datasets`: per data set, `n` tasks, `subjects`, `dsc` and `nsd` (six values: box, clicks
        1-5; the box value over tasks with a box), `dsc_auc` and `nsd_auc` (at most 4),
        `harmful_share` (clicks after the first prompt that lower DSC by more than 0.005, of those
        given), `worse_than_box_share` (tasks whose DSC after the last click is more than 0.01 below
        that after the box, of those with a box), `seconds_box`, `seconds_click`,
        `clicks_to_85/90` (6 where five did not suffice) and `reached_85/90` (share of tasks).
        `mean`: the same for `open`, `research`, `all` as means over data sets, with `interval`
        (95 %, low and high) of each. `errors`: names and causes of cases and tasks that failed.
        What has no value is null in the file, NaN here.

    Raises:
        InputError: the folder should hold records and does not.
    """
    records = read_records(out)
    if whole and not records:
        raise InputError(f"{out} holds no records, wanted rows-*.jsonl; run the protocol first.")
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.label:
            groups[record.dataset].append(record)
    tables = {name: _Table(rows) for name, rows in sorted(groups.items())}
    summary: Stats = {
        "datasets": {name: table.stats() for name, table in tables.items()},
        "mean": {
            scope: _headline([t for t in tables.values() if scope in ("all", t.licence_class)])
            for scope in ("open", "research", "all")
        },
        "errors": [
            {"case": r.case, "label": r.label, "error": r.error} for r in records if r.error
        ],
    }
    write_json(out / "summary.json", summary)
    _write_csv(out / "summary.csv", summary)
    return summary


class _Table:
    """Measures of the tasks of one data set, summed up by subject.

    Attributes:
        totals: (subjects, columns) sum of each measure over the tasks that have it.
        counts: (subjects, columns) how many have it.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.n = len(records)
        self.modality = records[0].modality
        self.licence_class = records[0].licence_class
        subjects = sorted({record.subject for record in records})
        self.totals, self.counts = np.zeros((2, len(subjects), len(COLUMNS)))
        for record in records:
            value, weight = measures(record)
            row = subjects.index(record.subject)
            self.totals[row] += np.where(weight > 0, value * weight, 0)
            self.counts[row] += weight

    def stats(self) -> Stats:
        """The data set's entry in the summary."""
        means = _ratio(self.totals.sum(axis=0), self.counts.sum(axis=0))
        return {
            "modality": self.modality,
            "licence_class": self.licence_class,
            "n": self.n,
            "subjects": len(self.totals),
            **_named(means),
        }

    def draws(self, generator: np.random.Generator) -> FloatArray:
        """(DRAWS, columns) means over tasks of resampled subjects."""
        subjects = len(self.totals)
        times = generator.multinomial(subjects, np.full(subjects, 1 / subjects), size=DRAWS)
        return _ratio(times @ self.totals, times @ self.counts)


def _headline(tables: Iterable[_Table]) -> Stats:
    """Mean over data sets with enough tasks, and its interval."""
    large = [table for table in tables if table.n >= MIN_TASKS]
    if not large:
        return {"datasets": 0, "n": 0}
    means = np.stack(
        [_ratio(table.totals.sum(axis=0), table.counts.sum(axis=0)) for table in large]
    )
    generator = np.random.default_rng(SEED)
    draws = _mean(np.stack([table.draws(generator) for table in large]))
    low, high = (_quantile(draws, q) for q in (0.025, 0.975))
    return {
        "datasets": len(large),
        "n": sum(table.n for table in large),
        **_named(_mean(means)),
        "interval": {"low": _named(low), "high": _named(high)},
    }


def measures(record: Record) -> tuple[FloatArray, FloatArray]:
    """(columns,) measures of one task and (columns,) their weights, 0 where there is none."""
    dsc, surface = np.array(record.dsc, dtype=float), np.array(record.nsd, dtype=float)
    seconds = np.array(record.seconds, dtype=float)
    first = 0 if record.box is not None else 1  # the step of the first prompt
    given = np.array([click is not None for click in record.clicks])[first:]
    change = np.diff(dsc[first:])
    harmful = np.count_nonzero(change[given] < -HARM)
    timed = seconds[first + 1 :][~np.isnan(seconds[first + 1 :])]
    values = [*dsc, *surface, _area(dsc), _area(surface)]
    weights = [0.0 if np.isnan(v) else 1.0 for v in values]
    # Shares and times of clicks are means over clicks, so a task weighs as many as it had.
    values += [harmful / max(given.sum(), 1), float(dsc[-1] < dsc[0] - WORSE)]
    weights += [float(given.sum()), 0.0 if np.isnan(dsc[0]) else 1.0]
    values += [seconds[0], timed.mean() if len(timed) else 0.0]
    weights += [0.0 if np.isnan(seconds[0]) else 1.0, float(len(timed))]
    for goal in GOALS:
        reached = np.flatnonzero(dsc >= goal)
        values += [float(reached[0]) if len(reached) else CLICKS + 1.0, float(len(reached) > 0)]
        weights += [1.0, 1.0]
    return np.array(values), np.array(weights)


def _area(values: FloatArray) -> float:
    """Trapezoids over the five click values; NaN if one is."""
    return float(values[1:].sum() - (values[1] + values[-1]) / 2)


def _named(row: FloatArray) -> Stats:
    """Turn a row of the table into named entries, the twelve scores into two lists."""
    width = len(STEPS)
    stats: Stats = {"dsc": row[:width].tolist(), "nsd": row[width : 2 * width].tolist()}
    stats.update(zip(COLUMNS[2 * width :], row[2 * width :].tolist(), strict=True))
    return stats


def _ratio(totals: FloatArray, counts: FloatArray) -> FloatArray:
    """Totals over counts, NaN where nothing was counted."""
    means = np.full(totals.shape, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means


def _mean(stack: FloatArray) -> FloatArray:
    """Mean over the first axis of what is not NaN; NaN where all is."""
    known = ~np.isnan(stack)
    return _ratio(np.where(known, stack, 0).sum(axis=0), known.sum(axis=0).astype(float))


def _quantile(draws: FloatArray, q: float) -> FloatArray:
    """Quantile of each column's known values; NaN where there are none."""
    found = np.full(draws.shape[1], np.nan)
    for column in range(draws.shape[1]):
        known = draws[~np.isnan(draws[:, column]), column]
        if len(known):
            found[column] = np.quantile(known, q)
    return found


def _write_csv(path: Path, summary: Stats) -> None:
    """One row per data set and per mean; empty cells where there is no value."""
    rows: list[dict[str, Any]] = []
    for name, stats in (
        *summary["datasets"].items(),
        *((f"mean ({scope})", stats) for scope, stats in summary["mean"].items()),
    ):
        row = {"dataset": name, **stats}
        row.pop("interval", None)
        row.pop("datasets", None)
        for kind in ("dsc", "nsd"):
            values = row.pop(kind, ())
            row.update({f"{kind}_{step}": v for step, v in zip(STEPS, values, strict=False)})
        rows.append({k: "" if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()})
    head = ("dataset", "modality", "licence_class", "n", "subjects", *COLUMNS)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    with temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, head, restval="")
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)
