"""`challenge`: the competition's loop over a folder, by its own rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from segvol_gru.interfaces import console
from segvol_gru.interfaces.commands.evaluate import Data
from segvol_gru.interfaces.options import CorrectorName, DeviceName

RULES = typer.Option(help="official: as the published script scores; corrected: as it means to.")


def challenge(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of results; a run goes on here.")],
    rules: Annotated[str, RULES] = "official",
    model: Annotated[
        str,
        typer.Option(
            help="default, a model folder, or 'command:WORDS' with {inputs} and {outputs}."
        ),
    ] = "default",
    corrector: CorrectorName = "field",
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "val",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set; repeat it.")
    ] = None,
    most: Annotated[
        int | None, typer.Option(help="At most so many cases of each data set.", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of boxes, where a case comes without.")] = 2025,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    device: DeviceName = "auto",
) -> None:
    """Score a model as the competition does: whole cases, all labels in one answer."""
    from segvol_gru.evaluation.competition import Contest, compete
    from segvol_gru.interfaces.container import contestant

    contest = Contest(rules, split, tuple(dataset or ()), most, seed, workers)
    factory, name = contestant(model, corrector, device)
    with console.progress() as bar:
        task = bar.add_task("cases")
        summary = compete(
            data,
            factory,
            out,
            contest,
            model=name,
            watch=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print_competition(summary, rules)
    console.out.print(f"wrote {out / 'metrics.csv'}", markup=False, highlight=False, soft_wrap=True)


def print_competition(summary: dict[str, Any], rules: str) -> None:
    """Show the table by modality, then every fault by name."""
    table, cases = summary["table"], summary["cases"]
    shown = [name for name in table["head"] if name != "Methods"]
    title = f"{table['title']} ({rules} rules, {cases['counted']} of {cases['all']} cases count)"
    drawn = console.table(title, shown, numbers=shown[1:])
    for row in table["rows"]:
        cells = dict(zip(table["head"], row, strict=True))
        drawn.add_row(*(_cell(cells[name]) for name in shown))
    console.out.print(drawn)
    for fault in summary["faults"]:
        console.refuse(f"{fault['case']}: {fault['fault']}")


def _cell(value: str | int | float) -> str:
    """A cell; a dash for what has no value."""
    if isinstance(value, float):
        return "-" if value != value else f"{value:.3f}"
    return str(value)
