"""The click protocol over a data folder: one box or click, then up to five corrections.

Anything that satisfies `Segmenter` can be driven. Every task leaves one line in the output
folder when it is done; starting again goes on after the last line. Cases that cannot be read and
segmenters that fail are recorded by name and do not stop the run.

Cases are dealt out to ranks (environment RANK and WORLD_SIZE, as torchrun and srun set them) and
within a rank to worker processes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segvol_gru.data.dataset import Case
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

NOT_SETTINGS = ("workers", "datasets", "most")  # what a task's record does not depend on

Watch = Callable[[int, int], None]  # tasks done, tasks in all
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
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    out.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in asdict(options).items() if k not in NOT_SETTINGS}
    settings["model"] = model
    keep_settings(out / "settings.json", settings)
    finished = {record.key for record in read_records(out) if not record.error}
    work: list[Work] = []
    faulty: list[Record] = []
    for place, (case, tasks) in enumerate(thinned(plan(data, options), options.most)):
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
    append_records(path, _watched(_run(work, segmenter_factory, options), count, watch))
    return summarise(out)


def _watched(records: Iterator[Record], count: int, watch: Watch | None) -> Iterator[Record]:
    if watch is not None:
        watch(0, count)
    for done, record in enumerate(records, start=1):
        yield record
        if watch is not None:
            watch(done, count)


def _run(work: list[Work], factory: SegmenterFactory, options: Options) -> Iterator[Record]:
    """Records of all tasks as they come."""
    if options.workers == 1:
        segmenter = factory() if work else None
        for case, tasks in work:
            assert segmenter is not None
            yield from run_case(segmenter, case, tasks, options)
        return
    # Forking after torch has made threads can hang, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        options.workers, mp_context=context, initializer=_Worker.begin, initargs=(factory, options)
    ) as pool:
        jobs: list[Future[list[Record]]] = [pool.submit(_Worker.run, item) for item in work]
        for job in as_completed(jobs):
            yield from job.result()


class _Worker:
    """State of one worker process."""

    segmenter: Segmenter
    options: Options

    @classmethod
    def begin(cls, factory: SegmenterFactory, options: Options) -> None:
        cls.segmenter, cls.options = factory(), options

    @classmethod
    def run(cls, work: Work) -> list[Record]:
        return list(run_case(cls.segmenter, *work, cls.options))


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
