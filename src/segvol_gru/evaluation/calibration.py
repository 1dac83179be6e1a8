"""Whether doubt means something: calibration near boundaries, and what suggested clicks hit.

The click protocol of `trial`, watched: after the box and after every click the probabilities
near the true and the predicted boundary are counted, and the place that the segmenter suggests to
look at is compared with one drawn from the boundary of its mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case, LoadedCase
from segvol_gru.data.files import make_folder
from segvol_gru.evaluation.doubts import (
    NO_BINS,
    NO_HITS,
    NO_LOGITS,
    ROWS,
    Doubts,
    read_doubts,
    summarise_doubts,
)
from segvol_gru.evaluation.inputs import load
from segvol_gru.evaluation.records import Record, append_records, keep_settings
from segvol_gru.evaluation.reliability import by_logit, by_probability, edge, near_boundaries
from segvol_gru.evaluation.tasks import Options, Task, describe, plan, thinned
from segvol_gru.evaluation.trial import MaskStarter, Segmenter, Spacing, run_task
from segvol_gru.evaluation.workers import Watch, spread, watched
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.simulate import BoolArray

Work = tuple[Case, list[Task]]


class Doubter(Segmenter, Protocol):
    """A segmenter that says how sure it is."""

    @property
    def probability(self) -> NDArray[np.float32]:
        """Of the present structure, (D, H, W) in [0, 1]."""
        ...

    def suggest(self) -> Index | None:
        """Where a click would tell most; None if it has no idea."""
        ...


def calibrate(
    data: Path,
    factory: Callable[[], Doubter],
    out: Path,
    options: Options,
    *,
    model: str = "",
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Watch a segmenter on a data folder.

    Args:
        data: a folder of any form of `inputs`.
        factory: makes the segmenter; importable by name if there are several workers.
        out: folder for `doubts.jsonl`, `settings.json` and `calibration.json`; made if absent.
            Tasks already recorded there without error are not run again.
        options: how the protocol is run.
        model: what is measured, in words; kept in `settings.json`.
        watch: told after every task how many are done, and at the start.

    Returns:
        The summary (see `summarise_doubts`) of all records in `out`.

    Raises:
        InputError: there are no such cases, or `out` holds results of other settings.
    """
    planned = thinned(plan(data, options), options.most)
    make_folder(out)
    settings = {name: getattr(options, name) for name in ("start", "jitter", "split", "seed")}
    keep_settings(out / "settings.json", data, {**settings, "model": model})
    finished = {(d.case, d.label) for d in read_doubts(out) if not d.error}
    work: list[Work] = []
    faulty: list[Doubts] = []
    for case, tasks in planned:
        if isinstance(tasks, Record):
            faulty.append(replace(_blank(case), error=tasks.error))
            continue
        left = [task for task in tasks if (case.file.stem, task.label) not in finished]
        if left:
            work.append((case, left))
    append_records(out / ROWS, faulty)
    found = spread(work, factory, partial(_run, options=options), options.workers)
    count = sum(len(tasks) for _, tasks in work)
    append_records(out / ROWS, watched(found, count, watch))
    return summarise_doubts(out)


def _run(segmenter: Doubter, work: Work, options: Options) -> Iterator[Doubts]:
    """Watch some tasks of one case, reading it once."""
    case, tasks = work
    try:
        loaded = load(case)
    except Exception as error:  # a damaged file fails in many ways and must not stop the rest
        yield replace(_blank(case), error=describe(error))
        return
    loaded.image.flags.writeable = False
    for task in tasks:
        yield watched_task(segmenter, loaded, task, options)


def watched_task(segmenter: Doubter, loaded: LoadedCase, task: Task, options: Options) -> Doubts:
    """Run one task and keep what was thought of it on the way."""
    generator = np.random.default_rng([options.seed, task.number])
    observer = Observer(segmenter, loaded.labels == task.label, generator)
    record = run_task(observer, loaded, task, options)
    given = [record.box is not None, *(click is not None for click in record.clicks)]
    steps = [k for k, prompted in enumerate(given) if prompted]
    bins, suggested, drawn = list(NO_BINS), list(NO_HITS), list(NO_HITS)
    for k, counted in zip(steps, observer.bins, strict=False):  # a failure leaves steps out
        bins[k] = tuple(map(tuple, counted.tolist()))
    for k, (said, by_chance) in zip(steps, observer.hits, strict=False):
        suggested[k], drawn[k] = said, by_chance
    return replace(
        _blank(loaded.case),
        label=task.label,
        bins=tuple(bins),
        logits=tuple(map(tuple, observer.logits.tolist())),
        suggested=tuple(suggested),
        drawn=tuple(drawn),
        error=record.error,
    )


def _blank(case: Case) -> Doubts:
    return Doubts(case.file.stem, case.dataset, case.licence_class, case.subject)


class Observer:
    """A segmenter that keeps what another one thinks after each of its answers.

    Args:
        inner: the segmenter itself.
        gt: (D, H, W) bool, the structure.
        generator: draws voxels of the mask's boundary.

    Attributes:
        bins: per answer, (3, 15) of `by_probability`.
        logits: (2, 200) of `by_logit`, all answers together.
        hits: per answer, whether the suggestion and the drawn voxel lie in an error; twice None
            where there is no error.
    """

    def __init__(self, inner: Doubter, gt: BoolArray, generator: np.random.Generator) -> None:
        self._inner, self._gt, self._generator = inner, gt, generator
        self.bins: list[NDArray[np.float64]] = []
        self.logits = np.array(NO_LOGITS)
        self.hits: list[tuple[bool | None, bool | None]] = []

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        return self._seen(self._inner.start(array, spacing_mm, box, click, modality))

    def adopt(
        self, array: NDArray[np.uint8], spacing_mm: Spacing, mask: BoolArray, modality: str
    ) -> BoolArray:
        """See `evaluation.trial.MaskStarter`."""
        assert isinstance(self._inner, MaskStarter)
        return self._seen(self._inner.adopt(array, spacing_mm, mask, modality))

    def click(self, click: Click) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        return self._seen(self._inner.click(click))

    def _seen(self, pred: BoolArray) -> BoolArray:
        near = near_boundaries(self._gt, pred)
        assert near is not None  # a task has voxels
        window, band = near
        p_prob, truth = self._inner.probability[window][band], self._gt[window][band]
        self.bins.append(by_probability(p_prob, truth))
        self.logits += by_logit(p_prob, truth)
        self.hits.append(self._hits(pred))
        return pred

    def _hits(self, pred: BoolArray) -> tuple[bool | None, bool | None]:
        wrong = self._gt ^ pred
        if not wrong.any():
            return None, None
        at, places = self._inner.suggest(), edge(pred)
        by_chance = len(places) > 0 and bool(wrong[tuple(self._generator.choice(places))])
        return at is not None and bool(wrong[at]), by_chance
