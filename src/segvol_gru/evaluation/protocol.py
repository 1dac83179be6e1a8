"""The click protocol over a data folder: one box or click, then up to five corrections.

Anything that satisfies `Segmenter` can be driven. Every task leaves one line in the output
folder when it is done; starting again goes on after the last line. Cases that cannot be read and
segmenters that fail are recorded by name and do not stop the run.

Cases are dealt out to ranks (environment RANK and WORLD_SIZE, as torchrun and srun set them) and
within a rank to worker processes.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case, LoadedCase, load_case
from segvol_gru.errors import InputError
from segvol_gru.evaluation.metrics import CLICKS, dice, nsd
from segvol_gru.evaluation.records import (
    ROWS,
    Record,
    append_records,
    keep_settings,
    read_records,
)
from segvol_gru.evaluation.summary import summarise
from segvol_gru.evaluation.tasks import Options, Task, blank_record, describe, plan
from segvol_gru.prompts import Box, Click
from segvol_gru.simulate import BoolArray, next_click, random_error_click

Spacing = tuple[float, float, float]


class Segmenter(Protocol):
    """What is measured. One object serves many tasks, one after the other."""

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """Begin a new structure from a box or from a click, exactly one of them.

        Args:
            array: (D, H, W) uint8 image; the same object for all tasks of a case, so what is
                computed from the image alone may be kept. Not to be written to.
            spacing_mm: voxel size along (D, H, W).
            box: the box, or None.
            click: the click, or None.
            modality: CT, MR, PET, US or Microscopy.

        Returns:
            (D, H, W) bool mask.
        """
        ...

    def click(self, click: Click) -> BoolArray:
        """Refine the present structure; returns its (D, H, W) bool mask."""
        ...


SegmenterFactory = Callable[[], Segmenter]
Work = tuple[Case, list[Task]]


def evaluate(
    data: Path, segmenter_factory: SegmenterFactory, out: Path, options: Options
) -> dict[str, Any]:
    """Run the protocol over a data folder and summarise it.

    Args:
        data: folder with `cases/*.npz` and `manifest.csv`.
        segmenter_factory: makes a segmenter; importable by name if there are several workers.
        out: folder for `rows-*.jsonl`, `settings.json`, `summary.json` and `summary.csv`;
            made if absent. Tasks already recorded there without error are not run again.
        options: how to run it.

    Returns:
        The summary (see `summarise`) of all records in `out`, those of other ranks included.

    Raises:
        InputError: the manifest is unusable, or `out` holds results of other settings.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    out.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in asdict(options).items() if k not in ("workers", "datasets")}
    keep_settings(out / "settings.json", settings)
    finished = {record.key for record in read_records(out) if not record.error}
    work: list[Work] = []
    faulty: list[Record] = []
    for place, (case, tasks) in enumerate(plan(data, options)):
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
    append_records(path, _run(work, segmenter_factory, options))
    return summarise(out)


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
        loaded = load_case(case)
    except Exception as error:  # a damaged file fails in many ways and must not stop the rest
        yield blank_record(case, describe(error))
        return
    loaded.image.flags.writeable = False
    for task in tasks:
        yield run_task(segmenter, loaded, task, options)


def run_task(segmenter: Segmenter, loaded: LoadedCase, task: Task, options: Options) -> Record:
    """Run one task.

    A click is skipped where nothing is wrong; the scores then stay. A failure of the segmenter
    is recorded, and scores that were not reached count as 0.
    """
    case = loaded.case
    trial = _Trial(loaded, task, options)
    error = ""
    try:
        trial.run(segmenter)
    except Exception as failure:  # whatever the segmenter does, the other tasks go on
        error = describe(failure)
        trial.fill_with_zeros()
    dsc, surface, seconds = (
        (a[0], a[1], a[2], a[3], a[4], a[5]) for a in (trial.dsc, trial.nsd, trial.seconds)
    )
    return replace(
        blank_record(case),
        label=task.label,
        number=task.number,
        voxels=task.voxels,
        spacing=loaded.spacing_mm,
        box=None if task.box is None else (task.box.lo, task.box.hi),
        clicks=tuple(trial.clicks),
        dsc=dsc,
        nsd=surface,
        seconds=seconds,
        error=error,
    )


class _Trial:
    """One task under way: what was said, what came back, how good it was."""

    def __init__(self, loaded: LoadedCase, task: Task, options: Options) -> None:
        self.loaded, self.task, self.options = loaded, task, options
        self.gt: BoolArray = loaded.labels == task.label
        self.generator = np.random.default_rng([options.seed, task.number])
        self.clicks: list[tuple[int, int, int, int] | None] = [None] * CLICKS
        self.dsc, self.nsd, self.seconds = ([math.nan] * (1 + CLICKS) for _ in range(3))

    def run(self, segmenter: Segmenter) -> None:
        """All prompts of the task, scored one by one."""
        first = 0 if self.task.box is not None else 1
        pred = np.zeros_like(self.gt)
        for step in range(first, 1 + CLICKS):
            click = self._click(pred, step) if step else None
            if step and click is None:
                self.dsc[step], self.nsd[step] = self.dsc[step - 1], self.nsd[step - 1]
                continue
            before = time.perf_counter()
            if step == first:
                pred = segmenter.start(
                    self.loaded.image,
                    self.loaded.spacing_mm,
                    self.task.box,
                    click,
                    self.loaded.case.modality,
                )
            else:
                assert click is not None
                pred = segmenter.click(click)
            self.seconds[step] = time.perf_counter() - before
            self._score(pred, step)

    def fill_with_zeros(self) -> None:
        """Count every score that was not reached as 0."""
        for step in range(0 if self.task.box is not None else 1, 1 + CLICKS):
            if math.isnan(self.dsc[step]):
                self.dsc[step] = 0.0
                self.nsd[step] = 0.0 if self._in_mm else math.nan

    @property
    def _in_mm(self) -> bool:
        return self.loaded.case.modality != "Microscopy"

    def _click(self, pred: BoolArray, step: int) -> Click | None:
        if self.options.random_clicks:
            found = random_error_click(self.gt, pred, self.generator)
        else:
            found = next_click(self.gt, pred)
        if found is None:
            return None
        at, positive = found
        self.clicks[step - 1] = (*at, int(positive))
        return Click(at, positive)

    def _score(self, pred: BoolArray, step: int) -> None:
        if not isinstance(pred, np.ndarray) or pred.dtype != bool or pred.shape != self.gt.shape:
            raise InputError(
                f"prediction is {getattr(pred, 'dtype', type(pred).__name__)} of shape "
                f"{getattr(pred, 'shape', ())}, wanted bool of shape {self.gt.shape}; "
                "threshold it on the grid of the image."
            )
        self.dsc[step] = dice(self.gt, pred)
        if self._in_mm:
            self.nsd[step] = nsd(self.gt, pred, self.loaded.spacing_mm)
