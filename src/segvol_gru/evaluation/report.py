"""The report on one or several models: tables, curves, failures, gallery, one HTML page.

DIR/<model>/rows-*.jsonl ─► Run ─► tables/*.csv, report.json, tasks.csv, report.html
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from segvol_gru.data.files import whole_file
from segvol_gru.evaluation import comparisons, tables
from segvol_gru.evaluation.page import Chart, Picture, page
from segvol_gru.evaluation.records import Record, write_json
from segvol_gru.evaluation.runs import Key, Run, of_tasks, set_means, shared_tasks
from segvol_gru.evaluation.summary import COLUMNS, MIN_TASKS, STEPS, measures
from segvol_gru.evaluation.tables import MODALITIES, Table
from segvol_gru.evaluation.traits import Traits

RANKS = ("best", "median", "worst")
DESCRIPTION = ("case", "dataset", "modality", "subject", "label", "voxels", "error")

Draw = Callable[[Record], bytes]


@dataclass(frozen=True, slots=True)
class Shown:
    """A task of the gallery and why it was chosen."""

    rank: str
    record: Record

    @property
    def caption(self) -> str:
        """In words."""
        r = self.record
        first = r.dsc[1] if math.isnan(r.dsc[0]) else r.dsc[0]
        steps = f"DSC {first:.3f} after the first prompt, {r.dsc[-1]:.3f} after five clicks"
        modality = MODALITIES.get(r.modality, r.modality)
        return f"{modality}, {self.rank}: {r.dataset}, {r.case}, label {r.label}. {steps}."


def write_report(
    out: Path,
    title: str,
    facts: Sequence[str],
    runs: Sequence[Run],
    traits: Mapping[Key, Traits],
    draw: Draw | None = None,
    more: Sequence[Table] = (),
    varied: Sequence[Run] = (),
) -> Path:
    """Write everything about some runs.

    Args:
        out: existing folder; `report.html`, `report.json`, `tasks.csv` and `tables/` go there.
        title: heading of the page.
        facts: sentences below it.
        runs: the first is what the report is about, the others are compared with it.
        traits: of the tasks, as far as known.
        draw: draws a task of the first run as PNG; None leaves the gallery out.
        more: further tables, after those that compare runs.
        varied: runs that those are of, whose failures are named too.

    Returns:
        The page.
    """
    made = [*all_tables(runs, traits, more), tables.error_table([*runs, *varied])]
    charts = [curves(runs, "dsc"), curves(runs, "nsd")]
    pictures = [] if draw is None else _pictures(runs[0], draw)
    (out / "tables").mkdir(exist_ok=True)
    for table in made:
        table.write(out / "tables")
    content = {"title": title, "facts": list(facts), "tables": [asdict(t) for t in made]}
    content["curves"] = [asdict(chart) for chart in charts]
    write_json(out / "report.json", content)
    _write_tasks(out / "tasks.csv", runs)
    path = out / "report.html"
    with whole_file(path) as fresh:
        fresh.write_text(page(title, facts, charts, made, pictures), encoding="utf-8")
    return path


def all_tables(
    runs: Sequence[Run], traits: Mapping[Key, Traits], more: Sequence[Table] = ()
) -> list[Table]:
    """Every table but that of failures, in the order of the page."""
    first = runs[0]
    return [
        tables.models_table(runs),
        tables.modality_table(runs),
        tables.iteration_table(first),
        comparisons.paired_table(runs),
        comparisons.baseline_table(runs),
        *more,
        tables.failure_table(first, dict(traits)),
        tables.size_table(runs),
        tables.set_table(runs),
    ]


def curves(runs: Sequence[Run], kind: str) -> Chart:
    """DSC or NSD per step, on the tasks that all models did."""
    keys = shared_tasks(runs)
    series = {}
    for run in runs:
        if run.tasks:
            mean = set_means(of_tasks(run, keys), MIN_TASKS)
            series[run.name] = [mean[f"{kind}_{step}"] for step in STEPS]
    title = {"dsc": "DSC", "nsd": "NSD at 2 mm"}[kind]
    return Chart(f"{title} after the first prompt and each click", STEPS, series)


def gallery(run: Run) -> list[Shown]:
    """Best, median and worst task of each modality by DSC after the last click."""
    chosen: list[Shown] = []
    for modality in MODALITIES:
        mine = [r for r in run.tasks.values() if r.modality == modality and not r.error]
        mine.sort(key=lambda r: (-r.dsc[-1], r.key))
        places = dict(zip(RANKS, (0, len(mine) // 2, len(mine) - 1), strict=True))
        if len(mine) < len(RANKS):
            places = dict(zip(RANKS, range(len(mine)), strict=False))
        chosen += [Shown(rank, mine[place]) for rank, place in places.items()]
    return chosen


def _pictures(run: Run, draw: Draw) -> list[Picture]:
    return [Picture(shown.caption, draw(shown.record)) for shown in gallery(run)]


def _write_tasks(path: Path, runs: Sequence[Run]) -> None:
    """One row per model and task."""
    with (
        whole_file(path) as fresh,
        fresh.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("model", *DESCRIPTION, *COLUMNS))
        for run in runs:
            for record in of_tasks(run, run.tasks):
                value, weight = measures(record)
                known = [
                    "" if w == 0 or np.isnan(v) else v for v, w in zip(value, weight, strict=True)
                ]
                writer.writerow((run.name, *(getattr(record, d) for d in DESCRIPTION), *known))
