"""A user's own cases: the shipped recipe, fitted to the model that it starts from.

What is learnt becomes an expert beside those that the model has: scans unlike the user's are
answered as before, to the last bit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segvol_gru.base.compact import CompactBase
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.errors import InputError
from segvol_gru.pretrained import load_model
from segvol_gru.training.cases import chosen_cases, commonest_kind, open_cases
from segvol_gru.training.recipe import Recipe, read_recipe

OWN = "own"  # name of the expert where no data set is named


def finetune_recipe(
    start: str | Path,
    *,
    datasets: tuple[str, ...] = (),
    cases: int = 0,
    steps: int | None = None,
    data: Path | None = None,
) -> Recipe:
    """The recipe `finetune` for base and field corrector of a model.

    Args:
        start: model folder, or "default"; its networks say the sizes.
        datasets: data sets to train on; none named means all.
        cases: most cases to train on, the first by name; 0 means all.
        steps: optimizer steps instead of the recipe's.
        data: where the cases are; if given, the expert that knows most of them is gone on from.

    Raises:
        InputError: there is no such model, or it is of another kind.
    """
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
        expert="+".join(datasets) or OWN,
        base=base.config,
        field=field.config,
        loop=loop,
    )
    if data is None or not model.experts.kinds:
        return recipe
    known = commonest_kind(model, open_cases(chosen_cases(recipe, data), data))
    return replace(recipe, begin=known)
