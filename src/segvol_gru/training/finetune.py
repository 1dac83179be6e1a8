"""A user's own cases: the shipped recipe, fitted to the model that it starts from.

What is learnt becomes an expert beside those that the model has: scans unlike the user's are
answered as before, to the last bit.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from segvol_gru.base.compact import CompactBase
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.errors import InputError
from segvol_gru.pretrained import load_model, model_folder
from segvol_gru.training.cases import chosen_cases, commonest_kind, open_cases
from segvol_gru.training.recipe import RECIPE, Recipe, kept_recipe, read_recipe


def finetune_recipe(
    start: str | Path,
    data: Path,
    out: Path,
    *,
    datasets: tuple[str, ...] = (),
    cases: int = 0,
    steps: int | None = None,
) -> Recipe:
    """The recipe `finetune` for base and field corrector of a model.

    The expert that knows most of the cases is gone on from. The new one has the name of their data
    sets and takes the place of that expert if it is its namesake, but of no other.

    Args:
        start: model folder, or "default"; its networks say the sizes.
        data: where the cases are.
        out: folder of the run; the expert of one that goes on keeps its name.
        datasets: data sets to train on; none named means all.
        cases: most cases to train on, the first by name; 0 means all.
        steps: optimizer steps instead of the recipe's.

    Raises:
        InputError: there is no such model, it is of another kind, it lies where the new one goes,
            or no case is left.
    """
    if model_folder(start).resolve() == (out / "model").resolve():
        raise InputError(f"{start} lies where the new model goes; give another folder as --out.")
    recipe, model = read_recipe("finetune"), load_model(start, "field")
    base, field = model.base, model.corrector
    if not (isinstance(base, CompactBase) and isinstance(field, FieldCorrector)):
        raise InputError(
            f"{start} holds {type(base).__name__} and {type(field).__name__}, wanted a compact "
            "base and a field corrector; give another model as --from."
        )
    examples = replace(recipe.loop.examples, cells=base.config.cells)
    loop = replace(recipe.loop, steps=steps or recipe.loop.steps, examples=examples)
    recipe = replace(
        recipe,
        datasets=datasets,
        cases=cases,
        base=base.config,
        field=field.config,
        loop=loop,
    )
    rows, known = chosen_cases(recipe, data), ""
    if model.experts.kinds:
        known = commonest_kind(model, open_cases(rows, data))
    if (out / RECIPE).is_file():
        return replace(recipe, begin=known, expert=kept_recipe(out).expert)
    name = "+".join(datasets or sorted({row.dataset for row in rows}))
    others = {kind.name for kind in model.experts.kinds} - {known}
    return replace(recipe, begin=known, expert=_unlike(others, name))


def _unlike(others: Collection[str], name: str) -> str:
    """A name that is none of the others: the one given, or with a number behind it."""
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(free for free in names if free not in others)
