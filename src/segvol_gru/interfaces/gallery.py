"""Pictures of tasks for the report: the task is run again, and its masks are drawn."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case
from segvol_gru.data.preprocess import AS_IT_IS
from segvol_gru.evaluation.inputs import load
from segvol_gru.evaluation.records import Record
from segvol_gru.evaluation.runs import Key
from segvol_gru.evaluation.tasks import Options, Task, plan
from segvol_gru.evaluation.trial import MaskStarter, Segmenter, SegmenterFactory, run_task
from segvol_gru.interfaces.picture import Panel, draw
from segvol_gru.prompts import Box, Click
from segvol_gru.simulate import BoolArray
from segvol_gru.volume import Volume

SHOWN = (0, 1, 3, 5)  # steps
DIGITS = 12  # of a digest in a name


class Gallery:
    """Draws tasks of a data folder as one model solves them.

    Args:
        data: the data folder.
        options: as the model was run.
        factory: makes the model.
        folder: existing folder that keeps the pictures.
    """

    def __init__(
        self, data: Path, options: Options, factory: SegmenterFactory, folder: Path
    ) -> None:
        self._data, self._options, self._factory, self._folder = data, options, factory, folder
        self._tasks: dict[Key, tuple[Case, Task]] | None = None
        self._segmenter: Segmenter | None = None

    def __call__(self, record: Record) -> bytes:
        """The picture of a task, PNG; from the folder if the same answers were drawn before."""
        answers = repr((record.box, record.clicks, record.dsc, record.nsd)).encode()
        name = f"{record.case}_{record.label}_{hashlib.sha256(answers).hexdigest()[:DIGITS]}.png"
        path = self._folder / re.sub(r"[^\w.-]", "_", name)
        if not path.is_file():
            self._draw(path, record)
        return path.read_bytes()

    def _draw(self, path: Path, record: Record) -> None:
        if self._tasks is None:
            self._tasks = {
                (case.file.stem, task.label): (case, task)
                for case, tasks in plan(self._data, self._options)
                if not isinstance(tasks, Record)
                for task in tasks
            }
        if self._segmenter is None:
            self._segmenter = self._factory()
        case, task = self._tasks[record.key]
        loaded = load(case)
        seen = Recorder(self._segmenter)
        again = run_task(seen, loaded, task, self._options)
        panels = [
            Panel(f"{title}: DSC {again.dsc[step]:.3f}", mask, clicks)
            for step, title, mask, clicks in seen.steps(first=0 if task.box is not None else 1)
            if step in SHOWN
        ]
        volume = Volume(loaded.image, loaded.spacing_mm)
        truth: BoolArray = loaded.labels == task.label
        draw(path, volume, AS_IT_IS, panels, box=task.box, reference=truth)


class Recorder:
    """A segmenter that keeps the masks of another one.

    Args:
        inner: the segmenter itself.
    """

    def __init__(self, inner: Segmenter) -> None:
        self._inner = inner
        self._masks: list[BoolArray] = []
        self._clicks: list[Click] = []

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: tuple[float, float, float],
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        if click is not None:
            self._clicks.append(click)
        self._masks.append(self._inner.start(array, spacing_mm, box, click, modality))
        return self._masks[-1]

    def adopt(
        self,
        array: NDArray[np.uint8],
        spacing_mm: tuple[float, float, float],
        mask: BoolArray,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.MaskStarter`."""
        assert isinstance(self._inner, MaskStarter)
        self._masks.append(self._inner.adopt(array, spacing_mm, mask, modality))
        return self._masks[-1]

    def click(self, click: Click) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        self._clicks.append(click)
        self._masks.append(self._inner.click(click))
        return self._masks[-1]

    def steps(self, first: int) -> list[tuple[int, str, BoolArray, tuple[Click, ...]]]:
        """Step, name, mask and all clicks so far, from the first step that had a prompt."""
        found = []
        for step, mask in enumerate(self._masks, start=first):
            title = f"click {step}" if step else "first prompt"
            found.append((step, title, mask, tuple(self._clicks[:step])))
        return found
