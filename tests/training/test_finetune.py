"""`finetune`: own cases in, a better or equal model out, before and after told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CELLS, make_rounds, write_folder
from typer.testing import CliRunner

from segvol_gru.data.dataset import read_manifest
from segvol_gru.errors import InputError
from segvol_gru.experts import owned
from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.validation import score
from segvol_gru.pretrained import load_model, read_card
from segvol_gru.training.cases import chosen_cases
from segvol_gru.training.export import export, save_rounds
from segvol_gru.training.finetune import finetune_recipe
from segvol_gru.training.run import train

WIDTHS = (16, 16, 16, 16)  # oneDNN's bfloat16 convolutions want 16 channels
ROWS = [
    ("a", "mine", "train"),
    ("b", "mine", "train"),
    ("c", "mine", "val"),
    ("d", "other", "val"),
    ("e", "other", "train"),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_rounds(tmp_path / "model", make_rounds(widths=WIDTHS), lambda part: f"# {part}\n")
    return tmp_path / "model"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", ROWS)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_recipe_takes_its_sizes_from_the_model(model: Path) -> None:
    recipe = finetune_recipe(model, datasets=("mine",), cases=3, steps=7)
    assert (recipe.base.widths, recipe.field.memory_width) == (WIDTHS, 4)
    assert (recipe.loop.examples.cells, recipe.loop.steps) == (CELLS, 7)
    assert (recipe.datasets, recipe.cases, recipe.licence_classes) == (("mine",), 3, ())
    assert 0 < recipe.loop.examples.synthetic_share < 1


def test_only_the_named_training_cases_are_read(model: Path, data: Path) -> None:
    names = [c.file.stem for c in chosen_cases(finetune_recipe(model, datasets=("mine",)), data)]
    assert names == ["a", "b"]
    one = finetune_recipe(model, datasets=("mine",), cases=1)
    assert [c.file.stem for c in chosen_cases(one, data)] == ["a"]
    assert len(read_manifest(data)) == 5


def test_before_and_after_are_told(tmp_path: Path, model: Path, data: Path) -> None:
    out = tmp_path / "run"
    said = run(
        *("finetune", data, "--from", model, "--out", out, "--dataset", "mine", "--steps", 2),
        *("--device", "cpu", "--workers", 0, "--others"),
    )
    assert "2 steps (done)" in said
    assert "your cases: DSC before and after" in said
    assert "others: DSC before and after" in said
    before, after = (
        json.loads((out / "validation" / step / "summary.json").read_text())
        for step in ("000000", "000002")
    )
    assert before["datasets"].keys() == after["datasets"].keys() == {"mine"}
    assert "# segvol-gru: experts" in read_card(out / "model" / "experts.safetensors")
    others = json.loads((out / "others" / "before" / "summary.json").read_text())
    assert others["datasets"].keys() == {"other"}


def test_a_model_that_gets_worse_is_not_written(tmp_path: Path, model: Path, data: Path) -> None:
    """With a ruinous rate the best weights are the first ones, and they are what comes out."""
    recipe = finetune_recipe(model, datasets=("mine",), steps=3)
    scores = {0: 0.9, 3: 0.1}
    train(
        recipe,
        data,
        tmp_path / "run",
        model,
        accelerator="cpu",
        workers=0,
        validate=lambda _, step: scores[step],
    )
    export(tmp_path / "run", tmp_path / "out", model=model)
    ours, start = load_model(tmp_path / "out").of("mine"), load_model(model)
    assert ours.expert == "mine"
    for a, b in zip(ours.base.parameters(), start.base.parameters(), strict=True):
        assert torch.equal(a, b)


def test_what_is_learnt_stands_beside_what_was_known(
    tmp_path: Path, model: Path, data: Path
) -> None:
    """The general networks stay as they are, bit for bit; a second expert leaves the first."""
    for step, name in enumerate(("mine", "other")):
        start = tmp_path / "first" if step else model
        recipe = finetune_recipe(start, datasets=(name,), steps=2, data=data)
        assert recipe.begin == ("mine" if step else "")  # all these cubes look alike
        run_folder, out = tmp_path / f"run{step}", tmp_path / ("second" if step else "first")
        train(recipe, data, run_folder, start, accelerator="cpu", workers=0)
        export(run_folder, out, model=start)
    for file in ("base", "field"):
        before, after = (f / f"{file}.safetensors" for f in (model, tmp_path / "second"))
        assert before.read_bytes() == after.read_bytes()
    first, second = load_model(tmp_path / "first"), load_model(tmp_path / "second")
    assert [kind.name for kind in second.experts.kinds] == ["mine", "other"]
    for name in ("base", "corrector"):
        general, mine, kept, other = (
            getattr(m, name).state_dict()
            for m in (first, first.of("mine"), second.of("mine"), second.of("other"))
        )
        assert all(torch.equal(mine[key], kept[key]) for key in mine)
        learnt = {key for key in mine if not torch.equal(mine[key], general[key])}
        assert learnt, name
        assert learnt <= set(owned(getattr(first, name)))
        assert any(not torch.equal(other[key], mine[key]) for key in learnt)


def test_general_networks_learn_on_under_their_experts(
    tmp_path: Path, model: Path, data: Path
) -> None:
    """An expert answers as before, to the last bit; without `keep_experts` it no longer fits."""
    recipe = finetune_recipe(model, datasets=("mine",), steps=1)
    train(recipe, data, tmp_path / "run", model, accelerator="cpu", workers=0)
    export(tmp_path / "run", tmp_path / "out", model=model)
    first = load_model(tmp_path / "out")
    for keep in (True, False):
        going_on = replace(recipe, expert="", begin="", keep_experts=keep)
        train(going_on, data, tmp_path / f"{keep}", tmp_path / "out", accelerator="cpu", workers=0)
        export(tmp_path / f"{keep}", tmp_path / "out")
        if not keep:
            with pytest.raises(InputError, match="belongs to another"):
                load_model(tmp_path / "out")
            continue
        second = load_model(tmp_path / "out")
        for name in ("base", "corrector"):
            before, after = (getattr(m, name).state_dict() for m in (first, second))
            learnt = {key for key in after if not torch.equal(before[key], after[key])}
            assert learnt, name
            assert learnt <= set(owned(getattr(first, name)))
            mine, kept = (getattr(m.of("mine"), name).state_dict() for m in (first, second))
            assert all(torch.equal(mine[key], kept[key]) for key in mine)


def test_an_expert_of_another_model_is_refused(tmp_path: Path, model: Path, data: Path) -> None:
    recipe = finetune_recipe(model, datasets=("mine",), steps=1)
    train(recipe, data, tmp_path / "run", model, accelerator="cpu", workers=0)
    networks = make_rounds(widths=WIDTHS)
    with torch.no_grad():
        networks.base.unet.downs[0].weight.mul_(2)
    save_rounds(tmp_path / "else", networks, lambda part: f"# {part}\n")
    with pytest.raises(InputError, match="learnt on another base"):
        export(tmp_path / "run", tmp_path / "out", model=tmp_path / "else")
    assert not (tmp_path / "out").exists()


def test_scores_are_means_over_data_sets_of_the_box_and_the_last_click() -> None:
    nan = float("nan")
    rows = {"a": {"dsc": [0.2, 0.9, 0.6, nan, nan, nan]}, "b": {"dsc": [1.0] * 6}}
    assert score({"datasets": rows}) == pytest.approx(0.7)
    assert score({"datasets": {}}) == 0
