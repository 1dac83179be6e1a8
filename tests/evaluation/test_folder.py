"""Commands with the competition's folders as models."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from folders import SHAPE, cube, write_folder

from segvol_gru.data.challenge import read_challenge
from segvol_gru.errors import InputError
from segvol_gru.evaluation.folder import FolderCommand, run_command, write_input
from segvol_gru.evaluation.models import foreign_model
from segvol_gru.evaluation.protocol import evaluate
from segvol_gru.evaluation.records import read_records
from segvol_gru.evaluation.tasks import Options
from segvol_gru.prompts import Box, Click

SCRIPT = """
import sys, pathlib, numpy as np
inputs, outputs, mode = sys.argv[1:]
for path in pathlib.Path(inputs).glob("*.npz"):
    with np.load(path, allow_pickle=True) as case:
        box = case["boxes"][0]
        segs = np.zeros(case["imgs"].shape, "u1")
        if "prev_pred" in case:
            segs[:] = case["prev_pred"]
        segs[box["z_min"]:box["z_max"] + 1, box["z_mid_y_min"]:box["z_mid_y_max"] + 1,
             box["z_mid_x_min"]:box["z_mid_x_max"] + 1] = 1
        if "clicks" in case:
            assert case["clicks_order"].shape[0] == 1
            for z, y, x in case["clicks"][0]["bg"]:
                segs[z, y, x] = 0
    if mode == "fails":
        sys.exit("no\\nmemory")
    if mode == "shape":
        segs = segs[1:]
    if mode != "silent":
        np.savez_compressed(pathlib.Path(outputs) / path.name, segs=segs)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(SCRIPT)
    return f"{sys.executable} {path} {{inputs}} {{outputs}} "


@pytest.fixture
def data(tmp_path):
    gts = cube((1, 1, 1), (6, 6, 6))
    gts[3, 3, 3] = 0
    return write_folder(tmp_path / "data", [("a", "set", gts, {})])


def test_a_command_is_asked_step_by_step(script, data, tmp_path):
    factory = foreign_model("command:" + script + "works")
    assert factory is not None
    evaluate(data, factory, tmp_path / "out", Options(start="tight"))
    (record,) = read_records(tmp_path / "out")
    assert record.error == ""
    assert record.dsc[0] == pytest.approx(2 * 124 / 249)
    assert record.dsc[1:] == (1.0,) * 5
    assert record.seconds[0] > 0


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("fails", "code 1: no memory"),
        ("shape", "shape (9, 12, 14)"),
        ("silent", "wrote no CT_case"),
    ],
)
def test_what_goes_wrong_is_named(script, data, tmp_path, mode, said):
    factory = foreign_model("command:" + script + mode)
    assert factory is not None
    summary = evaluate(data, factory, tmp_path / "out", Options(start="tight"))
    assert said in summary["errors"][0]["error"]
    assert summary["datasets"]["set"]["dsc"] == [0] * 6


def test_unknown_words_are_no_model():
    assert foreign_model("default") is None
    with pytest.raises(InputError, match="empty"):
        foreign_model("command:")
    segmenter = FolderCommand("no-such-program-here")
    with pytest.raises(InputError, match="no-such-program-here"):
        segmenter.start(np.zeros(SHAPE, np.uint8), (1, 1, 1), None, Click((1, 1, 1), True), "MR")


def test_inputs_read_back_as_they_were_said(tmp_path):
    path = tmp_path / "MR_a.npz"
    boxes = [Box((1, 2, 3), (4, 5, 6), (True, False, False)), Box((0, 0, 0), (9, 9, 9))]
    rounds = [(Click((1, 1, 1), True), None), (Click((2, 2, 2), False), Click((3, 3, 3), True))]
    previous = cube((0, 0, 0), (2, 2, 2))
    write_input(path, np.zeros(SHAPE, np.uint8), (2.0, 1.5, 1.0), boxes, rounds, previous)
    case = read_challenge(path)
    assert case.volume.spacing_mm == pytest.approx((2.0, 1.5, 1.0))
    assert case.boxes[0] == boxes[0]
    assert case.clicks == tuple(zip(*rounds, strict=True))
    assert np.array_equal(case.previous, previous)
    with np.load(path, allow_pickle=True) as raw:
        assert raw["clicks_order"].shape == (2, 2)


def test_a_command_may_say_what_is_no_text(tmp_path):
    run_command(["sh", "-c", "printf 'caf\\351'"], tmp_path, tmp_path)
    with pytest.raises(InputError, match="ended with code 3: caf"):
        run_command(["sh", "-c", "printf 'caf\\351' >&2; exit 3"], tmp_path, tmp_path)
