"""The networks of a run, and the weights that they begin or end with."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from segvol_gru.base.compact import CompactBase
from segvol_gru.base.segvol import random_segvol
from segvol_gru.base.weights import load_segvol
from segvol_gru.correct import Corrector
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.correct.paper import PaperCorrector
from segvol_gru.errors import InputError
from segvol_gru.experts import owned
from segvol_gru.pretrained import load_model
from segvol_gru.training.program import Program
from segvol_gru.training.recipe import Recipe
from segvol_gru.training.rounds import Rounds, start_field_from_base
from segvol_gru.training.segvol_rounds import SegVolRounds
from segvol_gru.training.state import BEST, LAST, read_checkpoint

SHOWN = 300  # letters of PyTorch's list of keys that do not fit
WEIGHTS = Path(str(resources.files("segvol_gru") / "weights"))


def program(recipe: Recipe, start: str | Path | None) -> Program:
    """What a recipe trains, with the weights it begins with.

    Args:
        recipe: what to train.
        start: run or model folder, or "default"; in the stage `segvol` a file that
            `weights import` made; None for first weights drawn from the recipe's seed.

    Raises:
        InputError: `start` is missing or does not fit.
    """
    if recipe.stage == "segvol":
        return segvol_networks(recipe, None if start is None else Path(start))
    model = networks(recipe)
    if start is not None:
        fill(model, start, recipe.begin)
    elif recipe.stage == "corrector":
        raise InputError("a corrector learns on a trained base; give --from a run or a model.")
    elif recipe.expert or recipe.keep_experts:
        raise InputError("experts share most of a trained network; give --from a model.")
    if recipe.expert or recipe.keep_experts:
        _leave_what_is_shared(model)
    nn.Module.to(model, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model


def segvol_networks(recipe: Recipe, start: Path | None) -> SegVolRounds:
    """SegVol without its text tower, and a new corrector.

    Raises:
        InputError: `start` is no SegVol of the recipe's sizes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.loop.seed)
        corrector = PaperCorrector(recipe.paper)
    if start is None:
        segvol = random_segvol(recipe.segvol, torch.Generator().manual_seed(recipe.loop.seed))
    else:
        segvol = load_segvol(start, text=False)
        if segvol.config != recipe.segvol:
            raise InputError(f"{start} has other sizes than the recipe's [segvol]; give those.")
    return SegVolRounds(segvol.train().requires_grad_(True), corrector, recipe.stages)


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


def _leave_what_is_shared(model: Rounds) -> None:
    """Let nothing learn but what experts have of their own."""
    for network in (model.base, model.corrector):
        if network is not None:
            own = set(owned(network))
            for name, value in network.named_parameters():
                value.requires_grad_(name in own)


def fill(model: Rounds, start: str | Path, expert: str = "") -> None:
    """Give networks the weights of an earlier run or of a model folder.

    A corrector that `start` does not have begins with its own first weights; a field corrector
    with those of the base.

    Args:
        model: the networks.
        start: the run or model folder.
        expert: take the expert of this name where the model has it.

    Raises:
        InputError: `start` is neither, or its sizes are not the recipe's.
    """
    weights = _weights(start, model.corrector, expert)
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
    """The result of a run by network: its best averaged weights, else the last.

    Returns:
        `base`, or `segvol` in the stage of that name, and `corrector`, empty where there is none.

    Raises:
        InputError: there is no readable checkpoint.
    """
    best = run / BEST
    state = read_checkpoint(best if best.is_file() else run / LAST)
    parts: dict[str, dict[str, Tensor]] = {"corrector": {}}
    for key, value in state["average"].items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts


def _weights(
    start: str | Path, corrector: Corrector | None, expert: str
) -> dict[str, dict[str, Tensor]]:
    """Weights to begin with, as `base` and `corrector` (empty where there is none)."""
    if (Path(start) / LAST).is_file():
        found = averaged(Path(start))
        if corrector is None or found["corrector"].keys() != corrector.state_dict().keys():
            found["corrector"] = {}  # none, or one of the other kind
        return found
    kind = "paper" if isinstance(corrector, PaperCorrector) else "field"
    folder = WEIGHTS if start == "default" else Path(start)
    known = corrector is not None and (folder / f"{kind}.safetensors").is_file()
    model = load_model(start, kind if known else "reprompt").of(expert)
    return {
        "base": model.base.state_dict(),
        "corrector": model.corrector.state_dict() if known else {},
    }
