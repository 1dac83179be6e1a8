"""`finetune`: a model becomes better on a user's own cases; before and after are measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segvol_gru.interfaces import console
from segvol_gru.interfaces.commands.train import require_extra
from segvol_gru.interfaces.options import DataFolder, DeviceName

if TYPE_CHECKING:
    from segvol_gru.evaluation.tasks import Options
    from segvol_gru.training.loop import Outcome
    from segvol_gru.training.recipe import Recipe

NUMBERS = ("box", "box after", "5 clicks", "5 clicks after", "NSD", "NSD after")


def finetune(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="Folder of the run; the model is in OUT/model.")],
    start: Annotated[
        str, typer.Option("--from", help="Model to begin with: default, or a model folder.")
    ] = "default",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set; repeat it.")
    ] = None,
    cases: Annotated[int, typer.Option(help="Most training cases; 0 means all.", min=0)] = 0,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.", min=1)] = None,
    minutes: Annotated[float, typer.Option(help="Stop after so long.")] = 45.0,
    others: Annotated[
        bool, typer.Option("--others", help="Also measure the folder's other data sets.")
    ] = False,
    device: DeviceName = "auto",
    workers: Annotated[int, typer.Option(help="Processes that draw examples.", min=0)] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves for TensorBoard.")
    ] = False,
) -> None:
    """Train on the split `train` of your cases, keep what is best on `val`, print both.

    Ctrl-C stops after the step under way; the same command goes on.
    """
    require_extra()
    from segvol_gru.evaluation.tasks import Options, plan
    from segvol_gru.interfaces.validation import Validation
    from segvol_gru.session.engine import pick_device
    from segvol_gru.training.finetune import finetune_recipe
    from segvol_gru.training.run import train

    pick_device(device)
    named = tuple(dataset or ())
    options = Options(start="tight", datasets=named)
    next(plan(data, options))  # without a case to validate on, nothing is begun
    recipe = finetune_recipe(start, data, out, datasets=named, cases=cases, steps=steps)
    outcome = train(
        recipe,
        data,
        out,
        start,
        accelerator=device,
        workers=workers,
        minutes=minutes,
        validate=Validation(data, out / "validation", options, device),
        tensorboard=tensorboard,
    )
    _write(outcome, recipe, data, start, out, options, device)
    if others:
        _measure_others(data, start, out, named, device)


def _write(
    outcome: Outcome,
    recipe: Recipe,
    data: Path,
    start: str,
    out: Path,
    options: Options,
    device: str,
) -> None:
    """Write OUT/model, and say how it and the model begun with do on the user's cases."""
    from segvol_gru.interfaces.validation import experts_used, score
    from segvol_gru.training.export import copy_model, export
    from segvol_gru.training.state import BEST, read_checkpoint

    model, best = out / "model", int(read_checkpoint(out / BEST)["step"])
    written = export(out, model, model=start) if best else copy_model(start, model)
    found = _measured(data, start, out, "cases", options, device)
    if best and score(found[1]) <= score(found[0]):  # where other experts of `start` know better
        best, written = 0, copy_model(start, model)
        found = _measured(data, start, out, "cases", options, device)
    said = f"nothing was gained, and the model is a copy of the one begun with, {start}"
    if best:
        export(out, model, model=start, figures=out / "cases" / "after" / "summary.json")
        said = _expert(recipe, start, experts_used(data, str(model), options))
    console.out.print(
        f"{outcome.steps} steps ({outcome.reason}); the best weights are those after {best}\n"
        f"{said}\nwrote {' and '.join(str(path) for path in written)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    _compare("your cases", *found)


def _expert(recipe: Recipe, start: str, used: Sequence[str]) -> str:
    """What became an expert, and how many of the cases measured others answer for."""
    place = f"in the place of that of {start}" if recipe.begin == recipe.expert else "a new one"
    return (
        f"the expert is {recipe.expert}, {place}; {len(used) - used.count(recipe.expert)} of "
        f"{len(used)} cases of the split val are not recognised as of its kind"
    )


def _measured(
    data: Path, start: str, out: Path, part: str, options: Options, device: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summaries of the model begun with and of OUT/model, as they answer every scan."""
    from segvol_gru.interfaces.validation import measure

    before, after = (
        measure(data, model, out / part / when, options, device)
        for when, model in (("before", start), ("after", str(out / "model")))
    )
    return before, after


def _compare(title: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Show DSC after the box and after five clicks, and NSD, per data set."""
    drawn = console.table(
        f"{title}: DSC before and after", ["data set", "tasks", *NUMBERS], NUMBERS
    )
    for name, old in before["datasets"].items():
        new = after["datasets"][name]
        pairs = ((old["dsc"][0], new["dsc"][0]), (old["dsc"][-1], new["dsc"][-1]))
        values = [v for pair in (*pairs, (old["nsd"][-1], new["nsd"][-1])) for v in pair]
        shown = ["-" if v is None or v != v else f"{v:.3f}" for v in values]
        drawn.add_row(name, str(old["n"]), *shown)
    console.out.print(drawn)


def _measure_others(
    data: Path, start: str, out: Path, trained_on: tuple[str, ...], device: str
) -> None:
    """What became of the data sets that were not trained on."""
    from segvol_gru.data.dataset import read_manifest
    from segvol_gru.evaluation.tasks import Options

    val = {case.dataset for case in read_manifest(data) if case.split == "val"}
    left = tuple(sorted(val - set(trained_on))) if trained_on else ()
    if not left:
        console.out.print("the folder has no other data sets with cases of the split val")
        return
    options = Options(start="tight", datasets=left)
    _compare("others", *_measured(data, start, out, "others", options, device))
