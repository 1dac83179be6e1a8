"""What the commands print on: tables and progress for people, plain text when piped."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

PIPED_WIDTH = 160  # letters in a line where no terminal says: no column of a table is lost

out = Console()
if not out.is_terminal and "COLUMNS" not in os.environ:
    out.width = PIPED_WIDTH
err = Console(stderr=True)


def refuse(sentence: str) -> None:
    """Say in red, on standard error, why a command was refused."""
    err.print(sentence, style="bold red", markup=False, highlight=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], numbers: Sequence[str] = ()) -> Table:
    """A table; the columns named in `numbers` are set to the right."""
    drawn = Table(title=title, title_justify="left")
    for name in columns:
        drawn.add_column(name, justify="right" if name in numbers else "left")
    return drawn


def progress() -> Progress:
    """A bar on standard error: what, how many of how many, for how long, how long to go."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
