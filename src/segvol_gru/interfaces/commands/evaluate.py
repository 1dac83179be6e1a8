"""`evaluate`: the click protocol on a data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import CorrectorName, DataFolder, DeviceName, ModelName

STEPS = ("box", "1", "2", "3", "4", "5")


def evaluate(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of records and summary; a run goes on here.")],
    model: ModelName = "default",
    corrector: CorrectorName = "field",
    start: Annotated[
        str, typer.Option(help="First prompt: tight, challenge, flat, none or alternate.")
    ] = "tight",
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "val",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set; repeat it.")
    ] = None,
    jitter: Annotated[float, typer.Option(help="Largest error of a box's face, as a share.")] = 0.0,
    random_clicks: Annotated[
        bool, typer.Option("--random-clicks", help="Click anywhere in the largest error.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Empty the memory before every click.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of boxes, jitter and random clicks.")] = 2025,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    device: DeviceName = "auto",
) -> None:
    """Measure a model: a box or click, then five clicks on the error, scored one by one."""
    from functools import partial

    from segvol_gru.evaluation.protocol import evaluate as run
    from segvol_gru.evaluation.tasks import Options
    from segvol_gru.interfaces.measured import SessionSegmenter

    options = Options(
        start=start,  # type: ignore[arg-type]  # Options checks the word
        jitter=jitter,
        random_clicks=random_clicks,
        split=split,
        datasets=tuple(dataset or ()),
        seed=seed,
        workers=workers,
    )
    factory = partial(SessionSegmenter, model, corrector, device, forget)
    print_summary(run(data, factory, out, options))
    console.out.print(
        f"wrote {out / 'summary.json'}", markup=False, highlight=False, soft_wrap=True
    )


def print_summary(summary: dict[str, Any]) -> None:
    """Show the means over data sets, then every data set."""
    drawn = console.table(
        "DSC after the box and after each click",
        ["data sets", "tasks", *STEPS, "NSD 5", "harmful %", "s / click"],
        numbers=["tasks", *STEPS, "NSD 5", "harmful %", "s / click"],
    )
    for scope, row in summary["mean"].items():
        if row["datasets"]:
            drawn.add_row(f"{scope} ({row['datasets']} sets)", *_cells(row))
    drawn.add_section()
    for name, row in summary["datasets"].items():
        drawn.add_row(name, *_cells(row))
    console.out.print(drawn)
    if summary["errors"]:
        console.refuse(f"{len(summary['errors'])} tasks or cases failed; summary.json names them.")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        str(row["n"]),
        *(_number(value) for value in row["dsc"]),
        _number(row["nsd"][-1]),
        _number(100 * row["harmful_share"], 1),
        _number(row["seconds_click"], 2),
    ]


def _number(value: float, digits: int = 3) -> str:
    """A number, or a dash for what has no value."""
    return "-" if value != value else f"{value:.{digits}f}"
