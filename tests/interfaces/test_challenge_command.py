"""`challenge` as a user types it: our model in process, a command, faults."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segvol_gru.evaluation.case_results import read_results
from segvol_gru.interfaces.cli import app

SCRIPT = Path(__file__).parents[2] / "container" / "predict.sh"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "cases").mkdir(parents=True)
    labels = np.zeros((16, 24, 26), np.uint8)
    labels[3:12, 3:11, 3:12], labels[4:12, 12:20, 12:21] = 3, 5
    noise = np.random.default_rng(4).integers(0, 30, labels.shape)
    image = (40 * labels + noise).astype(np.uint8)
    np.savez(folder / "cases" / "a.npz", imgs=image, gts=labels, spacing=np.array([2.0, 1, 1]))
    np.savez(folder / "cases" / "b.npz", imgs=image[1:], gts=labels, spacing=np.ones(3))
    rows = ["file,modality,dataset,subject,split,licence_class,labels"]
    rows += [f"cases/{n}.npz,MR,blocks,{n},val,open,3 5" for n in "ab"]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_in_process_is_what_the_container_answers(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    options = ("--device", "cpu", "--rules", "corrected")
    code, shown, said = run("challenge", data, "--out", near, "--model", tiny_model, *options)
    assert code == 0
    assert "MR_b: InputError: b.npz has image (15, 24, 26)" in said
    assert "corrected rules, 1 of 2 cases count" in shown
    words = (
        f"env PYTHON={sys.executable} MODEL={tiny_model} DEVICE=cpu "
        f"INPUTS={{inputs}} OUTPUTS={{outputs}} sh {SCRIPT}"
    )
    code, _, _ = run("challenge", data, "--out", far, "--model", f"command:{words}", *options)
    assert code == 0
    ours, theirs = (read_results(out)[0] for out in (near, far))
    assert (ours.case, ours.labels) == ("MR_a", (3, 5))
    assert ours.faults == theirs.faults == ()
    assert (ours.dsc, ours.nsd, ours.clicks) == (theirs.dsc, theirs.nsd, theirs.clicks)
    assert ours.seconds_total < theirs.seconds_total
    summary = json.loads((near / "summary.json").read_text(encoding="utf-8"))
    assert summary["table"]["rows"][1][2] == ours.row()["DSC_AUC"]
    assert f"{ours.row()['DSC_AUC']:.3f}" in shown


def test_a_command_that_fails_is_named_and_nothing_stops(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = "command:no-such-program {inputs} {outputs}"
    code, shown, said = run("challenge", data, "--out", out, "--model", words)
    assert code == 0
    assert "0 of 2 cases count" in shown
    assert "MR_a: step 0: InputError: cannot run 'no-such-program'" in said
    assert "MR_a: step 5: no MR_a.npz was written" in said


def test_what_is_refused_at_once(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words, said in (
        (("--rules", "mine"), "rules is 'mine'"),
        (("--model", tmp_path), "base.safetensors"),
        (("--model", "command:"), "the command is empty"),
        (("--model", "command:true", "--dataset", "other"), "data set other"),
    ):
        code, _, answer = run("challenge", data, "--out", out, *words)
        assert code == 2
        assert said in answer
    assert not out.exists()
