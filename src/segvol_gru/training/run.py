"""Carry a recipe out: networks, their first weights, cases, and the loop."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from segvol_gru.base.compact import CompactBase
from segvol_gru.correct import Corrector
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.correct.paper import PaperCorrector
from segvol_gru.errors import InputError
from segvol_gru.pretrained import load_model
from segvol_gru.training.cases import chosen_cases, facts, open_cases
from segvol_gru.training.examples import Examples
from segvol_gru.training.loop import Outcome, Validate, fit
from segvol_gru.training.ranks import make_fabric
from segvol_gru.training.recipe import Recipe, keep_recipe
from segvol_gru.training.rounds import Rounds, start_field_from_base
from segvol_gru.training.state import BEST, LAST, read_checkpoint
from segvol_gru.training.watch import ProgressBar, TensorBoardLog, Watcher

DATA = "data.json"
TENSORBOARD = "tensorboard"
SHOWN = 300  # letters of PyTorch's list of keys that do not fit
WEIGHTS = Path(str(resources.files("segvol_gru") / "weights"))


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
        start: run or model folder (or "default") whose weights to begin with.
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
    rows = chosen_cases(recipe, data)
    model = networks(recipe)
    if start is not None:
        fill(model, start)
    elif recipe.stage == "corrector":
        raise InputError("a corrector learns on a trained base; give --from a run or a model.")
    fabric = make_fabric(accelerator, devices, recipe.precision)
    fabric.launch()
    if fabric.is_global_zero:
        keep_recipe(recipe, out)
        (out / DATA).write_text(json.dumps(facts(rows, data), indent=1) + "\n", encoding="utf-8")
    nn.Module.to(model, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    loop = recipe.loop
    cases = open_cases(rows, data)
    length = loop.steps * loop.batch * loop.accumulate * fabric.world_size
    watchers: list[Watcher] = [ProgressBar()]
    if tensorboard and fabric.is_global_zero:
        watchers.append(TensorBoardLog(out / TENSORBOARD))
    outcome = fit(
        model,
        Examples(cases, loop.examples, loop.seed, length),
        loop,
        out,
        fabric,
        workers=workers,
        minutes=minutes,
        validate=validate,
        watchers=watchers,
    )
    if outcome.reason == "interrupted":
        raise KeyboardInterrupt(f"stopped after step {outcome.steps}; run it again to go on.")
    return outcome


def networks(recipe: Recipe) -> Rounds:
    """Networks of a recipe's sizes with first weights drawn from its seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.loop.seed)
        corrector: Corrector | None = None
        base = CompactBase(recipe.base)
        if recipe.stage == "corrector":
            field = recipe.corrector == "field"
            corrector = FieldCorrector(recipe.field) if field else PaperCorrector(recipe.paper)
    return Rounds(base, corrector, recipe.loop.rounds)


def fill(model: Rounds, start: str | Path) -> None:
    """Give networks the weights of an earlier run or of a model folder.

    A corrector that `start` does not have begins with its own first weights; a field corrector
    with those of the base.

    Raises:
        InputError: `start` is neither, or its sizes are not the recipe's.
    """
    weights = _weights(start, model.corrector)
    try:
        model.base.load_state_dict(weights["base"])
        if model.corrector is not None and weights["corrector"]:
            model.corrector.load_state_dict(weights["corrector"])
        elif isinstance(model.corrector, FieldCorrector):
            start_field_from_base(model.corrector, model.base)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:SHOWN]
        raise InputError(f"{start} has other networks than the recipe wants: {reason}") from None


def averaged(run: Path) -> dict[str, dict[str, Tensor]]:
    """The averaged weights of a run as `base` and `corrector`: its best ones, else the last.

    Raises:
        InputError: there is no readable checkpoint.
    """
    best = run / BEST
    state = read_checkpoint(best if best.is_file() else run / LAST)
    parts: dict[str, dict[str, Tensor]] = {"base": {}, "corrector": {}}
    for key, value in state["average"].items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    return parts


def _weights(start: str | Path, corrector: Corrector | None) -> dict[str, dict[str, Tensor]]:
    """Weights to begin with, as `base` and `corrector` (empty where there is none)."""
    if (Path(start) / LAST).is_file():
        found = averaged(Path(start))
        if corrector is None or found["corrector"].keys() != corrector.state_dict().keys():
            found["corrector"] = {}  # none, or one of the other kind
        return found
    kind = "paper" if isinstance(corrector, PaperCorrector) else "field"
    folder = WEIGHTS if start == "default" else Path(start)
    if corrector is None or not (folder / f"{kind}.safetensors").is_file():
        return {"base": load_model(start, "reprompt").base.state_dict(), "corrector": {}}
    model = load_model(start, kind)
    return {"base": model.base.state_dict(), "corrector": model.corrector.state_dict()}
