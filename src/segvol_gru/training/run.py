"""Carry a recipe out: networks, their first weights, cases, and the loop."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError
from segvol_gru.memory import keep_memory
from segvol_gru.training.cases import (
    chosen_cases,
    facts,
    fingerprints,
    kinds_of,
    open_cases,
)
from segvol_gru.training.config import LoopConfig
from segvol_gru.training.examples import Examples, TrainingCase
from segvol_gru.training.loop import Outcome, Validate, fit
from segvol_gru.training.networks import program
from segvol_gru.training.ranks import make_fabric
from segvol_gru.training.recipe import Recipe, keep_recipe
from segvol_gru.training.segvol_views import Views
from segvol_gru.training.watch import ProgressBar, TensorBoardLog, Watcher

CASES = "cases.json"
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

    A run that goes on keeps what it was begun with.

    Raises:
        InputError: the folder holds a run of another recipe or on other cases.
    """
    keep_recipe(recipe, out)
    _keep_cases(cases, out)
    if not (out / DATA).is_file():
        _write(out / DATA, data, indent=1)
    if recipe.expert and not (out / KIND).is_file():
        _write(out / KIND, [asdict(kind) for kind in kinds_of(recipe.expert, cases)])


def _keep_cases(cases: Sequence[TrainingCase], out: Path) -> None:
    """Store by what the cases of a run are known again; one from before this was stored has none.

    Raises:
        InputError: the folder holds a run on other cases.
    """
    path, present = out / CASES, fingerprints(cases)
    if not path.is_file():
        _write(path, present, indent=1)
        return
    before = Counter(json.loads(path.read_text(encoding="utf-8")))
    gone, fresh = before - Counter(present), Counter(present) - before
    if gone or fresh:
        raise InputError(
            f"{out} holds a run on {before.total()} cases, of which {gone.total()} are gone or "
            f"changed and {fresh.total()} others came; give its own cases, or a new folder as "
            "--out."
        )


def _write(path: Path, values: Any, indent: int | None = None) -> None:
    with whole_file(path) as fresh:
        fresh.write_text(json.dumps(values, indent=indent) + "\n", encoding="utf-8")


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
