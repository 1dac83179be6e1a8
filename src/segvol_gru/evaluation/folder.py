r"""Any command with the competition's folders: files in, files out, nothing in between.

    inputs/<case>.npz  ─► command ─► outputs/<case>.npz (`segs`)

The command is run once per prompt, as the competition runs a container; what it may know of
earlier prompts stands in the file. In the command's words `{inputs}` and `{outputs}` stand for
the two folders, for instance

    docker run --rm -v {inputs}:/workspace/inputs -v {outputs}:/workspace/outputs \
        team:latest sh predict.sh

Source: challenge-protocol sections 1 and 2.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.challenge import read_labels
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click
from segvol_gru.simulate import BoolArray

PREFIX = "command:"
LAST_WORDS = 300  # characters of a failed command's last words that are recorded

Spacing = tuple[float, float, float]
Round = Sequence[Click | None]  # one entry per class
BoxRecord = Mapping[str, int]  # a box as the competition stores it


class FolderCommand:
    """A command as a segmenter of one structure at a time.

    Args:
        command: words as for a shell, without its features; `{inputs}` and `{outputs}` are
            replaced.
    """

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        if not self._words:
            raise InputError("the command is empty, wanted words such as 'sh predict.sh'.")

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        self._array, self._spacing_mm = array, spacing_mm
        self._name = f"{modality or 'CT'}_case"
        self._box, self._rounds = box, []
        self._previous = np.zeros(array.shape, np.uint8)
        if click is not None:
            return self.click(click)
        return self._answer()

    def click(self, click: Click) -> BoolArray:
        """See `evaluation.trial.Segmenter`."""
        self._rounds.append((click,))
        return self._answer()

    def _answer(self) -> BoolArray:
        with tempfile.TemporaryDirectory() as folder:
            inputs, outputs = Path(folder) / "inputs", Path(folder) / "outputs"
            inputs.mkdir()
            outputs.mkdir()
            boxes = [] if self._box is None else [self._box]
            previous = self._previous if self._rounds else None
            write_input(
                inputs / f"{self._name}.npz",
                self._array,
                self._spacing_mm,
                boxes,
                self._rounds,
                previous,
            )
            run_command(self._words, inputs, outputs)
            answer = outputs / f"{self._name}.npz"
            if not answer.is_file():
                raise InputError(f"the command wrote no {answer.name}, wanted one per input file.")
            labels = read_labels(answer)
        mask: BoolArray = labels == 1
        self._previous = mask.astype(np.uint8)
        return mask

    _rounds: list[Round]


def run_command(words: Sequence[str], inputs: Path, outputs: Path) -> None:
    """Run a command on two folders.

    Raises:
        InputError: it cannot be started or fails; its last words are quoted.
    """
    places = {"{inputs}": str(inputs), "{outputs}": str(outputs)}
    filled = list(words)
    for place, path in places.items():
        filled = [word.replace(place, path) for word in filled]
    try:
        done = subprocess.run(
            filled, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        raise InputError(
            f"cannot run {words[0]!r} ({error}); give a command that exists."
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-LAST_WORDS:]
        raise InputError(f"{words[0]!r} ended with code {done.returncode}: {said}")


def write_input(
    path: Path,
    array: NDArray[Any],
    spacing_mm: Spacing,
    boxes: Sequence[Box | BoxRecord],
    rounds: Sequence[Round],
    previous: NDArray[np.uint8] | None,
) -> None:
    """Write a competition input file.

    Args:
        path: the file.
        array: (D, H, W) image.
        spacing_mm: voxel size along (D, H, W); stored as (x, y, z).
        boxes: one per class; none if the case has none.
        rounds: clicks so far, per round one entry per class.
        previous: (D, H, W) labels of the last answer; None before the first click.
    """
    content: dict[str, Any] = {"imgs": array, "spacing": np.array(spacing_mm[::-1])}
    if boxes:
        plain = [box_record(box) if isinstance(box, Box) else dict(box) for box in boxes]
        content["boxes"] = _objects(plain)
    if rounds:
        per_class = list(zip(*rounds, strict=True))
        content["clicks"] = _objects(
            [
                {
                    "fg": [list(c.at) for c in clicks if c is not None and c.positive],
                    "bg": [list(c.at) for c in clicks if c is not None and not c.positive],
                }
                for clicks in per_class
            ]
        )
        content["clicks_order"] = np.array(
            [[None if c is None else "fg" if c.positive else "bg" for c in k] for k in per_class]
        )
    if previous is not None:
        content["prev_pred"] = previous
    # The official script deflates; np.load reads both alike, and deflating takes 0.2 s per MB.
    np.savez(path, **content)


def box_record(box: Box) -> dict[str, int]:
    """A box as the competition stores it; the middle slice is that of the box."""
    return {
        "z_min": box.lo[0],
        "z_max": box.hi[0],
        "z_mid": (box.lo[0] + box.hi[0]) // 2,
        "z_mid_y_min": box.lo[1],
        "z_mid_x_min": box.lo[2],
        "z_mid_y_max": box.hi[1],
        "z_mid_x_max": box.hi[2],
    }


def _objects(records: Sequence[dict[str, Any]]) -> NDArray[np.object_]:
    """(K,) array of dicts, as the competition stores them."""
    array = np.empty(len(records), dtype=object)
    array[:] = records
    return array
