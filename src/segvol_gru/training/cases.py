"""Which cases a recipe trains on, where their voxels are, and what is said of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case, load_case, read_manifest
from segvol_gru.data.shards import has_shards, licences, open_shards
from segvol_gru.data.shards_pack import said_in
from segvol_gru.errors import InputError
from segvol_gru.experts import Kind, kind_of, recognised, traits
from segvol_gru.pipeline import Model
from segvol_gru.training.examples import TrainingCase
from segvol_gru.training.recipe import Recipe

GREY = (0.0, 255.0)  # training cases have their window behind them


def chosen_cases(recipe: Recipe, data: Path | None) -> list[Case]:
    """Manifest rows that a recipe trains on.

    Args:
        recipe: says which.
        data: the data folder, with a manifest or with shards; None for a run on synthetic
            volumes alone.

    Raises:
        InputError: no case is left, or real cases are wanted and no folder was given.
    """
    if data is None:
        if recipe.loop.examples.synthetic_share < 1:
            raise InputError(
                "no data folder came, and the recipe's synthetic_share "
                f"{recipe.loop.examples.synthetic_share} wants real cases; give --data."
            )
        return []
    found = [c.case for c in open_shards(data)] if has_shards(data) else read_manifest(data)
    cases = [case for case in found if recipe.chosen(case)]
    if recipe.cases:
        cases = sorted(cases, key=lambda case: case.file.name)[: recipe.cases]
    if not cases:
        raise InputError(_none_chosen(recipe, data, found))
    return cases


def _none_chosen(recipe: Recipe, data: Path, found: Sequence[Case]) -> str:
    """Why a recipe chooses none of the cases found, and what to do."""
    said = (
        f"{data} has no case of split {recipe.split!r}, licence class "
        f"{' or '.join(recipe.licence_classes) or 'any'} and data set "
        f"{' or '.join(recipe.datasets) or 'any'}"
    )
    any_class = replace(recipe, licence_classes=())
    classes = sorted({case.licence_class for case in found if any_class.chosen(case)})
    if classes:
        return (
            f"{said}, but some of class {' and '.join(classes)}; give that class as "
            "licence_classes of a recipe, or another to `prepare --licence-class`."
        )
    there = sorted({f"{case.dataset} ({case.split})" for case in found})
    return f"{said}; choose among its data sets and splits {', '.join(there) or '(none)'}."


def open_cases(rows: Sequence[Case], data: Path | None) -> list[TrainingCase]:
    """Cases whose voxels can be read: in shards where they are packed, else in memory.

    Args:
        rows: what `chosen_cases` chose.
        data: the same folder.

    Raises:
        InputError: a case cannot be read.
    """
    if data is not None and has_shards(data):
        stored = {case.case.file: case for case in open_shards(data)}
        return [stored[row.file] for row in rows]
    return [load_case(row) for row in rows]


def fingerprints(cases: Sequence[TrainingCase]) -> list[str]:
    """What cases are known again by, in rising order: names of files, and digests.

    The digest is of data set, sizes, structures and a line of voxels through the middle, which
    cost nothing to read from shards.
    """
    return sorted(f"{case.case.file.name} {_digest(case)}" for case in cases)


def _digest(case: TrainingCase) -> str:
    depth, height, width = case.image.shape
    y, z = height // 2, depth // 2
    line = case.image[slice(z, z + 1), slice(y, y + 1), slice(0, width)]
    told = (case.case.dataset, case.image.shape, case.spacing_mm, sorted(case.tasks.items()))
    return hashlib.sha256(repr(told).encode() + line.tobytes()).hexdigest()


def traits_of(cases: Sequence[TrainingCase]) -> NDArray[np.float64]:
    """What tells these scans apart from others: (cases, 15); see `experts.traits`.

    Raises:
        InputError: there is no case.
    """
    if not cases:
        raise InputError("an expert is known by its scans, and no case came; give --data.")
    rows = []
    for case in cases:
        depth, height, width = (slice(0, n) for n in case.image.shape)
        rows.append(traits(case.image[depth, height, width], case.spacing_mm, GREY))
    return np.array(rows)


def kinds_of(name: str, cases: Sequence[TrainingCase]) -> list[Kind]:
    """By what the scans of an expert are known: one kind for each data set of its cases.

    One for several would span all that lies between them.
    """
    kept: dict[str, list[TrainingCase]] = defaultdict(list)
    for case in cases:
        kept[case.case.dataset].append(case)
    return [kind_of(name, traits_of(kept[dataset])) for dataset in sorted(kept)]


def commonest_kind(model: Model, cases: Sequence[TrainingCase]) -> str:
    """The expert of a model that knows most of these cases; empty if most have none."""
    names = [recognised(model.experts.kinds, row) for row in traits_of(cases)]
    return Counter(names).most_common(1)[0][0]


def facts(rows: Sequence[Case], data: Path | None) -> dict[str, Any]:
    """What a model card says of the data: per data set the number of cases and the licence.

    Args:
        rows: the cases trained on.
        data: their folder; its `datasets.json` or its shards name licences in words under keys
            such as `CT_OpenKBP`; otherwise the manifest's licence class stands in.
    """
    said = said_of(data) if data is not None else {}
    counts = Counter((row.modality, row.dataset, row.licence_class) for row in rows)
    return {
        f"{modality} {dataset}": {
            "cases": count,
            "licence": said.get(f"{modality}_{dataset}", {}).get("licence", licence_class),
            "citation": said.get(f"{modality}_{dataset}", {}).get("citation", ""),
        }
        for (modality, dataset, licence_class), count in sorted(counts.items())
    }


def said_of(data: Path) -> dict[str, dict[str, str]]:
    """What a data folder says of its data sets: modality_dataset -> licence, citation."""
    return licences(data) if has_shards(data) else said_in(data)
