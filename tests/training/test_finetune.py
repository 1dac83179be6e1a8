"""`finetune`: own cases in, a better or equal model out, before and after told."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CELLS, make_rounds, write_folder
from typer.testing import CliRunner

from segvol_gru.data.dataset import read_manifest
from segvol_gru.errors import InputError
from segvol_gru.evaluation.records import read_records
from segvol_gru.experts import owned, recognised
from segvol_gru.interfaces import validation
from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.validation import score
from segvol_gru.pretrained import StoredExperts, load_model, read_card
from segvol_gru.training.cases import GREY, chosen_cases, kinds_of, open_cases, traits_of
from segvol_gru.training.export import copy_model, export, save_rounds
from segvol_gru.training.finetune import finetune_recipe
from segvol_gru.training.recipe import keep_recipe
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


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2, done.output
    return done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def kinds(folder: Path) -> list[str]:
    return [kind.name for kind in load_model(folder).experts.kinds]


def expert_for(folder: Path, data: Path, case: str) -> str:
    """Which expert of a model answers for a case."""
    with np.load(data / "cases" / f"{case}.npz") as read:
        return load_model(folder).fitting(read["imgs"], read["spacing"].tolist(), GREY).expert


def test_the_recipe_takes_its_sizes_from_the_model(tmp_path: Path, model: Path, data: Path) -> None:
    recipe = finetune_recipe(model, data, tmp_path / "run", datasets=("mine",), cases=3, steps=7)
    assert (recipe.base.widths, recipe.field.memory_width) == (WIDTHS, 4)
    assert (recipe.loop.examples.cells, recipe.loop.steps) == (CELLS, 7)
    assert (recipe.datasets, recipe.cases, recipe.licence_classes) == (("mine",), 3, ())
    assert 0 < recipe.loop.examples.synthetic_share < 1


def test_only_the_named_training_cases_are_read(tmp_path: Path, model: Path, data: Path) -> None:
    both = finetune_recipe(model, data, tmp_path / "run", datasets=("mine",))
    assert [c.file.stem for c in chosen_cases(both, data)] == ["a", "b"]
    one = finetune_recipe(model, data, tmp_path / "run", datasets=("mine",), cases=1)
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
        json.loads((out / "cases" / when / "summary.json").read_text())
        for when in ("before", "after")
    )
    assert before["datasets"].keys() == after["datasets"].keys() == {"mine"}
    assert "# segvol-gru: experts" in read_card(out / "model" / "experts.safetensors")
    others = json.loads((out / "others" / "before" / "summary.json").read_text())
    assert others["datasets"].keys() == {"other"}


def test_a_model_that_gets_worse_is_not_written(tmp_path: Path, model: Path, data: Path) -> None:
    """With a ruinous rate the best weights are the first ones, and they are what comes out."""
    recipe = finetune_recipe(model, data, tmp_path / "run", datasets=("mine",), steps=3)
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
        run_folder, out = tmp_path / f"run{step}", tmp_path / ("second" if step else "first")
        recipe = finetune_recipe(start, data, run_folder, datasets=(name,), steps=2)
        assert recipe.begin == ("mine" if step else "")  # all these cubes look alike
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
    recipe = finetune_recipe(model, data, tmp_path / "run", datasets=("mine",), steps=1)
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
    recipe = finetune_recipe(model, data, tmp_path / "run", datasets=("mine",), steps=1)
    train(recipe, data, tmp_path / "run", model, accelerator="cpu", workers=0)
    networks = make_rounds(widths=WIDTHS)
    with torch.no_grad():
        networks.base.unet.downs[0].weight.mul_(2)
    save_rounds(tmp_path / "else", networks, lambda part: f"# {part}\n")
    with pytest.raises(InputError, match="learnt on another base"):
        export(tmp_path / "run", tmp_path / "out", model=tmp_path / "else")
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_only_with_its_cases(tmp_path: Path, model: Path, data: Path) -> None:
    """Wherever they lie; what was stored stays as it is, and older runs have stored nothing."""
    out = tmp_path / "run"
    recipe = finetune_recipe(model, data, out, datasets=("mine",), steps=1)
    train(recipe, data, out, model, accelerator="cpu", workers=0)
    before = files(out)
    for rows, spacing_mm, words in (
        (ROWS, (3, 3, 3), "2 cases, of which 2 are gone or changed and 2 others came"),
        ([*ROWS, ("f", "mine", "train")], (1, 1, 1), "0 are gone or changed and 1 others came"),
    ):
        other = write_folder(tmp_path / words, rows, spacing_mm)
        with pytest.raises(InputError, match=words):
            train(recipe, other, out, model, accelerator="cpu", workers=0)
        assert files(out) == before
    moved = shutil.copytree(data, tmp_path / "moved")
    assert train(recipe, moved, out, model, accelerator="cpu", workers=0).steps == 1
    (out / "cases.json").unlink()
    assert train(recipe, data, out, model, accelerator="cpu", workers=0).steps == 1


def test_the_same_folder_with_other_data_is_refused(tmp_path: Path, model: Path) -> None:
    rows, out = ROWS[:3], tmp_path / "run"
    a, b = write_folder(tmp_path / "a", rows), write_folder(tmp_path / "b", rows, (3, 3, 3))
    rest = ("--from", model, "--out", out, "--steps", 1, "--device", "cpu", "--workers", 0)
    run("finetune", a, *rest)
    before = files(out) | files(out / "model")
    assert "holds a run on 2 cases" in refused("finetune", b, *rest)
    assert files(out) | files(out / "model") == before
    assert "1 steps (done)" in run("finetune", a, *rest)


def test_a_second_fine_tuning_stands_beside_the_first(tmp_path: Path, model: Path) -> None:
    """Both data sets are called `mine`. Scans that the model knows by that name go on with it."""
    near = write_folder(tmp_path / "near", ROWS[:3])
    far = write_folder(tmp_path / "far", ROWS[:3], (3, 3, 3))
    start = model
    for number, (folder, expert) in enumerate(((near, "mine"), (far, "mine-2"), (near, "mine"))):
        out, written = tmp_path / f"run{number}", tmp_path / f"model{number}"
        recipe = finetune_recipe(start, folder, out, steps=1)
        assert (recipe.expert, recipe.begin) == (expert, "mine" if number == 2 else "")
        train(recipe, folder, out, start, accelerator="cpu", workers=0)
        export(out, written, model=start)
        start = written
        assert expert_for(start, near, "a") == "mine"
        assert expert_for(start, far, "a") == ("mine-2" if number else "")
    assert sorted(kinds(start)) == ["mine", "mine-2"]


def test_an_expert_is_named_by_its_data_sets(tmp_path: Path, model: Path, data: Path) -> None:
    recipe = finetune_recipe(model, data, tmp_path / "new")
    assert recipe.expert == "mine+other"
    keep_recipe(replace(recipe, expert="own"), tmp_path / "old")
    assert finetune_recipe(model, data, tmp_path / "old").expert == "own"  # it goes on


def test_what_is_told_is_what_the_model_does(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan that is not recognised is answered as before, whatever was learnt."""
    scores = iter((0.1, 0.9, 0.9, 0.1))  # on the way; after, before
    monkeypatch.setattr(validation, "score", lambda _: next(scores))
    data = write_folder(tmp_path / "data", [*ROWS[:3], ("d", "mine", "val")])
    with np.load(data / "cases" / "d.npz") as read:
        np.savez(data / "cases" / "d.npz", **{**read, "spacing": np.full(3, 3.0)})
    out = tmp_path / "run"
    said = run(
        *("finetune", data, "--from", model, "--out", out, "--steps", 8),
        *("--device", "cpu", "--workers", 0),
    )
    assert "the expert is mine, a new one; 1 of 2 cases of the split val are not" in said
    assert [expert_for(out / "model", data, name) for name in "cd"] == ["mine", ""]
    before, after = (
        {record.key: record for record in read_records(out / "cases" / when)}
        for when in ("before", "after")
    )
    for label in (1, 2):
        assert before["d", label].dsc == after["d", label].dsc
    assert any(before["c", label].dsc != after["c", label].dsc for label in (1, 2))
    mean = json.loads((out / "cases" / "after" / "summary.json").read_text())["mean"]["open"]
    dsc = ", ".join(f"{value:.3f}" for value in mean["dsc"])
    assert f"(4 tasks) of the DSC after the box and clicks 1-5: {dsc}" in read_card(
        out / "model" / "experts.safetensors"
    )
    assert f"{mean['dsc'][0]:.3f}" in said.splitlines()[-2]


@pytest.mark.parametrize("scored", [(0.9, 0.1), (0.1, 0.9, 0.5, 0.6), (0.1, 0.9, 0.6, 0.6)])
def test_where_nothing_is_gained_the_model_is_the_one_begun_with(
    tmp_path: Path,
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    scored: tuple[float, ...],
) -> None:
    """Not on the way, or not by the model as it answers every scan (after, before)."""
    scores = iter(scored)
    monkeypatch.setattr(validation, "score", lambda _: next(scores))
    out = tmp_path / "run"
    (out / "model").mkdir(parents=True)
    (out / "model" / "experts.safetensors").write_bytes(b"of an earlier version")
    said = run(
        *("finetune", data, "--from", model, "--out", out, "--dataset", "mine", "--steps", 1),
        *("--device", "cpu", "--workers", 0),
    )
    assert f"nothing was gained, and the model is a copy of the one begun with, {model}" in said
    assert files(out / "model") == files(model)


def test_the_model_begun_with_is_not_written_over(tmp_path: Path, model: Path, data: Path) -> None:
    out = tmp_path / "run"
    copy_model(model, out / "model")
    with pytest.raises(InputError, match="lies where the new model goes"):
        finetune_recipe(out / "model", data, out)
    assert files(out / "model") == files(model)


@pytest.mark.parametrize(
    ("device", "words"), [("cuda", "not on this machine"), ("gpuu", "wanted one of")]
)
def test_a_device_that_is_not_there_is_refused_first(
    tmp_path: Path,
    model: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    words: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (data / "cases" / "a.npz").write_bytes(b"never read")
    asked = ("finetune", data, "--from", model, "--out", tmp_path / "run", "--device", device)
    assert words in refused(*asked)
    assert not (tmp_path / "run").exists()


def test_without_the_extra_fine_tuning_says_so(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    gone = ("lightning_fabric", "monai")
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n in gone else find(n))
    said = refused("finetune", data, "--out", tmp_path / "run", "--steps", 1)
    assert 'pip install "segvol-gru[train]"' in said


def test_without_a_case_to_validate_on_nothing_is_begun(tmp_path: Path, model: Path) -> None:
    data = write_folder(tmp_path / "data", ROWS[:2])
    (data / "cases" / "a.npz").write_bytes(b"never read")
    said = refused("finetune", data, "--from", model, "--out", tmp_path / "run", "--device", "cpu")
    assert "no cases of split 'val'" in said
    assert not (tmp_path / "run").exists()


def test_scores_are_means_over_data_sets_of_the_box_and_the_last_click() -> None:
    nan = float("nan")
    rows = {"a": {"dsc": [0.2, 0.9, 0.6, nan, nan, nan]}, "b": {"dsc": [1.0] * 6}}
    assert score({"datasets": rows}) == pytest.approx(0.7)
    assert score({"datasets": {}}) == 0


def test_a_copied_model_takes_the_place_of_networks_only(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("segvol.safetensors", "experts.safetensors"):
        (out / name).write_bytes(b"of another")
    copy_model(model, out)
    assert files(out) == {**files(model), "segvol.safetensors": b"of another"}


def test_an_expert_of_two_data_sets_is_known_by_each(tmp_path: Path, model: Path) -> None:
    """And not by what lies between them."""
    cases = []
    for number, spacing in enumerate((1.0, 4.0, 2.0)):
        folder = write_folder(
            tmp_path / f"{number}", [("a", f"set {number}", "train")], (spacing,) * 3
        )
        cases += open_cases(read_manifest(folder), folder)
    fine, coarse, between = traits_of(cases)
    kinds = kinds_of("both", cases[:2])
    assert [kind.name for kind in kinds] == ["both", "both"]
    assert [recognised(kinds, row) for row in (fine, coarse, between)] == ["both", "both", ""]
    stored = StoredExperts((), {}, {}).having(kinds, {}).having(kinds[:1], {})
    assert stored.kinds == (kinds[0],)
