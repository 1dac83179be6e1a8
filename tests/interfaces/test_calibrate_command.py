"""`calibrate` as a user types it, with tiny networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from segvol_gru.evaluation.doubts import read_doubts
from segvol_gru.evaluation.reliability import by_probability, near_boundaries
from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.curve import draw_curve
from segvol_gru.pretrained import load_model
from segvol_gru.session.session import Session
from segvol_gru.simulate import tight_box
from segvol_gru.volume import Volume


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def write_data(folder: Path) -> Path:
    (folder / "cases").mkdir(parents=True)
    rows = ["file,modality,dataset,subject,split,licence_class,labels"]
    for name in "abcd":
        labels = np.zeros((14, 20, 22), np.uint8)
        labels[4:10, 5:13, 6:15] = 1
        noise = np.random.default_rng(ord(name)).integers(0, 30, labels.shape)
        image = (70 * labels + noise).astype(np.uint8)
        arrays = {"imgs": image, "gts": labels, "spacing": np.array([2.0, 1, 1])}
        np.savez(folder / "cases" / f"{name}.npz", **arrays)
        rows.append(f"cases/{name}.npz,MR,blocks,{name},val,open,1")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_it_watches_the_session(tiny_model: Path, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "out"
    words = ("calibrate", data, "--out", out, "--model", tiny_model, "--device", "cpu")
    code, shown, said = run(*words)
    assert (code, said.count("failed")) == (0, 0)
    summary = json.loads((out / "calibration.json").read_text(encoding="utf-8"))
    mean = summary["mean"]["open"]
    assert f"{mean['ece']:.3f}" in shown
    assert "open (1)" in shown
    assert (out / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert (summary["temperature"] is not None) == (mean["ece"] > 0.05)
    assert ("logits divided by" in shown) == (mean["ece"] > 0.05)
    with np.load(data / "cases" / "a.npz") as case:
        image, truth = case["imgs"], case["gts"] == 1
    volume = Volume(image, (2.0, 1.0, 1.0), modality="MR")
    with Session(volume, load_model(tiny_model), device="cpu") as live:
        pred = live.prompt(tight_box(truth))
        near = near_boundaries(truth, pred)
        assert near is not None
        window, band = near
        expected = by_probability(live.probability[window][band], truth[window][band])
        at = live.suggest()
    record = read_doubts(out)[0]
    assert np.array_equal(record.bins[0], expected)
    assert record.suggested[0] == (at is not None and bool((truth ^ pred)[at]))
    before = (out / "doubts.jsonl").read_bytes()
    assert run(*words)[0] == 0
    assert (out / "doubts.jsonl").read_bytes() == before


def test_a_curve_without_data_sets_is_drawn_all_the_same(tmp_path: Path) -> None:
    draw_curve(tmp_path / "c.png", {"open": {"datasets": 0, "n": 0}})
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
