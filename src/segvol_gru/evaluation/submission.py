"""Whatever answers the competition's folders, as a model of `official.run_case`.

    inputs/<case>.npz (image, boxes, clicks, previous answer) ─► answer ─► outputs/<case>.npz

As in the competition, all labels of a case are asked for in one call, and the folder of answers
is not emptied between calls. What goes wrong is noted by step and costs the case, not the run.

Source: challenge-protocol sections 1 to 3.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.challenge import read_labels
from segvol_gru.errors import InputError
from segvol_gru.evaluation.folder import BoxRecord, Round, Spacing, run_command, write_input
from segvol_gru.evaluation.official import STEPS, LabelMap, Turn
from segvol_gru.evaluation.tasks import describe
from segvol_gru.prompts import Box

Answer = Callable[[Path, Path], None]
"""Answers every file of a folder of inputs into a folder of outputs."""


def command_answer(command: str) -> Answer:
    """A command as an answer, run anew at every call.

    Args:
        command: words as for `folder.FolderCommand`.

    Raises:
        InputError: the command is empty.
    """
    words = shlex.split(command)
    if not words:
        raise InputError("the command is empty, wanted words such as 'sh predict.sh'.")
    return partial(run_command, words)


class Submission:
    """One case, asked step by step.

    Args:
        answer: does the work.
        folder: existing folder for inputs and outputs.
        name: of the case; its prefix says the modality.
        array: (D, H, W) uint8 image.
        spacing_mm: voxel size along (D, H, W).
        boxes: one per label; none if the case has none.

    Attributes:
        seconds: of each step's answer; NaN where nothing was asked.
        faults: what went wrong, each with its step.
    """

    def __init__(
        self,
        answer: Answer,
        folder: Path,
        name: str,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        boxes: Sequence[Box | BoxRecord],
    ) -> None:
        self._answer, self._name = answer, name
        self._array, self._spacing_mm, self._boxes = array, spacing_mm, boxes
        self._inputs, self._outputs = folder / "inputs", folder / "outputs"
        self._rounds: list[Round] = []
        self.seconds = [math.nan] * STEPS
        self.faults: list[str] = []
        for part in (self._inputs, self._outputs):
            part.mkdir()

    def __call__(self, turn: Turn) -> LabelMap | None:
        """The answer to one step.

        Returns:
            (D, H, W) labels, all 0 where the answer cannot be used; None if nothing was written.
        """
        self._say(turn)
        written = self._outputs / f"{self._name}.npz"
        before = _stamp(written)
        began = time.perf_counter()
        try:
            self._answer(self._inputs, self._outputs)
        except Exception as error:  # a crash costs this step; the next one is asked all the same
            self._note(turn, describe(error))
        self.seconds[turn.step] = time.perf_counter() - began
        if _stamp(written) == before:
            self._note(turn, f"no {written.name} was written")
            return None
        try:
            labels = read_labels(written)
        except InputError as error:
            self._note(turn, str(error).replace(f"{self._outputs}/", ""))
            return np.zeros(self._array.shape, np.uint8)
        if labels.shape != self._array.shape:
            self._note(turn, f"the answer has shape {labels.shape}, wanted {self._array.shape}")
            return np.zeros(self._array.shape, np.uint8)
        return labels

    def _say(self, turn: Turn) -> None:
        """Write the input file: all prompts so far, and the last answer."""
        previous = None
        if turn.step:
            said = [sum(r[k] is not None for r in self._rounds) for k in range(len(turn.clicks))]
            fresh = zip(turn.clicks, said, strict=True)
            self._rounds.append([c[n] if len(c) > n else None for c, n in fresh])
            seen = np.zeros_like(self._array) if turn.previous is None else turn.previous
            previous = seen.astype(np.uint8)
        path = self._inputs / f"{self._name}.npz"
        write_input(path, self._array, self._spacing_mm, self._boxes, self._rounds, previous)

    def _note(self, turn: Turn, fault: str) -> None:
        self.faults.append(f"step {turn.step}: {fault}")


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is written anew."""
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
