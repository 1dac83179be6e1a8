"""The click protocol over a data folder: one box or click, then up to five corrections.

Anything that satisfies `Segmenter` can be driven. Every task leaves one line in the output
folder when it is done; starting again goes on after the last line. Cases that cannot be read and
segmenters that fail are recorded by name and do not stop the run.

Cases are dealt out to ranks (those of torchrun or srun) and within a rank to worker processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from segvol_gru.data.dataset import Case
from segvol_gru.data.files import make_folder
from segvol_gru.evaluation.inputs import load
from segvol_gru.evaluation.records import (
    ROWS,
    Record,
    append_records,
    keep_settings,
    read_records,
)
from segvol_gru.evaluation.summary import summarise
from segvol_gru.evaluation.tasks import Options, Task, blank_record, describe, plan, thinned
from segvol_gru.evaluation.trial import Segmenter, SegmenterFactory, run_task
from segvol_gru.evaluation.workers import Watch, rank_and_world, spread, watched

NOT_SETTINGS = ("workers", "datasets", "most")  # what a task's record does not depend on

Work = tuple[Case, list[Task]]


def evaluate(
    data: Path,
    segmenter_factory: SegmenterFactory,
    out: Path,
    options: Options,
    *,
    model: str = "",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run the protocol over a data folder and summarise it.

    Args:
        data: folder with `cases/*.npz` and `manifest.csv`, or another form of `inputs`.
        segmenter_factory: makes a segmenter; importable by name if there are several workers.
        out: folder for `rows-*.jsonl`, `settings.json`, `summary.json` and `summary.csv`;
            made if absent. Tasks already recorded there without error are not run again.
        options: how to run it.
        model: what is measured, in words; kept in `settings.json`.
        watch: told after every task how many are done, and at the start.

    Returns:
        The summary (see `summarise`) of all records in `out`, those of other ranks included.

    Raises:
        InputError: the manifest is unusable, or `out` holds results of other settings.
    """
    rank, world = rank_and_world()
    planned = thinned(plan(data, options), options.most)
    make_folder(out)
    settings = {k: v for k, v in asdict(options).items() if k not in NOT_SETTINGS}
    settings["model"] = model
    keep_settings(out / "settings.json", data, settings)
    finished = {record.key for record in read_records(out) if not record.error}
    work: list[Work] = []
    faulty: list[Record] = []
    for place, (case, tasks) in enumerate(planned):
        if place % world != rank:
            continue
        if isinstance(tasks, Record):
            faulty.append(tasks)
            continue
        left = [task for task in tasks if (case.file.stem, task.label) not in finished]
        if left:
            work.append((case, left))
    path = out / ROWS.format(rank=rank)
    append_records(path, faulty)
    count = sum(len(tasks) for _, tasks in work)
    records = spread(work, segmenter_factory, partial(_run, options=options), options.workers)
    append_records(path, watched(records, count, watch))
    return summarise(out, whole=world == 1)


def _run(segmenter: Segmenter, work: Work, options: Options) -> Iterator[Record]:
    return run_case(segmenter, *work, options)


def run_case(
    segmenter: Segmenter, case: Case, tasks: list[Task], options: Options
) -> Iterator[Record]:
    """Run some tasks of one case, reading it once."""
    try:
        loaded = load(case)
    except Exception as error:  # a damaged file fails in many ways and must not stop the rest
        yield blank_record(case, describe(error))
        return
    loaded.image.flags.writeable = False
    for task in tasks:
        yield run_task(segmenter, loaded, task, options)
