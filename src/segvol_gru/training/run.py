"""Carry a recipe out: networks, their first weights, cases, and the loop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from segvol_gru.data.files import whole_file
from segvol_gru.experts import kind_of
from segvol_gru.training.cases import chosen_cases, facts, open_cases, traits_of
from segvol_gru.training.config import LoopConfig
from segvol_gru.training.examples import Examples, TrainingCase
from segvol_gru.training.loop import Outcome, Validate, fit
from segvol_gru.training.memory import keep_memory
from segvol_gru.training.networks import program
from segvol_gru.training.ranks import make_fabric
from segvol_gru.training.recipe import Recipe, keep_recipe
from segvol_gru.training.segvol_views import Views
from segvol_gru.training.watch import ProgressBar, TensorBoardLog, Watcher

DATA = "data.json"
KIND = "kind.json"
TENSORBOARD = "tensorboard"


def train(
    recipe: Recipe,
    data: Path | None,
    out: Path,
    start: str | Path | None = None,
    *,
    accelerator: str = "auto",
    devices: int = 1,
    workers: int = 1,
    minutes: float | None = None,
    validate: Validate | None = None,
    tensorboard: bool = False,
) -> Outcome:
    """Train by a recipe, or go on where the run in `out` ended.

    Started by torchrun or srun, it joins the other processes.

    Args:
        recipe: what to train and how.
        data: folder with `cases/*.npz` and `manifest.csv`, or with shards; None for synthetic
            volumes alone.
        out: folder of the run.
        start: run or model folder (or "default") whose weights to begin with; for the stage
            `segvol` a file that `weights import` made.
        accelerator: "cpu", "cuda" or "auto".
        devices: how many of them.
        workers: processes that draw examples, per device.
        minutes: end the run after so much time.
        validate: scores the averaged networks as the recipe's loop asks for it.
        tensorboard: also write curves for TensorBoard.

    Raises:
        InputError: data, start or out cannot be used.
        KeyboardInterrupt: it was stopped from outside; the same call goes on with it.
    """
    keep_memory()
    rows = chosen_cases(recipe, data)
    model = program(recipe, start)
    fabric = make_fabric(accelerator, devices, recipe.precision, recipe.fewest_cells)
    fabric.launch()
    loop, cases = recipe.loop_for(len(rows), fabric.world_size), open_cases(rows, data)
    if fabric.is_global_zero:
        _keep_facts(recipe, facts(rows, data), cases, out)
    examples = _examples(recipe, loop, cases, fabric.world_size)
    outcome = fit(
        model,
        examples,
        loop,
        out,
        fabric,
        workers=workers,
        minutes=minutes,
        validate=validate,
        watchers=_watchers(out, tensorboard and fabric.is_global_zero),
    )
    if outcome.reason == "interrupted":
        raise KeyboardInterrupt(f"stopped after step {outcome.steps}; run it again to go on.")
    return outcome


def _keep_facts(
    recipe: Recipe, data: Mapping[str, Any], cases: Sequence[TrainingCase], out: Path
) -> None:
    """Store what `export` will ask: the recipe, the data, and the kind that an expert is for.

    Raises:
        InputError: the folder holds a run of another recipe.
    """
    keep_recipe(recipe, out)
    with whole_file(out / DATA) as fresh:
        fresh.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if recipe.expert:
        kind = asdict(kind_of(recipe.expert, traits_of(cases)))
        with whole_file(out / KIND) as fresh:
            fresh.write_text(json.dumps(kind) + "\n", encoding="utf-8")


def _watchers(out: Path, tensorboard: bool) -> list[Watcher]:
    """Who is told of every step."""
    return [ProgressBar(), *([TensorBoardLog(out / TENSORBOARD)] if tensorboard else [])]


def _examples(
    recipe: Recipe, loop: LoopConfig, cases: Sequence[TrainingCase], world: int
) -> Dataset[Any]:
    """The examples of a recipe's stage."""
    if recipe.stage == "segvol":
        return Views(cases, recipe.views, recipe.segvol.image, loop.seed)
    length = loop.steps * loop.batch * loop.accumulate * world
    return Examples(cases, loop.examples, loop.seed, length)
