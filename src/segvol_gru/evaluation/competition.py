"""The competition's loop over a folder: case by case, all labels of a case together.

    case ─► Entry ─► official.run_case ⇄ Submission ⇄ files ⇄ answer
                          └─► one line of cases.jsonl ─► metrics.csv, modalities.csv

Starting again goes on after the last line; cases in which something went wrong are tried again.
A case that cannot be read, an answer of another shape or none at all: each is named and stops
nothing.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segvol_gru.data.dataset import Case
from segvol_gru.data.files import make_folder
from segvol_gru.errors import InputError
from segvol_gru.evaluation.case_results import (
    CASES,
    RULES,
    CaseResult,
    read_results,
    write_results,
)
from segvol_gru.evaluation.entries import Entry, Numbered, chosen_cases, file_name, pose
from segvol_gru.evaluation.official import CaseScores, run_case
from segvol_gru.evaluation.records import Six, append_records, keep_settings
from segvol_gru.evaluation.submission import Answer, Submission
from segvol_gru.evaluation.tasks import describe
from segvol_gru.evaluation.workers import Watch, spread, watched

AnswerFactory = Callable[[], Answer]


@dataclass(frozen=True, slots=True)
class Contest:
    """How the loop is run."""

    rules: str = "official"
    """`official`: the published script to the last digit; `corrected`: what it means."""

    split: str = "val"
    """Which split of the manifest; folders without a manifest have none."""

    datasets: tuple[str, ...] = ()
    """Data sets to run; none named means all."""

    most: int | None = None
    """At most so many cases of each data set, spread evenly; None for all."""

    seed: int = 2025
    """Of the boxes of cases that come without."""

    workers: int = 1
    """Processes on this machine; times are those of answers side by side."""

    def __post_init__(self) -> None:
        if self.rules not in RULES:
            raise InputError(f"rules is {self.rules!r}, wanted one of {', '.join(RULES)}.")
        if self.workers < 1 or (self.most is not None and self.most < 1):
            raise InputError(
                f"workers is {self.workers} and most is {self.most}, wanted 1 or more of each."
            )


def compete(
    data: Path,
    factory: AnswerFactory,
    out: Path,
    contest: Contest,
    *,
    model: str = "",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run the loop over a data folder.

    Args:
        data: a folder of any form of `inputs`.
        factory: makes what answers; importable by name if there are several workers.
        out: folder for `cases.jsonl`, `settings.json`, `metrics.csv`, `modalities.csv` and
            `summary.json`; made if absent.
        contest: how to run it.
        model: what is measured, in words; kept in `settings.json`.
        watch: told after every case how many are done, and at the start.

    Returns:
        The summary (see `write_results`) of all cases in `out`.

    Raises:
        InputError: there are no such cases, or `out` holds results of other settings.
    """
    cases = chosen_cases(data, contest.split, contest.datasets, contest.most)
    make_folder(out)
    settings = {name: getattr(contest, name) for name in ("rules", "split", "seed")}
    keep_settings(out / "settings.json", data, {**settings, "model": model})
    finished = {result.case for result in read_results(out) if not result.faults}
    left = [numbered for numbered in cases if file_name(numbered[1]) not in finished]
    results = spread(left, factory, partial(_run, contest=contest), contest.workers)
    append_records(out / CASES, watched(results, len(left), watch))
    return write_results(out, read_results(out), model)


def _run(answer: Answer, numbered: Numbered, contest: Contest) -> Iterator[CaseResult]:
    place, case = numbered
    generator = np.random.default_rng([contest.seed, place])
    yield run_entry(answer, case, generator, contest.rules)


def run_entry(answer: Answer, case: Case, generator: np.random.Generator, rules: str) -> CaseResult:
    """Run one case; whatever happens is in the result."""
    result = CaseResult(file_name(case), case.dataset, case.modality, rules)
    try:
        entry = pose(case, generator)
        with tempfile.TemporaryDirectory() as folder:
            asked = Submission(
                *(answer, Path(folder), entry.name),
                *(entry.image, entry.spacing_mm, entry.boxes),
            )
            stored = entry.spacing_mm[::-1]  # the competition stores (x, y, z)
            scores = run_case(entry.gts, stored, asked, bool(entry.boxes), RULES[rules])
    except Exception as error:  # a damaged case fails in many ways and must not stop the rest
        return replace(result, faults=(describe(error),))
    return _filled(result, entry, scores, asked)


def _filled(result: CaseResult, entry: Entry, scores: CaseScores, asked: Submission) -> CaseResult:
    """The result with all that came out."""
    # Voxels of microscopy are far smaller than the tolerance; officially it counts all the same.
    in_mm = result.rules == "official" or result.modality != "Microscopy"
    return replace(
        result,
        labels=entry.values[len(entry.values) - len(scores.labels) :],
        clicks=tuple(
            tuple(None if c is None else (*c.at, int(c.positive)) for c in given)
            for given in scores.clicks
        ),
        label_dsc=tuple(map(tuple, scores.label_dsc.tolist())),
        label_nsd=tuple(map(tuple, scores.label_nsd.tolist())) if in_mm else (),
        dsc=_six(scores.dsc.tolist()),
        nsd=_six(scores.nsd.tolist()) if in_mm else _six([math.nan] * 6),
        seconds=_six(asked.seconds),
        wrote=scores.answered,
        faults=tuple(asked.faults),
    )


def _six(values: list[float]) -> Six:
    one, two, three, four, five, six = values
    return one, two, three, four, five, six
