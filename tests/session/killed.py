"""Runs by itself: plays a session in processes that are killed, one journal for each death.

python killed.py FOLDER after           killed after each step
python killed.py FOLDER within A B ...  killed when the last step has written A bytes, ...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny import tiny_model, tiny_volume

from segvol_gru.session.session import Session

STEPS: tuple[Callable[[Session], object], ...] = (
    lambda s: s.box((3, 4, 4), (8, 13, 12)),
    lambda s: s.click((6, 9, 8)),
    lambda s: s.click((1, 1, 1), positive=False),
    lambda s: s.undo(),
    lambda s: s.undo(),
    lambda s: s.redo(),
    lambda s: s.add_object("vessel"),
    lambda s: s.start(tiny_volume().array > 40),
    lambda s: s.reset(),
    lambda s: s.select("object 1"),
    lambda s: s.click((2, 2, 2)),
)


class Axe:
    """A file that kills its writer after so many bytes."""

    def __init__(self, file: Any, allowed: int) -> None:
        self._file, self._left = file, allowed

    def write(self, data: bytes) -> int:
        written: int = self._file.write(data[: self._left])
        self._left -= written
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def play(folder: Path, steps: int, bytes_of_the_last: int | None) -> None:
    session = Session(tiny_volume(), tiny_model(), journal=folder)
    for number, step in enumerate(STEPS[:steps], start=1):
        if number == steps and bytes_of_the_last is not None:
            journal = session._ledger.journal
            assert journal is not None
            journal._file = Axe(journal._file, bytes_of_the_last)  # type: ignore[assignment]
        step(session)
    os.kill(os.getpid(), signal.SIGKILL)


def die(folder: Path, steps: int, bytes_of_the_last: int | None = None) -> None:
    child = os.fork()
    if child == 0:
        try:
            play(folder, steps, bytes_of_the_last)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), (folder, status)
    assert os.WTERMSIG(status) == signal.SIGKILL, (folder, status)


if __name__ == "__main__":
    torch.set_num_threads(1)  # a forked process must not wait for threads it does not have
    root, when, *numbers = sys.argv[1:]
    if when == "after":
        for count in range(len(STEPS) + 1):
            die(Path(root) / str(count), count)
    else:
        for number in numbers:
            die(Path(root) / number, len(STEPS), int(number))
