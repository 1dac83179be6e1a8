"""The competition's contract: folders in, folders out, nothing in between."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from segvol_gru.data.challenge import ChallengeCase, read_challenge, read_labels
from segvol_gru.errors import InputError
from segvol_gru.evaluation.folder import write_input
from segvol_gru.evaluation.official import OFFICIAL, run_case
from segvol_gru.evaluation.submission import Submission, command_answer
from segvol_gru.interfaces.challenge import perfect_classes, predict
from segvol_gru.interfaces.cli import app
from segvol_gru.pretrained import load_model
from segvol_gru.prompts import Box, Click
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

SCRIPT = Path(__file__).parents[2] / "container" / "predict.sh"
SHAPE = (16, 24, 26)
SPACING = (2.0, 1.0, 1.0)
BOXES = (
    Box((2, 2, 2), (12, 12, 12), (True, False, False)),
    Box((3, 8, 9), (13, 21, 22), (True, False, False)),
)
ADD, ALSO, REMOVE = Click((7, 7, 7), True), Click((8, 15, 16), True), Click((4, 10, 10), False)


@pytest.fixture
def labels() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[3:12, 3:11, 3:12] = 1
    found[4:12, 12:20, 12:21] = 2
    return found


@pytest.fixture
def image(labels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(5).integers(0, 40, SHAPE)
    return (labels * 80 + noise).astype(np.uint8)


def case(
    image: np.ndarray,
    boxes: tuple[Box, ...] = BOXES,
    clicks: tuple[tuple[Click | None, ...], ...] = (),
    previous: np.ndarray | None = None,
) -> ChallengeCase:
    return ChallengeCase(Volume(image, SPACING, modality="MR"), None, boxes, clicks, previous)


def test_one_class_is_what_a_session_says(tiny_model: Path, image: np.ndarray) -> None:
    model = load_model(tiny_model)
    given = case(image, BOXES[:1], ((ADD, REMOVE),))
    with Session(given.volume, model, device="cpu") as live:
        live.prompt(BOXES[0])
        live.prompt(ADD)
        mask = live.prompt(REMOVE)
    found = predict(given, model, "cpu")
    assert found.dtype == np.uint8
    assert np.array_equal(found == 1, mask)


def test_without_a_box_clicks_begin(tiny_model: Path, image: np.ndarray) -> None:
    model = load_model(tiny_model)
    with Session(Volume(image, SPACING, modality="MR"), model, device="cpu") as live:
        live.prompt(REMOVE)
        mask = live.prompt(ADD)
    found = predict(case(image, (), ((REMOVE, ADD),)), model, "cpu")
    assert np.array_equal(found == 1, mask)
    assert not predict(case(image, (), ((REMOVE,),)), model, "cpu").any()


def test_a_voxel_goes_to_the_larger_logit(tiny_model: Path, image: np.ndarray) -> None:
    model = load_model(tiny_model)
    both = predict(case(image), model, "cpu")
    first = predict(case(image, BOXES[:1]), model, "cpu") == 1
    second = predict(case(image, BOXES[1:]), model, "cpu") == 1
    assert np.array_equal(both > 0, first | second)
    assert np.array_equal(both == 1, first & ~(both == 2))
    assert (both[first & ~second] == 1).all()
    assert (both[second & ~first] == 2).all()


def test_a_click_for_one_class_is_a_click_against_the_others(
    tiny_model: Path, image: np.ndarray
) -> None:
    model = load_model(tiny_model)
    shared = (7, 10, 10)  # in both boxes
    for owner in (0, 1):
        clicks = [(None,), (None,)]
        clicks[owner] = (Click(shared, True),)
        found = predict(case(image, clicks=tuple(clicks)), model, "cpu")
        assert found[shared] == owner + 1


def test_a_perfect_class_is_frozen(tiny_model: Path, image: np.ndarray, labels: np.ndarray) -> None:
    model = load_model(tiny_model)
    given = case(image, clicks=((ADD, None), (ALSO, REMOVE)), previous=labels)
    assert perfect_classes(given) == {0}
    found = predict(given, model, "cpu")
    assert (found[labels == 1] == 1).all()
    assert not (found == 1)[labels != 1].any()
    assert perfect_classes(replace(given, previous=None)) == set()


def test_cases_without_sense_are_refused(tiny_model: Path, image: np.ndarray) -> None:
    model = load_model(tiny_model)
    with pytest.raises(InputError, match="0 boxes"):
        predict(case(image, ()), model, "cpu")
    with pytest.raises(InputError, match="clicks for 1 classes"):
        predict(case(image, clicks=((ADD,),)), model, "cpu")


def test_one_bad_file_does_not_cost_the_others(
    tiny_model: Path, image: np.ndarray, tmp_path: Path
) -> None:
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    inputs.mkdir()
    (inputs / "CT_bad.npz").write_bytes(b"nothing")
    write_input(inputs / "MR_good.npz", image, SPACING, BOXES, [], None)
    where = ("--inputs", inputs, "--outputs", outputs, "--model", tiny_model)
    result = CliRunner().invoke(app, [*map(str, ("predict-challenge", *where, "--device", "cpu"))])
    assert result.exit_code == 1
    assert "CT_bad.npz" in result.stderr
    expected = predict(read_challenge(inputs / "MR_good.npz"), load_model(tiny_model), "cpu")
    assert np.array_equal(read_labels(outputs / "MR_good.npz"), expected)
    assert [p.name for p in outputs.iterdir()] == ["MR_good.npz"]
    result = CliRunner().invoke(app, ["predict-challenge", "--inputs", str(tmp_path / "nowhere")])
    assert result.exit_code == 2


def test_predict_sh_keeps_the_contract(
    tiny_model: Path, image: np.ndarray, labels: np.ndarray, tmp_path: Path
) -> None:
    """Six calls of the shell script, prompts by the official script, two classes."""
    command = (
        f"env PYTHON={sys.executable} MODEL={tiny_model} DEVICE=cpu "
        f"INPUTS={{inputs}} OUTPUTS={{outputs}} sh {SCRIPT}"
    )
    boxes = [Box((3, 3, 3), (11, 10, 11)), Box((4, 12, 12), (11, 19, 20))]
    model = Submission(command_answer(command), tmp_path, "MR_case", image, SPACING, boxes)
    scores = run_case(labels, SPACING[::-1], model, rules=OFFICIAL)
    assert model.faults == []
    assert all(seconds > 0 for seconds in model.seconds)
    assert scores.answered
    assert scores.labels == (1, 2)
    assert [len(r) for r in scores.clicks] == [2] * 5
    last = read_challenge(tmp_path / "inputs" / "MR_case.npz")
    assert last.clicks == tuple(zip(*scores.clicks, strict=True))
    assert last.previous is not None
    answer = read_labels(tmp_path / "outputs" / "MR_case.npz")
    assert answer.shape == SHAPE
    for rounds, label in zip(last.clicks, (1, 2), strict=True):
        newest = rounds[-1]
        if newest is not None:
            assert (answer[newest.at] == label) == newest.positive
    assert np.array_equal(answer, predict(last, load_model(tiny_model), "cpu"))
