"""`train` and `export`: from a recipe to weight files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from segvol_gru.errors import InputError
from segvol_gru.interfaces import console

FINETUNE = "finetune"  # its sizes are those of a model, which the command of that name reads
RECIPES = (
    "base",
    "field",
    "paper",
    "expert_base",
    "expert_field",
    "general_base",
    "general_field",
    "segvol",
)


def train(
    config: Annotated[
        str, typer.Argument(help=f"A TOML recipe, or a shipped one: {', '.join(RECIPES)}.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; training goes on where it ended.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with manifest.csv and cases/*.npz.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Begin with the weights of this run, model folder or default."),
    ] = None,
    expert: Annotated[
        str | None, typer.Option(help="Train the expert for this data set, on its cases alone.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(help="How many of them.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Processes that draw examples.", min=0)] = 1,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so long; the same command goes on.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves for TensorBoard.")
    ] = False,
) -> None:
    """Train the base, or a corrector on a trained base."""
    require_extra()
    from segvol_gru.session.engine import pick_device
    from segvol_gru.training.recipe import read_recipe
    from segvol_gru.training.run import train as run_recipe

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device is {device!r}, wanted auto, cpu or cuda.")
    pick_device(device)
    if config == FINETUNE:
        raise InputError(
            "the recipe 'finetune' takes its sizes from a model; run "
            "`segvol-gru finetune DATA --out RUN` instead."
        )
    recipe = read_recipe(config)
    if expert is not None:
        recipe = replace(recipe, expert=expert, begin=expert, datasets=(expert,))
    outcome = run_recipe(
        recipe,
        data,
        out,
        start,
        accelerator=device,
        devices=devices,
        workers=workers,
        minutes=minutes,
        tensorboard=tensorboard,
    )
    console.out.print(
        f"{outcome.steps} steps ({outcome.reason}); log and checkpoint are in {out}\n"
        f"next: segvol-gru export {out} --out MODEL",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def export(
    run: Annotated[Path, typer.Argument(help="The --out folder of a training run.")],
    out: Annotated[Path, typer.Option(help="The model folder to write, for --model.")],
    corrector_only: Annotated[
        bool, typer.Option("--corrector-only", help="Leave the base in the folder as it is.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--from", help="Of an expert, the model it belongs to; else that in --out."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="summary.json of an evaluation, for the model card.")
    ] = None,
    commit: Annotated[str, typer.Option(help="The commit that trained it.")] = "unknown",
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "CC BY-SA 4.0",
) -> None:
    """Write the weights of a training run with their model card."""
    require_extra()
    from segvol_gru.training.export import export as write

    written = write(
        run,
        out,
        base=not corrector_only,
        model=model,
        figures=figures,
        commit=commit,
        licence=licence,
    )
    for path in written:
        size = path.stat().st_size / 2**20
        console.out.print(f"wrote {path} ({size:.1f} MB)", highlight=False, markup=False)


def require_extra() -> None:
    """Training needs more packages than the rest.

    Raises:
        InputError: they are not installed.
    """
    from importlib.util import find_spec

    missing = [name for name in ("lightning_fabric", "monai") if find_spec(name) is None]
    if missing:
        raise InputError(
            f'training needs {" and ".join(missing)}: pip install "segvol-gru[train]".'
        )
