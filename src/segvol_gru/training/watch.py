"""What is seen of a run: a CSV file always; TensorBoard and a progress bar where wanted."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SPEED_PERIOD_S = 600  # steps may take minutes; the ETA looks back this far


class Row(NamedTuple):
    """One step.

    Attributes:
        step: its number, from 0.
        seconds: mean time per step since the run was (re)started.
        wait: mean time per step spent waiting for examples.
        lr: learning rate.
        norm: of the gradient before clipping.
        losses: per round, 0 = the base; mean over ranks.
        dice: hard Dice per round; mean over ranks.
    """

    step: int
    seconds: float
    wait: float
    lr: float
    norm: float
    losses: Sequence[float]
    dice: Sequence[float]


class Watcher(Protocol):
    """Something told of every step, on rank 0 only."""

    def begin(self, first: int, steps: int) -> None:
        """The run goes from step `first` to `steps`."""

    def row(self, row: Row) -> None:
        """A step was made."""

    def validated(self, step: int, score: float, best: bool) -> None:
        """The averaged weights were validated after so many steps."""

    def close(self) -> None:
        """The run has ended, for whatever reason."""


class CsvLog:
    """One line per step. Lines of steps that a restarted run makes again are dropped.

    Args:
        path: the file.
    """

    HEAD = ("step", "seconds", "wait", "lr", "norm", "losses", "dice", "score")

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, first: int, steps: int) -> None:
        """See `Watcher`."""
        kept: list[dict[str, str]] = []
        if first and self.path.is_file():
            with self.path.open(newline="") as stream:
                kept = [r for r in csv.DictReader(stream) if self._before(r, first)]
        with self.path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, self.HEAD, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)

    @staticmethod
    def _before(row: dict[str, str], first: int) -> bool:
        step = row["step"] or ""
        return step.isdigit() and int(step) < first + bool(row.get("score"))

    def row(self, row: Row) -> None:
        """See `Watcher`."""
        self._append(
            {
                "step": str(row.step),
                "seconds": f"{row.seconds:.3f}",
                "wait": f"{row.wait:.3f}",
                "lr": f"{row.lr:.3g}",
                "norm": f"{row.norm:.3f}",
                "losses": " ".join(f"{x:.4f}" for x in row.losses),
                "dice": " ".join(f"{x:.4f}" for x in row.dice),
            }
        )

    def validated(self, step: int, score: float, best: bool) -> None:
        """See `Watcher`."""
        self._append({"step": str(step), "score": f"{score:.5f}"})

    def _append(self, values: dict[str, str]) -> None:
        with self.path.open("a", newline="") as stream:
            csv.DictWriter(stream, self.HEAD, restval="").writerow(values)

    def close(self) -> None:
        """See `Watcher`."""


class TensorBoardLog:
    """Curves for TensorBoard.

    Args:
        folder: where its event files go.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._open = SummaryWriter
        self._folder = folder

    def begin(self, first: int, steps: int) -> None:
        """See `Watcher`."""
        self._writer = self._open(str(self._folder), purge_step=first)

    def row(self, row: Row) -> None:
        """See `Watcher`."""
        values = {"lr": row.lr, "norm": row.norm, "seconds": row.seconds, "wait": row.wait}
        for i, (loss, dice) in enumerate(zip(row.losses, row.dice, strict=True)):
            values[f"loss/{i}"], values[f"dice/{i}"] = loss, dice
        for name, value in values.items():
            self._writer.add_scalar(name, value, row.step)

    def validated(self, step: int, score: float, best: bool) -> None:
        """See `Watcher`."""
        self._writer.add_scalar("score", score, step)

    def close(self) -> None:
        """See `Watcher`."""
        self._writer.close()


class ProgressBar:
    """Steps made, time gone and left, loss and Dice; nothing where no terminal is.

    Args:
        console: where to draw; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=not console.is_terminal,
            speed_estimate_period=SPEED_PERIOD_S,
        )
        self._task = self._bar.add_task("training", total=None, said="")
        self._score = ""

    def begin(self, first: int, steps: int) -> None:
        """See `Watcher`."""
        self._bar.update(self._task, total=steps, completed=first)
        self._bar.start()

    def row(self, row: Row) -> None:
        """See `Watcher`."""
        dice = " ".join(f"{x:.2f}" for x in row.dice)
        said = f"loss {row.losses[0]:.3f}  Dice {dice}{self._score}"
        self._bar.update(self._task, completed=row.step + 1, said=said)

    def validated(self, step: int, score: float, best: bool) -> None:
        """See `Watcher`."""
        self._score = f"  val {score:.3f}{' (best)' if best else ''}"

    def close(self) -> None:
        """See `Watcher`."""
        self._bar.stop()
