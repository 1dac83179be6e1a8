"""What is kept of every watched task, and the calibration of a model summed up from it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from segvol_gru.evaluation.records import nan_to_none, write_json
from segvol_gru.evaluation.reliability import (
    BINS,
    LOGIT_BINS,
    FloatArray,
    best_temperature,
    calibration_error,
    tempered,
)
from segvol_gru.evaluation.runs import SCOPES, mean_gap
from segvol_gru.evaluation.summary import MIN_TASKS, STEPS

ROWS = "doubts.jsonl"
LIMIT = 0.05  # a larger calibration error is offered a temperature
Nested = tuple[tuple[tuple[float, ...], ...], ...]
NO_BINS: Nested = (((0.0,) * BINS,) * 3,) * len(STEPS)
NO_LOGITS = ((0.0,) * LOGIT_BINS,) * 2
NO_HITS: tuple[bool | None, ...] = (None,) * len(STEPS)


@dataclass(frozen=True, slots=True)
class Doubts:
    """One task, watched after the box and after clicks 1-5.

    Attributes:
        case: file name without ending.
        dataset: name of the data set.
        licence_class: open or research.
        subject: whose scan it is.
        label: value in the label map; 0 where the case itself could not be read.
        bins: six times (3, 15) of `reliability.by_probability`, voxels near a boundary.
        logits: (2, 200) of `reliability.by_logit`, the same voxels, all steps together.
        suggested: six times whether the suggestion lay in an error; None where there was none to
            find or nothing was asked.
        drawn: the same of a voxel drawn from the boundary of the mask.
        error: what went wrong, empty if nothing.
    """

    case: str
    dataset: str
    licence_class: str
    subject: str
    label: int = 0
    bins: Nested = NO_BINS
    logits: tuple[tuple[float, ...], ...] = NO_LOGITS
    suggested: tuple[bool | None, ...] = NO_HITS
    drawn: tuple[bool | None, ...] = NO_HITS
    error: str = ""

    @property
    def gain(self) -> float:
        """Share of the suggestions that hit minus that of the drawn ones; NaN without errors."""
        return _share(self.suggested) - _share(self.drawn)

    def to_json(self) -> str:
        """One line without line break."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Doubts:
        """Read a line back.

        Raises:
            ValueError: the line is no such record, for instance cut off by a power failure.
        """
        values = json.loads(line)
        if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
            raise ValueError("not a record")
        for name in ("bins", "logits", "suggested", "drawn"):
            values[name] = _tuples(values[name])
        return cls(**values)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _share(hits: Sequence[bool | None]) -> float:
    known = [hit for hit in hits if hit is not None]
    return sum(known) / len(known) if known else math.nan


def read_doubts(out: Path) -> list[Doubts]:
    """All records of a folder by case and label, the last one where a task was tried again."""
    found: dict[tuple[str, int], Doubts] = {}
    path = out / ROWS
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            doubts = Doubts.from_json(line)
        except ValueError:
            continue
        found[doubts.case, doubts.label] = doubts
    readable = {case for case, label in found if label}
    return [found[key] for key in sorted(found) if key[1] or key[0] not in readable]


def summarise_doubts(out: Path) -> dict[str, Any]:
    """Sum up the records of a folder into `calibration.json`.

    Returns:
        `datasets`: per data set `n` tasks, `ece` over all steps and `ece_steps` of each, and the
        shares of steps with an error in which the suggestion (`suggested`) and the drawn voxel
        (`drawn`) lay in it. `mean`: the same for `open`, `research`, `all` as means over data sets
        of at least four tasks, with `gain`, the difference of the two shares, its 95 % interval
        over subjects, and `curve`, (3, 15) bins in which every data set weighs the same.
        `temperature`: None if every mean `ece` is up to 0.05, else the best `value` and the `ece`
        that it leaves. `errors`: names and causes.
    """
    records = read_doubts(out)
    groups: dict[str, list[Doubts]] = defaultdict(list)
    for record in records:
        if record.label and not record.error:
            groups[record.dataset].append(record)
    large = {k: rows for k, rows in sorted(groups.items()) if len(rows) >= MIN_TASKS}
    means = {}
    for scope in SCOPES:
        means[scope] = _mean([r for r in large.values() if scope in ("all", r[0].licence_class)])
    summary: dict[str, Any] = {
        "datasets": {name: _set(rows) for name, rows in sorted(groups.items())},
        "mean": means,
        "temperature": None,
        "errors": [
            {"case": r.case, "label": r.label, "error": r.error} for r in records if r.error
        ],
    }
    if any(mean.get("ece", 0.0) > LIMIT for mean in means.values()):
        summary["temperature"] = _temperature(list(large.values()))
    write_json(out / "calibration.json", nan_to_none(summary))
    return summary


def _bins(rows: Sequence[Doubts]) -> FloatArray:
    """(6, 3, 15) sums over tasks."""
    sums: FloatArray = np.sum([record.bins for record in rows], axis=0, dtype=float)
    return sums


def _set(rows: Sequence[Doubts]) -> dict[str, Any]:
    """One data set: voxels of all its tasks together, shares as means over tasks."""
    bins = _bins(rows)
    return {
        "licence_class": rows[0].licence_class,
        "n": len(rows),
        "ece": calibration_error(bins.sum(axis=0)),
        "ece_steps": [calibration_error(step) for step in bins],
        "suggested": _known_mean([_share(r.suggested) for r in rows]),
        "drawn": _known_mean([_share(r.drawn) for r in rows]),
    }


def _mean(sets: Sequence[Sequence[Doubts]]) -> dict[str, Any]:
    """Mean over data sets."""
    if not sets:
        return {"datasets": 0, "n": 0}
    found = [_set(rows) for rows in sets]
    gaps: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in (r for rows in sets for r in rows if not math.isnan(r.gain)):
        gaps[record.dataset][record.subject].append(record.gain)
    curves = [_bins(rows).sum(axis=0) for rows in sets]
    gain = mean_gap(gaps)
    return {
        "datasets": len(sets),
        "n": sum(map(len, sets)),
        **{name: _known_mean([s[name] for s in found]) for name in ("ece", "suggested", "drawn")},
        "ece_steps": [_known_mean([s["ece_steps"][k] for s in found]) for k in range(len(STEPS))],
        "gain": None if gain is None else asdict(gain),
        "curve": np.sum([c / max(c[0].sum(), 1) for c in curves], axis=0).tolist(),
    }


def _temperature(sets: Sequence[Sequence[Doubts]]) -> dict[str, Any]:
    """The best temperature of all data sets together, and the errors that it leaves."""
    sums = [np.sum([record.logits for record in rows], axis=0, dtype=float) for rows in sets]
    value = best_temperature([s for s in sums if s[0].any()])
    left = {
        scope: _known_mean(
            [
                calibration_error(tempered(s, value))
                for s, rows in zip(sums, sets, strict=True)
                if scope in ("all", rows[0].licence_class)
            ]
        )
        for scope in SCOPES
    }
    return {"value": value, "ece": left}


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
