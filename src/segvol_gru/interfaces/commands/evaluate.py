"""`evaluate`: the click protocol on a data folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import DeviceName

STEPS = ("box", "1", "2", "3", "4", "5")

Data = Annotated[
    Path,
    typer.Argument(
        help="Folder with manifest.csv, competition *.npz, or images/ and labels/ of NIfTI files."
    ),
]
Measured = Annotated[
    str,
    typer.Option(
        "--model",
        help="default, a model folder, box, brush, random-walker, geodesic, region-growing, or "
        "'command:sh predict.sh ...' with {inputs} and {outputs}.",
    ),
]
SegVolFile = Annotated[
    Path | None,
    typer.Option("--segvol", help="Weights of SegVol (`weights import`): it makes the first mask."),
]
Corrector = Annotated[
    str,
    typer.Option("--corrector", help="What clicks go to: field, paper, reprompt or none."),
]
First = Annotated[
    str,
    typer.Option(
        "--start",
        help="First prompt: tight, challenge, flat, none or alternate; or "
        "foreign:region-growing, foreign:threshold, foreign:low-resolution.",
    ),
]
OUT = typer.Option(help="Folder of records and summary; a run goes on here.")
SPLIT = typer.Option(help="Split of the manifest.")
DATASET = typer.Option(help="Only this data set; repeat it.")
JITTER = typer.Option(help="Largest error of a box's face, as a share.")
RANDOM = typer.Option("--random-clicks", help="Click anywhere in the largest error.")
FORGET = typer.Option("--forget", help="Empty the memory before every click.")
SHUFFLE = typer.Option("--shuffle", help="Say earlier clicks anew in another order.")
MOST = typer.Option(help="At most so many tasks of each data set.", min=1)
SEED = typer.Option(help="Of boxes, jitter and random clicks.")
WORKERS = typer.Option(help="Processes.", min=1)


def evaluate(
    data: Data,
    out: Annotated[Path, OUT],
    model: Measured = "default",
    corrector: Corrector = "field",
    segvol: SegVolFile = None,
    start: First = "tight",
    split: Annotated[str, SPLIT] = "val",
    dataset: Annotated[list[str] | None, DATASET] = None,
    jitter: Annotated[float, JITTER] = 0.0,
    random_clicks: Annotated[bool, RANDOM] = False,
    forget: Annotated[bool, FORGET] = False,
    shuffle: Annotated[bool, SHUFFLE] = False,
    most: Annotated[int | None, MOST] = None,
    seed: Annotated[int, SEED] = 2025,
    workers: Annotated[int, WORKERS] = 1,
    device: DeviceName = "auto",
) -> None:
    """Measure a model: a box or click, then five clicks on the error, scored one by one."""
    from segvol_gru.evaluation.protocol import evaluate as run
    from segvol_gru.evaluation.tasks import Options
    from segvol_gru.interfaces.factories import named

    options = Options(
        start=start,  # type: ignore[arg-type]  # Options checks the word
        jitter=jitter,
        random_clicks=random_clicks,
        split=split,
        datasets=tuple(dataset or ()),
        most=most,
        seed=seed,
        workers=workers,
    )
    factory, name = named(model, segvol, corrector, device, forget=forget, shuffle=shuffle)
    with console.progress() as bar:
        task = bar.add_task("tasks")
        summary = run(
            data,
            factory,
            out,
            options,
            model=name,
            watch=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print_summary(summary)
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
