"""The competition loop against the outputs of the unmodified official script."""

from __future__ import annotations

import numpy as np
import pytest
from goldens import NAMES, load, needs_goldens

from segvol_gru.errors import InputError
from segvol_gru.evaluation.official import OFFICIAL, run_case
from segvol_gru.prompts import Click


def replay(case):
    """A model that writes what the golden run's model wrote."""
    first = int(case["first_step"])

    def model(turn):
        index = turn.step - first
        if not case["wrote"][index]:
            return None
        pred = case["pred"][index]
        return np.asfortranarray(pred) if case["pred_fortran"][index] else pred

    return model


@needs_goldens
@pytest.mark.parametrize("name", NAMES)
def test_official_rules_reproduce_the_official_script(name):
    case = load(name)
    first = int(case["first_step"])
    scores = run_case(case["gts"], case["spacing"], replay(case), first == 0, OFFICIAL)
    assert scores.labels == tuple(case["labels"])
    for step in range(5):
        for k, click in enumerate(scores.clicks[step]):
            flag = int(case["click_is_fg"][step, k])
            at = tuple(int(v) for v in case["click_zyx"][step, k])
            assert click == (None if flag < 0 else Click(at, flag == 1)), (step, k)
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(scores.label_dsc[first:], case["class_dsc"][first:], **close)
    np.testing.assert_allclose(scores.label_nsd[first:], case["class_nsd"][first:], **close)
    np.testing.assert_allclose(scores.dsc, case["dsc"], **close)
    np.testing.assert_allclose(scores.nsd, case["nsd"], **close)
    row = scores.row()
    for key in ("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final"):
        assert row[key] == pytest.approx(float(case[key.lower()]), abs=1e-12)
    assert scores.seconds_allowed == int(case["runtime_upperbound"])


def cubes(*labels, dtype=np.uint16):
    """One 4-voxel cube per label along x."""
    gts = np.zeros((8, 8, 8 * len(labels)), dtype=dtype)
    for k, label in enumerate(labels):
        gts[2:6, 2:6, 8 * k + 2 : 8 * k + 6] = label
    return gts


def test_spacing_is_turned_round_unless_official():
    gts = cubes(1)
    pred = np.roll(gts, 1, axis=0)  # wrong by one slice: 1 mm with stored z = 1, else 5 mm
    stored = (5.0, 5.0, 1.0)
    right = run_case(gts, stored, lambda turn: pred)
    assert right.nsd == pytest.approx(np.ones(6))
    official = run_case(gts, stored, lambda turn: pred, rules=OFFICIAL)
    assert (official.nsd < 0.9).all()


def test_gate_is_strict_and_official_only():
    gts = np.zeros((1, 1, 20), dtype=np.uint8)
    gts[0, 0, :9] = 1
    pred = np.zeros_like(gts)
    pred[0, 0, 8:9] = 1  # DSC 2 / 10 = 0.2: not greater
    assert (run_case(gts, (1, 1, 1), lambda turn: pred, rules=OFFICIAL).nsd == 0).all()
    assert (run_case(gts, (1, 1, 1), lambda turn: pred).nsd > 0).all()


def test_stale_output_is_scored_again_only_officially():
    gts = cubes(1)
    answers = {0: gts, 1: None, 2: gts, 3: None, 4: None, 5: None}
    official = run_case(gts, (1, 1, 1), lambda turn: answers[turn.step], rules=OFFICIAL)
    assert official.dsc.tolist() == [1, 1, 1, 1, 1, 1]
    right = run_case(gts, (1, 1, 1), lambda turn: answers[turn.step])
    assert right.dsc.tolist() == [1, 0, 1, 0, 0, 0]


def test_case_without_boxes():
    gts = cubes(1)
    seen = []

    def model(turn):
        seen.append((turn.step, [len(c) for c in turn.clicks], turn.previous is None))
        return gts

    official = run_case(gts, (1, 1, 1), model, has_boxes=False, rules=OFFICIAL)
    assert seen[0] == (1, [1], True)
    assert seen[-1] == (5, [1], False)
    assert official.dsc.tolist() == [0, 1, 1, 1, 1, 1]
    right = run_case(gts, (1, 1, 1), model, has_boxes=False)
    assert np.isnan(right.dsc[0])
    assert right.row()["DSC_AUC"] == 4


def test_labels_beyond_255_wrap_only_officially():
    gts = cubes(1, 257)
    official = run_case(gts, (1, 1, 1), lambda turn: gts, rules=OFFICIAL)
    assert official.dsc.tolist() == [1] * 6  # metrics see the labels as written
    assert all(one is not None and two is not None for one, two in official.clicks)
    assert not official.clicks[0][0].positive  # what is 257 looks like a false 1
    right = run_case(gts, (1, 1, 1), lambda turn: gts)
    assert right.clicks == ((None, None),) * 5


def test_smallest_label_is_lost_only_officially():
    gts = np.full((4, 4, 4), 3, dtype=np.uint8)
    gts[:2] = 7
    assert run_case(gts, (1, 1, 1), lambda turn: gts, rules=OFFICIAL).labels == (7,)
    assert run_case(gts, (1, 1, 1), lambda turn: gts).labels == (3, 7)


def test_case_without_labels_scores_nan():
    gts = np.zeros((3, 3, 3), dtype=np.uint8)
    scores = run_case(gts, (1, 1, 1), lambda turn: gts, rules=OFFICIAL)
    assert np.isnan(scores.dsc).all()
    assert np.isnan(scores.nsd).all()


def test_wrong_predictions_are_refused():
    gts = cubes(1)
    with pytest.raises(InputError, match=r"shape \(8, 8, 9\), wanted \(8, 8, 8\)"):
        run_case(gts, (1, 1, 1), lambda turn: np.zeros((8, 8, 9), dtype=np.uint8))
    with pytest.raises(InputError, match="round and cast"):
        run_case(gts, (1, 1, 1), lambda turn: gts.astype(float))
