"""Recipes: every shipped one is read, faults are named, a run of a tiny one gives weight files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from segvol_gru.errors import InputError
from segvol_gru.pretrained import load_model, read_card
from segvol_gru.training.cases import chosen_cases, facts
from segvol_gru.training.export import export, model_card
from segvol_gru.training.networks import averaged, program
from segvol_gru.training.recipe import Recipe, as_recipe, read_recipe, shipped
from segvol_gru.training.run import train

TINY = """
stage = "{stage}"
corrector = "{corrector}"
precision = "32-true"
[base]
widths = [4, 4, 4, 4]
encoder_blocks = [1, 1, 1, 1]
head_width = 4
cells = 16
[field]
widths = [4, 4, 4, 4]
encoder_blocks = [1, 1, 1, 1]
head_width = 4
memory_width = 4
cells = 16
[paper]
points = 8
width = 8
[loop]
steps = 2
batch = 2
checkpoint_every = 1
[loop.examples]
cells = 16
synthetic_share = {synthetic}
[loop.rounds]
weights = [0, 1]
"""


def recipe(
    folder: Path, stage: str = "base", corrector: str = "field", real: bool = False
) -> Recipe:
    path = folder / f"{stage}-{corrector}.toml"
    path.write_text(TINY.format(stage=stage, corrector=corrector, synthetic=0.0 if real else 1.0))
    return read_recipe(path)


def test_the_lowest_level_of_what_is_trained() -> None:
    """Four halvings of 48 and of 32 cells; SegVol has 8 x 16 x 16 patches."""
    small = {"stage": "base", "base": {"cells": 32}}
    assert as_recipe({"stage": "base"}, "mine").fewest_cells == 3
    assert as_recipe(small, "mine").fewest_cells == 2
    assert as_recipe({"stage": "segvol"}, "mine").fewest_cells == 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two cases of one structure each, one of them not to be trained on."""
    folder = tmp_path / "data"
    (folder / "cases").mkdir(parents=True)
    rows = ["file,modality,dataset,subject,split,licence_class,labels"]
    generator = np.random.default_rng(3)
    for name, licence in (("a", "open"), ("b", "research")):
        labels = np.zeros((24, 24, 24), np.uint8)
        labels[6:18, 5:17, 4:16] = 1
        image = (labels * 120 + generator.integers(0, 40, labels.shape)).astype(np.uint8)
        np.savez(folder / "cases" / f"{name}.npz", imgs=image, gts=labels, spacing=np.ones(3))
        rows.append(f"cases/{name}.npz,MR,blocks_{name},{name},train,{licence},1")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    said = {"MR_blocks_a": {"licence": "CC BY 4.0", "citation": "A. Author"}}
    (folder / "datasets.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_read(name: str) -> None:
    assert read_recipe(name).loop.steps > 0


def test_there_are_shipped_recipes() -> None:
    assert {"base", "field", "paper", "finetune"} <= set(shipped())


def test_values_arrive_where_they_belong(tmp_path: Path) -> None:
    read = recipe(tmp_path, "corrector", "paper")
    assert (read.stage, read.corrector) == ("corrector", "paper")
    assert read.base.widths == (4, 4, 4, 4)
    assert read.paper.points == 8
    assert read.loop.examples.cells == 16
    assert read.loop.rounds.weights == (0, 1)
    assert read.loop.lr == Recipe(stage="base").loop.lr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stage = 'base'\n[loop]\nstep = 3", "loop.step"),
        ("stage = 'base'\nseed = 3", "seed"),
        ("stage = 'both'", "stage"),
        ("stage = 'base'\n[loop]\nsteps = 'many'", "loop.steps"),
        ("stage = ", "no TOML"),
        ("", "stage"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_recipe(path)


def test_unknown_recipe_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match="finetune"):
        read_recipe("nothing")


def test_only_open_cases_of_the_split_are_chosen(tmp_path: Path, data: Path) -> None:
    chosen = chosen_cases(recipe(tmp_path, real=True), data)
    assert [case.dataset for case in chosen] == ["blocks_a"]
    assert facts(chosen, data) == {
        "MR blocks_a": {"cases": 1, "licence": "CC BY 4.0", "citation": "A. Author"}
    }


def test_cases_of_other_licence_classes_are_named_with_the_remedies(
    tmp_path: Path, data: Path
) -> None:
    theirs = replace(recipe(tmp_path, real=True), datasets=("blocks_b",))
    words = "but some of class research; .* licence_classes .* `prepare --licence-class`"
    with pytest.raises(InputError, match=words):
        chosen_cases(theirs, data)
    with pytest.raises(InputError, match=r"splits blocks_a \(train\), blocks_b \(train\)\."):
        chosen_cases(replace(theirs, split="val"), data)


def test_real_cases_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data"):
        chosen_cases(recipe(tmp_path, real=True), None)


def test_a_corrector_needs_a_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--from"):
        train(recipe(tmp_path, "corrector"), None, tmp_path / "run", accelerator="cpu")


def test_base_then_correctors_then_weight_files(tmp_path: Path, data: Path) -> None:
    """The whole road: train the base, both correctors on it, export, load, segment."""
    base, field, paper, model = (tmp_path / n for n in ("base", "field", "paper", "model"))
    train(recipe(tmp_path, real=True), data, base, accelerator="cpu", workers=0)
    train(recipe(tmp_path, "corrector"), None, field, base, accelerator="cpu", workers=0)
    train(recipe(tmp_path, "corrector", "paper"), None, paper, field, accelerator="cpu", workers=0)
    written = export(field, model, commit="abc123")
    written += export(paper, model, base=False)
    assert [path.name for path in written] == [
        "base.safetensors",
        "field.safetensors",
        "paper.safetensors",
    ]
    plain = model / "plain"
    plain.touch()
    assert {path.stat().st_mode for path in written} == {plain.stat().st_mode}  # others may read
    loaded = load_model(model, "field")
    assert loaded.base.config.widths == (4, 4, 4, 4)
    kept = averaged(field)["base"]
    for key, value in loaded.base.state_dict().items():
        torch.testing.assert_close(value, kept[key].half().float())
    load_model(model, "paper")
    card = read_card(model / "field.safetensors")
    assert "Licence of the weights: CC BY-SA 4.0." in card
    assert "commit abc123" in card


def test_the_card_names_data_and_figures(tmp_path: Path, data: Path) -> None:
    train(recipe(tmp_path, real=True), data, tmp_path / "run", accelerator="cpu", workers=0)
    row = {"datasets": 2, "n": 9, "dsc": [0.5, 0.6, 0.7, 0.7, 0.8, None], "harmful_share": 0.125}
    figures = tmp_path / "summary.json"
    figures.write_text(json.dumps({"mean": {"open": row, "research": {"datasets": 0, "n": 0}}}))
    export(tmp_path / "run", tmp_path / "model", figures=figures)
    card = read_card(tmp_path / "model" / "base.safetensors")
    assert "| MR blocks_a | 1 | CC BY 4.0 | A. Author |" in card
    assert "open: mean over 2 data sets (9 tasks)" in card
    assert "0.500, 0.600, 0.700, 0.700, 0.800, -" in card
    assert "harmful clicks 12.5 %" in card
    assert "research" not in card.split("## Recipe")[0]


def test_the_card_says_that_nobody_labelled_some_structures() -> None:
    plain = Recipe(stage="base")
    some = replace(plain.loop.examples, unnamed_share=0.25)
    wider = replace(plain, loop=replace(plain.loop, examples=some))
    plain_card, card = (model_card("x", r, {}, {}, "abc", "none") for r in (plain, wider))
    assert "Structures without a label: 25 %." in card
    assert "without a label" not in plain_card


def test_a_run_goes_on_only_under_its_recipe(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path), None, run, accelerator="cpu", workers=0)
    train(recipe(tmp_path), None, run, accelerator="cpu", workers=0)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="another recipe"):
        train(
            Recipe(stage="base", loop=recipe(tmp_path).loop),
            None,
            run,
            accelerator="cpu",
            workers=0,
        )


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path), None, run, accelerator="cpu", workers=0)
    wide = (tmp_path / "base-field.toml").read_text().replace("head_width = 4", "head_width = 8", 1)
    (tmp_path / "wide.toml").write_text(wide)
    with pytest.raises(InputError, match="other networks"):
        train(read_recipe(tmp_path / "wide.toml"), None, tmp_path / "b", run, accelerator="cpu")


def test_a_folder_without_a_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="training run"):
        export(tmp_path, tmp_path / "model")


def test_an_expert_needs_the_network_that_it_shares(tmp_path: Path) -> None:
    for odd in ({"expert": "mine"}, {"keep_experts": True}):
        with pytest.raises(InputError, match="--from"):
            program(replace(recipe(tmp_path), **odd), None)
