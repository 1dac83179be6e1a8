"""`report` as a user types it: every model and baseline, resumed, with faults named."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from segvol_gru.evaluation import seeds
from segvol_gru.interfaces.cli import app
from segvol_gru.pretrained import load_model, save_network


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "cases").mkdir(parents=True)
    labels = np.zeros((14, 20, 22), np.uint8)
    labels[4:10, 5:13, 6:15] = 1
    noise = np.random.default_rng(4).integers(0, 30, labels.shape)
    image = (70 * labels + noise).astype(np.uint8)
    np.savez(folder / "cases" / "a.npz", imgs=image, gts=labels, spacing=np.array([2.0, 1, 1]))
    np.savez(folder / "cases" / "b.npz", imgs=image[1:], gts=labels, spacing=np.ones(3))
    rows = ["file,modality,dataset,subject,split,licence_class,labels"]
    rows += [f"cases/{n}.npz,MR,blocks,{n},val,open,1" for n in "abc"]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_every_model_and_baseline(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="needs the extra evaluate")
    (tiny_model / "paper.safetensors").rename(tiny_model / "aside")
    out = tmp_path / "out"
    try:
        code, _, said = run("report", data, "--out", out, "--model", tiny_model)
    finally:
        (tiny_model / "aside").rename(tiny_model / "paper.safetensors")
    assert code == 0
    assert "paper: " in said
    made = {p.parent.name for p in (out / "runs").glob("*/rows-0.jsonl")}
    assert made == {
        *("field", "reprompt", "none", "forget", "shuffle"),
        *("box", "brush", "random-walker", "geodesic", "region-growing"),
    }
    content = json.loads((out / "report.json").read_text(encoding="utf-8"))
    tables = {table["name"]: table for table in content["tables"]}
    errors = tables["errors"]["rows"]
    assert ["paper", "-", "-"] in [row[:3] for row in errors]
    assert {row[1] for row in errors if row[0] == "brush"} == {"b", "c"}
    assert len([p for p in (out / "gallery").iterdir() if p.suffix == ".png"]) == 1
    assert "data:image/png" in (out / "report.html").read_text(encoding="utf-8")
    rows = {p: p.read_bytes() for p in out.glob("runs/*/rows-0.jsonl")}
    code, _, _ = run("report", data, "--out", out, "--model", tiny_model)
    assert code == 0
    assert (out / "runs" / "paper" / "rows-0.jsonl").is_file()
    for path, before in rows.items():  # only the cases that cannot be read are tried again
        assert path.read_bytes().startswith(before)
        assert path.read_bytes()[len(before) :].count(b'"label": 1') == 0


def test_some_models_and_a_command(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = "mine=no-such-program {inputs} {outputs}"
    code, _, _ = run(
        *("report", data, "--out", out, "--model", tiny_model, "--only", "brush"),
        *("--only", "mine", "--command", words, "--start", "none"),
    )
    assert code == 0
    assert "no-such-program" in (out / "report.html").read_text(encoding="utf-8")
    code, _, said = run("report", data, "--out", out, "--only", "nnn")
    assert code == 2
    assert "nnn" in said
    code, _, said = run("report", data, "--out", out, "--command", "field=x")
    assert code == 2
    assert "NAME=words" in said


def test_pictures_are_those_of_the_run_shown(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="needs the extra evaluate")
    pages = []
    for out, name in (("both", "box"), ("both", "geodesic"), ("alone", "geodesic")):
        code, _, _ = run("report", data, "--out", tmp_path / out, "--only", name)
        assert code == 0
        page = (tmp_path / out / "report.html").read_text(encoding="utf-8")
        pages.append(re.findall(r"data:image/png;base64,([^\"]+)", page))
    assert pages[0] != pages[1] == pages[2]


def test_variants_go_on_and_are_tabled(tiny_model: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data / "cases" / "a.npz") as case:
        kept = dict(case)
    for name in "bcd":
        np.savez(data / "cases" / f"{name}.npz", **kept)
    with (data / "manifest.csv").open("a") as stream:
        stream.write("cases/d.npz,MR,blocks,d,val,open,1\n")
    out = tmp_path / "out"
    words = ("report", data, "--out", out, "--model", tiny_model, "--only", "field", "--variants")
    assert run(*words)[0] == 0
    made = {p.parent.name: p.read_bytes() for p in (out / "runs").glob("*/rows-0.jsonl")}
    assert set(made) == {
        *("field", "field-alternate", "field-jitter", "field-random-clicks", "field-flat"),
        *("field-region-growing", "field-threshold", "field-low-resolution"),
    }
    found = json.loads((out / "variants.json").read_text(encoding="utf-8"))
    assert found["failed"] == {}
    rows = {(row["prompts"], row["licences"]): row for row in found["rows"]}
    assert rows["field-low-resolution", "open"]["tasks"] == 4
    summary = json.loads((out / "runs" / "field-flat" / "summary.json").read_text(encoding="utf-8"))
    flat = rows["field-flat", "open"]
    assert flat["DSC 5"] == pytest.approx(summary["mean"]["open"]["dsc"][5])
    ideal = json.loads((out / "runs" / "field" / "summary.json").read_text(encoding="utf-8"))
    loss = ideal["mean"]["open"]["dsc"][5] - flat["DSC 5"]
    assert flat["loss 5"] == pytest.approx(loss)
    assert "field under other prompts" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / "tables" / "variants.csv").is_file()
    assert run(*words)[0] == 0
    assert made == {p.parent.name: p.read_bytes() for p in (out / "runs").glob("*/rows-0.jsonl")}
    code, _, said = run(*words, "--start", "flat")
    assert code == 2
    assert "--variants compares with tight boxes" in said


def test_nothing_to_report_on(data: Path, tmp_path: Path) -> None:
    code, _, said = run(
        "report", data, "--out", tmp_path / "o", "--model", tmp_path, "--only", "field"
    )
    assert code == 2
    assert "base.safetensors" in said


def test_results_of_other_weights_are_not_gone_on_with(
    tiny_model: Path, data: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    shutil.copytree(tiny_model, other)
    (other / "field.safetensors").unlink()
    model = load_model(tiny_model)
    with torch.no_grad():
        next(model.corrector.parameters()).add_(1)
    corrector = model.corrector
    save_network(other / "field.safetensors", corrector, corrector.config.to_dict(), "# other\n")
    assert run("report", data, "--out", out, "--model", tiny_model, "--only", "field")[0] == 0
    code, _, said = run("report", data, "--out", out, "--model", other, "--only", "field")
    assert code == 2
    assert "other settings (model)" in said


def test_a_page_is_of_what_was_asked_for(data: Path, tmp_path: Path) -> None:
    manifest = data / "manifest.csv"
    rows = manifest.read_text() + "".join(
        f"cases/{name}.npz,MR,more,{name},val,open,1\n" for name in "de"
    )
    manifest.write_text(rows)
    for name in "de":
        shutil.copy(data / "cases" / "a.npz", data / "cases" / f"{name}.npz")
    out = tmp_path / "out"
    for dataset, names in (("blocks", {"a"}), ("more", {"d", "e"})):
        code, _, _ = run("report", data, "--out", out, "--only", "box", "--dataset", dataset)
        assert code == 0
        page = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert f"{len(names)} tasks" in page["facts"][0]
        told = csv.DictReader((out / "tasks.csv").read_text(encoding="utf-8").splitlines())
        assert {row["case"] for row in told} == names
        errors = next(t["rows"] for t in page["tables"] if t["name"] == "errors")
        assert len(errors) == (2 if dataset == "blocks" else 0)


def test_ranks_write_no_page_each(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    code, _, said = run("report", data, "--out", tmp_path / "out", "--only", "box")
    assert (code, "report is one process" in said) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_baseline_that_is_not_installed_has_no_scores(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "find_spec", lambda name: None)
    only = ("--only", "box", "--only", "random-walker")
    code, _, said = run("report", data, "--out", tmp_path / "out", *only)
    assert (code, "random-walker: the random walker needs scikit-image" in said) == (0, True)
    assert not (tmp_path / "out" / "runs" / "random-walker").exists()
    more = ("--model", "random-walker", "--out", tmp_path / "run")
    code, _, said = run("evaluate", data, *more)
    assert (code, "needs scikit-image" in said) == (2, True)
