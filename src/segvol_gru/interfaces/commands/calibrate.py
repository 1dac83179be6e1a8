"""`calibrate`: how far the session's doubt can be believed.

A command of its own beside `evaluate`: that one measures masks, which every model has, keeps one
small record per task and is run on all tasks; this one needs probabilities and suggestions, which
only our session has, and a spread part of the tasks tells enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segvol_gru.interfaces import console
from segvol_gru.interfaces.commands.evaluate import Data
from segvol_gru.interfaces.options import CorrectorName, DeviceName, ModelName

SHOWN = ("ECE", "box", "5", "hits", "drawn")


def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of records; a run goes on here.")],
    model: ModelName = "default",
    corrector: CorrectorName = "field",
    start: Annotated[str, typer.Option(help="First prompt, as for evaluate.")] = "tight",
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "val",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set; repeat it.")
    ] = None,
    most: Annotated[int, typer.Option(help="At most so many tasks of each data set.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of boxes and of the voxels drawn.")] = 2025,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    device: DeviceName = "auto",
) -> None:
    """Measure calibration near boundaries, and how often suggested clicks hit an error."""
    from functools import partial

    from segvol_gru.evaluation.calibration import calibrate as run
    from segvol_gru.evaluation.tasks import Options
    from segvol_gru.interfaces.curve import draw_curve
    from segvol_gru.interfaces.factories import ours
    from segvol_gru.interfaces.measured import SessionSegmenter

    options = Options(
        start=start,  # type: ignore[arg-type]  # Options checks the word
        split=split,
        datasets=tuple(dataset or ()),
        most=most,
        seed=seed,
        workers=workers,
    )
    _, name = ours(model, corrector, device)
    factory = partial(SessionSegmenter, model, corrector, device)
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
    draw_curve(out / "reliability.png", summary["mean"])
    print_calibration(summary)
    console.out.print(
        f"wrote {out / 'calibration.json'}", markup=False, highlight=False, soft_wrap=True
    )


def print_calibration(summary: dict[str, Any]) -> None:
    """Show the means over data sets, then every data set."""
    columns = ["data sets", "tasks", *SHOWN, "gain, 95 %"]
    drawn = console.table("Calibration error, and suggestions that hit", columns, columns[1:])
    for scope, row in summary["mean"].items():
        if row["datasets"]:
            gain = row["gain"]
            said = "-" if gain is None else "{mean:+.2f}, {low:+.2f} to {high:+.2f}".format(**gain)
            drawn.add_row(f"{scope} ({row['datasets']})", *_cells(row), said)
    drawn.add_section()
    for name, row in summary["datasets"].items():
        drawn.add_row(name, *_cells(row))
    console.out.print(drawn)
    if summary["temperature"] is not None:
        fitted = summary["temperature"]
        left = ", ".join(f"{scope} {_number(ece)}" for scope, ece in fitted["ece"].items())
        said = f"an ECE is above 0.05; logits divided by {fitted['value']:.3f} would leave {left}"
        console.out.print(said, markup=False, highlight=False, soft_wrap=True)
    if summary["errors"]:
        console.refuse(
            f"{len(summary['errors'])} tasks or cases failed; calibration.json names them."
        )


def _cells(row: dict[str, Any]) -> list[str]:
    steps = row["ece_steps"]
    shares = (_number(row[name], 2) for name in ("suggested", "drawn"))
    return [str(row["n"]), *map(_number, (row["ece"], steps[0], steps[-1])), *shares]


def _number(value: float, digits: int = 3) -> str:
    """A number, or a dash for what has no value."""
    return "-" if value != value else f"{value:.{digits}f}"
