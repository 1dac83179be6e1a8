"""`demo`: a simulated user segments a real MR volume; table, picture and masks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segvol_gru.data.files import make_folder
from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import CorrectorName, DeviceName, ModelName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segvol_gru.data.demo import DemoCase
    from segvol_gru.prompts import Click
    from segvol_gru.session.session import Session

DEFAULT = ("left-thalamus",)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One prompt of the simulated user and what came of it."""

    name: str
    click: Click | None
    mask: NDArray[np.bool_]
    dsc: float
    seconds: float


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the masks.")] = Path("demo"),
    structure: Annotated[
        list[str] | None, typer.Option(help="What to segment; repeat it. `all` means every one.")
    ] = None,
    clicks: Annotated[int, typer.Option(help="Most clicks after the box.", min=0)] = 5,
    model: ModelName = "default",
    corrector: CorrectorName = "field",
    device: DeviceName = "auto",
) -> None:
    """Segment structures of a real brain MR from a box and simulated clicks on the error."""
    from segvol_gru.data.demo import STRUCTURES, demo_case
    from segvol_gru.data.io import write_mask
    from segvol_gru.pretrained import load_model
    from segvol_gru.session.session import Session

    chosen = list(structure or DEFAULT)
    if chosen == ["all"]:
        chosen = list(STRUCTURES)
    networks = load_model(model, corrector)
    make_folder(out)
    for name in chosen:
        case = demo_case(name)
        with Session(case.volume, networks, device=device) as session:
            steps = play(session, case, clicks, name)
        console.out.print(_table(name, steps))
        _picture(out / f"{name}.png", case, steps)
        for number, step in enumerate(steps):
            write_mask(out / f"{name}_{number}.nii.gz", step.mask, case.volume)
        console.out.print(
            f"wrote {out / name}.png and {len(steps)} masks {name}_*.nii.gz", soft_wrap=True
        )


def play(session: Session, case: DemoCase, clicks: int, name: str) -> list[Step]:
    """The robot user: a tight box, then clicks in the largest error until there is none."""
    from segvol_gru.evaluation.metrics import dice
    from segvol_gru.prompts import Click
    from segvol_gru.simulate import next_click, tight_box

    box = tight_box(case.reference)
    steps: list[Step] = []
    with console.progress() as bar:
        task = bar.add_task(name, total=1 + clicks)
        for number in range(1 + clicks):
            found = next_click(case.reference, steps[-1].mask) if steps else None
            if number and found is None:
                break
            click = None if found is None else Click(*found)
            began = time.perf_counter()
            mask = session.prompt(box if click is None else click)
            seconds = time.perf_counter() - began
            title = "box" if click is None else f"click {number}"
            steps.append(Step(title, click, mask, dice(case.reference, mask), seconds))
            bar.advance(task)
    return steps


def _table(name: str, steps: list[Step]) -> object:
    drawn = console.table(name, ["prompt", "at (z, y, x)", "DSC", "seconds"], ["DSC", "seconds"])
    for step in steps:
        where = ""
        if step.click is not None:
            sign = "+" if step.click.positive else "-"
            where = f"{sign} {step.click.at}"
        drawn.add_row(step.name, where, f"{step.dsc:.3f}", f"{step.seconds:.2f}")
    return drawn


def _picture(path: Path, case: DemoCase, steps: list[Step]) -> None:
    """One column per step, with the click that led to it."""
    from segvol_gru.data.preprocess import window_for
    from segvol_gru.interfaces.picture import Panel, draw
    from segvol_gru.simulate import tight_box

    panels = [
        Panel(
            f"{step.name}: DSC {step.dsc:.2f}",
            step.mask,
            () if step.click is None else (step.click,),
        )
        for step in steps
    ]
    box = tight_box(case.reference)
    draw(path, case.volume, window_for(case.volume), panels, box=box, reference=case.reference)
