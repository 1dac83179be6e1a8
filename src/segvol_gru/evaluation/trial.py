"""One task under way: prompts, answers, scores."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import LoadedCase
from segvol_gru.errors import InputError
from segvol_gru.evaluation.foreign import foreign_mask
from segvol_gru.evaluation.metrics import CLICKS, dice, nsd
from segvol_gru.evaluation.records import Record
from segvol_gru.evaluation.tasks import Options, Task, blank_record, describe
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


@runtime_checkable
class MaskStarter(Protocol):
    """A segmenter that can also go on with the mask of another tool."""

    def adopt(
        self, array: NDArray[np.uint8], spacing_mm: Spacing, mask: BoolArray, modality: str
    ) -> BoolArray:
        """Begin a new structure from a (D, H, W) bool mask, not empty; returns it."""
        ...


SegmenterFactory = Callable[[], Segmenter]


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
        peak_mb=_peak_mb(),
        error=error,
    )


def _peak_mb() -> float:
    """Most memory that this process has held, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


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
                pred = self._start(segmenter, click)
            else:
                assert click is not None
                pred = segmenter.click(click)
            self.seconds[step] = time.perf_counter() - before
            self._score(pred, step)

    def _start(self, segmenter: Segmenter, click: Click | None) -> BoolArray:
        """The first mask, or that of another tool handed over."""
        loaded, box, kind = self.loaded, self.task.box, self.options.foreign
        modality = loaded.case.modality
        if not kind:
            return segmenter.start(loaded.image, loaded.spacing_mm, box, click, modality)
        if not isinstance(segmenter, MaskStarter):
            raise InputError(
                f"{type(segmenter).__name__} cannot go on with a mask; start it from a box."
            )
        assert box is not None
        mask = foreign_mask(kind, loaded.image, loaded.spacing_mm, self.gt, box)
        return segmenter.adopt(loaded.image, loaded.spacing_mm, mask, modality)

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
