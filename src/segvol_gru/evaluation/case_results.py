"""What is kept of every case of the competition's loop, and the tables made of it."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from segvol_gru.data.files import whole_file
from segvol_gru.evaluation.metrics import auc
from segvol_gru.evaluation.official import (
    CORRECTED,
    OFFICIAL,
    SECONDS_PER_LABEL,
    STEPS,
    Rules,
)
from segvol_gru.evaluation.records import NOTHING, Six, nan_to_none, write_json
from segvol_gru.evaluation.tables import MODALITIES, Cell, Table

CASES = "cases.jsonl"
RULES: dict[str, Rules] = {"official": OFFICIAL, "corrected": CORRECTED}
RANKED = ("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final")
Spot = tuple[int, int, int, int]  # z, y, x, 1 foreground / 0 background


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case, K labels. Lists of six hold the value after the box and after clicks 1-5.

    Attributes:
        case: name of its files in the competition.
        dataset: name of the data set.
        modality: CT, MR, PET, US or Microscopy; empty if unknown.
        rules: official or corrected.
        labels: as in the data folder, ascending; empty if the case could not be read.
        clicks: five rounds, per label what was clicked, None where nothing was wrong.
        label_dsc: six times K values.
        label_nsd: six times K values.
        dsc: mean over labels.
        nsd: mean over labels, under the gate of the official rules.
        seconds: of every answer; NaN where nothing was asked.
        wrote: whether anything was ever written.
        faults: what went wrong, in words.
    """

    case: str
    dataset: str
    modality: str
    rules: str
    labels: tuple[int, ...] = ()
    clicks: tuple[tuple[Spot | None, ...], ...] = ()
    label_dsc: tuple[tuple[float, ...], ...] = ()
    label_nsd: tuple[tuple[float, ...], ...] = ()
    dsc: Six = NOTHING
    nsd: Six = NOTHING
    seconds: Six = NOTHING
    wrote: bool = False
    faults: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether the case enters the means; the official ones leave out unanswered cases."""
        return bool(self.labels) and (self.wrote or self.rules != "official")

    @property
    def seconds_total(self) -> float:
        """Of all answers."""
        return sum(s for s in self.seconds if not math.isnan(s))

    @property
    def seconds_allowed(self) -> int:
        """For all answers together."""
        return SECONDS_PER_LABEL * len(self.labels)

    @property
    def slow(self) -> bool:
        """Whether that was too long."""
        return self.seconds_total > self.seconds_allowed

    def row(self) -> dict[str, float]:
        """The four ranked numbers, by their official names; all 0 for an officially slow case."""
        if self.slow and self.rules == "official":
            return dict.fromkeys(RANKED, 0.0)
        values = (auc(self.dsc[1:]), auc(self.nsd[1:]), self.dsc[-1], self.nsd[-1])
        return dict(zip(RANKED, values, strict=True))

    def to_json(self) -> str:
        """One line without line break; NaN is written as null."""
        return json.dumps(nan_to_none(asdict(self)), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> CaseResult:
        """Read a line back.

        Raises:
            ValueError: the line is not a result, for instance cut off by a power failure.
        """
        values = json.loads(line)
        if not isinstance(values, dict) or set(values) != {field.name for field in fields(cls)}:
            raise ValueError("not a result")
        for name in ("dsc", "nsd", "seconds"):
            values[name] = _known(values[name])
        for name in ("label_dsc", "label_nsd"):
            values[name] = tuple(map(_known, values[name]))
        values["clicks"] = tuple(
            tuple(None if spot is None else tuple(spot) for spot in given)
            for given in values["clicks"]
        )
        return cls(**{**values, **{name: tuple(values[name]) for name in ("labels", "faults")}})


def _known(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else value for value in values)


def read_results(out: Path) -> list[CaseResult]:
    """All results of a folder by name of the case, the last one where a case was tried again."""
    found: dict[str, CaseResult] = {}
    path = out / CASES
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            result = CaseResult.from_json(line)
        except ValueError:
            continue
        found[result.case] = result
    return [found[name] for name in sorted(found)]


def write_results(out: Path, results: Sequence[CaseResult], model: str) -> dict[str, Any]:
    """Write `metrics.csv`, `modalities.csv` and `summary.json`.

    Args:
        out: existing folder.
        results: of one run.
        model: what was measured, in words.

    Returns:
        What stands in `summary.json`: `cases`, `table` and `faults`.
    """
    _write_metrics(out / "metrics.csv", results)
    table = competition_table(results, model)
    table.write(out)
    faults = [{"case": r.case, "fault": fault} for r in results for fault in r.faults]
    faults += [
        {"case": r.case, "fault": f"took {r.seconds_total:.1f} s of {r.seconds_allowed} s"}
        for r in results
        if r.slow
    ]
    cases = {
        "all": len(results),
        "read": sum(bool(r.labels) for r in results),
        "counted": sum(r.answered for r in results),
        "slow": sum(r.slow for r in results),
    }
    summary = {"cases": cases, "table": asdict(table), "faults": faults}
    write_json(out / "summary.json", summary)
    return summary


def modality_means(results: Sequence[CaseResult]) -> dict[str, dict[str, float]]:
    """Plain mean over the cases that count of each ranked number, by modality."""
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for result in results:
        if result.answered:
            rows[result.modality].append(result.row())
    return {
        modality: {name: sum(row[name] for row in mine) / len(mine) for name in RANKED}
        for modality, mine in rows.items()
    }


def competition_table(results: Sequence[CaseResult], model: str) -> Table:
    """The layout of the paper's Table 3: plain means over the cases of a modality."""
    groups: dict[str, list[CaseResult]] = defaultdict(list)
    for result in results:
        groups[result.modality].append(result)
    means = modality_means(results)
    rows: list[tuple[Cell, ...]] = []
    for modality in (*MODALITIES, *sorted(set(groups) - set(MODALITIES))):
        mine = groups.get(modality, [])
        spent = [r.seconds_total / len(r.labels) for r in mine if r.labels]
        row = means.get(modality, dict.fromkeys(RANKED, math.nan))
        rows.append(
            (
                MODALITIES.get(modality, modality or "unknown"),
                model,
                *(row[name] for name in RANKED),
                sum(r.answered for r in mine),
                sum(spent) / len(spent) if spent else math.nan,
                max(spent, default=math.nan),
                sum(r.slow for r in mine),
            )
        )
    head = ("Modality", "Methods", *(name.replace("_", " ") for name in RANKED))
    head += ("cases", "s / class", "most s", "slow")
    note = (
        "Means over cases; all labels of a case are answered together. AUC is at most 4. "
        f"slow: cases that took more than {SECONDS_PER_LABEL} s per class."
    )
    return Table("modalities", "The competition's loop, by modality", note, head, tuple(rows))


def _write_metrics(path: Path, results: Sequence[CaseResult]) -> None:
    """The official columns; what has no value is empty, and 0 under official rules."""
    steps = range(STEPS)
    head = ["CaseName", "TotalRunningTime", *(f"RunningTime_{k + 1}" for k in steps), *RANKED]
    head += [f"{kind}_{k + 1}" for kind in ("DSC", "NSD") for k in steps]
    head += ["num_class", "runtime_upperbound"]
    with (
        whole_file(path) as fresh,
        fresh.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(head)
        for result in results:
            if result.answered:
                missing = 0.0 if result.rules == "official" else ""
                scores = (*result.row().values(), *result.dsc, *result.nsd)
                values = (result.seconds_total, *result.seconds, *scores)
                cells = [missing if math.isnan(value) else value for value in values]
                last = (len(result.labels), result.seconds_allowed)
                writer.writerow((f"{result.case}.npz", *cells, *last))
