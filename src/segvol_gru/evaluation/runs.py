"""Runs of several models side by side: the tasks they share, means, paired differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case
from segvol_gru.evaluation.records import Record, read_records
from segvol_gru.evaluation.summary import COLUMNS, DRAWS, MIN_TASKS, SEED, measures
from segvol_gru.evaluation.tasks import Task

FloatArray = NDArray[np.float64]
Key = tuple[str, int]
Gaps = Mapping[str, Mapping[str, Sequence[float]]]  # by data set and subject
SCOPES = ("open", "research", "all")


@dataclass(frozen=True, slots=True)
class Run:
    """What one model did.

    Attributes:
        name: of the model.
        tasks: records of tasks, by case and label.
        unreadable: records of cases that could not be read.
        reason: why there is nothing, empty if there is something.
    """

    name: str
    tasks: dict[Key, Record]
    unreadable: tuple[Record, ...] = ()
    reason: str = ""

    @classmethod
    def read(cls, name: str, folder: Path) -> Run:
        """The records below a folder."""
        records = read_records(folder)
        tasks = {r.key: r for r in records if r.label}
        return cls(name, tasks, tuple(r for r in records if not r.label))

    def among(self, planned: Iterable[tuple[Case, Sequence[Task] | Record]]) -> Run:
        """The part of it that is asked for: what earlier calls were asked may lie beside it."""
        entries = list(planned)
        faulty = {case.file.stem for case, tasks in entries if isinstance(tasks, Record)}
        keys = {
            (case.file.stem, task.label)
            for case, tasks in entries
            if not isinstance(tasks, Record)
            for task in tasks
        }
        return replace(
            self,
            tasks={key: record for key, record in self.tasks.items() if key in keys},
            unreadable=tuple(record for record in self.unreadable if record.case in faulty),
        )

    @property
    def errors(self) -> list[Record]:
        """Everything that went wrong, cases first."""
        return [*self.unreadable, *(r for r in self.tasks.values() if r.error)]


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean over data sets of one value minus another on the same tasks.

    Attributes:
        mean: of the differences.
        low: of the 95 % interval.
        high: of the 95 % interval.
        tasks: how many pairs.
        sets: how many data sets.
    """

    mean: float
    low: float
    high: float
    tasks: int
    sets: int


def shared_tasks(runs: Iterable[Run]) -> set[Key]:
    """Tasks that every run has which has any."""
    keys = [set(run.tasks) for run in runs if run.tasks]
    return set.intersection(*keys) if keys else set()


def of_tasks(run: Run, keys: Iterable[Key]) -> list[Record]:
    """The records of some tasks, those that the run has."""
    return [run.tasks[key] for key in sorted(keys) if key in run.tasks]


def in_scope(run: Run, scope: str) -> Run:
    """The same run without tasks of other licence classes; all of them for "all"."""
    kept = {k: r for k, r in run.tasks.items() if scope in ("all", r.licence_class)}
    return replace(run, tasks=kept)


def by(records: Iterable[Record], part: Callable[[Record], str]) -> dict[str, list[Record]]:
    """Records in groups, by name of the group."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[part(record)].append(record)
    return dict(sorted(groups.items()))


def task_means(records: Sequence[Record]) -> dict[str, float]:
    """Mean over tasks of every measure; shares and times are means over clicks."""
    if not records:
        return dict.fromkeys(COLUMNS, float("nan"))
    rows = [measures(record) for record in records]
    value, weight = (np.stack(part) for part in zip(*rows, strict=True))
    total = weight.sum(axis=0)
    mean = np.full(len(COLUMNS), np.nan)
    np.divide(np.where(weight > 0, value * weight, 0).sum(axis=0), total, mean, where=total > 0)
    return dict(zip(COLUMNS, mean.tolist(), strict=True))


def set_means(records: Iterable[Record], least: int = 1) -> dict[str, float]:
    """Mean over data sets of the means over tasks; sets of fewer tasks than `least` stay out."""
    rows = [task_means(r) for r in by(records, lambda r: r.dataset).values() if len(r) >= least]
    found = {}
    for column in COLUMNS:
        known = [row[column] for row in rows if not np.isnan(row[column])]
        found[column] = float(np.mean(known)) if known else float("nan")
    return found


def difference(
    one: Run, other: Run, column: str, other_column: str | None = None
) -> Difference | None:
    """One run minus another, paired by task, with an interval over resampled subjects.

    The arguments are those of `paired_gaps`; None where no data set has enough tasks in common.
    """
    return mean_gap(paired_gaps(one, other, column, other_column))


def paired_gaps(one: Run, other: Run, column: str, other_column: str | None = None) -> Gaps:
    """One run minus another, task by task.

    Args:
        one: what is asked about.
        other: what it is compared with; it may be the same run.
        column: a measure of `summary.COLUMNS`.
        other_column: measure of the other run; the same one if None.
    """
    place, other_place = (COLUMNS.index(c) for c in (column, other_column or column))
    gaps: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(one.tasks.keys() & other.tasks.keys()):
        (a, weight_a), (b, weight_b) = measures(one.tasks[key]), measures(other.tasks[key])
        if weight_a[place] > 0 and weight_b[other_place] > 0:
            record = one.tasks[key]
            gaps[record.dataset][record.subject].append(float(a[place] - b[other_place]))
    return gaps


def mean_gap(gaps: Gaps) -> Difference | None:
    """Mean over data sets of the means over tasks, with an interval over resampled subjects.

    Args:
        gaps: one number per task.

    Returns:
        None where no data set has enough tasks.
    """
    large = [g for _, g in sorted(gaps.items()) if sum(map(len, g.values())) >= MIN_TASKS]
    if not large:
        return None
    generator = np.random.default_rng(SEED)
    means, draws = zip(*(_resampled(group, generator) for group in large), strict=True)
    low, high = np.quantile(np.mean(draws, axis=0), (0.025, 0.975))
    tasks = sum(len(values) for group in large for values in group.values())
    return Difference(float(np.mean(means)), float(low), float(high), tasks, len(large))


def _resampled(
    group: Mapping[str, Sequence[float]], generator: np.random.Generator
) -> tuple[float, FloatArray]:
    """Mean over the tasks of a data set, and means with its subjects drawn anew."""
    totals = np.array([sum(group[s]) for s in sorted(group)])
    counts = np.array([len(group[s]) for s in sorted(group)], dtype=float)
    n = len(totals)
    times = generator.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return float(totals.sum() / counts.sum()), (times @ totals) / (times @ counts)
