"""Results of cases: what is slow, what a mean leaves out, what a file keeps."""

from __future__ import annotations

import math

import pytest

from segvol_gru.evaluation.case_results import CaseResult, competition_table, modality_means

NAN = math.nan


def result(case="CT_a", rules="official", seconds=(1.0,) * 6, **more):
    scores = {"dsc": (0.5,) * 6, "nsd": (0.25,) * 6, "wrote": True, "labels": (1, 2)}
    return CaseResult(case, "set", case.split("_")[0], rules, seconds=seconds, **{**scores, **more})


def test_a_case_over_its_time_scores_0_officially():
    slow = result(seconds=(60.0,) * 3 + (0.2,) * 3)  # 180.6 s of 180 s
    assert slow.slow
    assert set(slow.row().values()) == {0}
    assert slow.dsc == (0.5,) * 6
    right = result(rules="corrected", seconds=slow.seconds)
    assert right.slow
    assert right.row()["DSC_AUC"] == 2
    assert not result(seconds=(30.0,) * 6).slow
    table = competition_table([slow, result("CT_b", seconds=(9.0,) * 6)], "ours")
    ct = dict(zip(table.head, table.rows[0], strict=True))
    assert ct["DSC AUC"] == 1
    assert (ct["cases"], ct["slow"]) == (2, 1)
    assert ct["s / class"] == pytest.approx((90.3 + 27) / 2)
    assert ct["most s"] == pytest.approx(90.3)


def test_modality_means_skip_unanswered_cases():
    silent = {"dsc": (0.0,) * 6, "nsd": (0.0,) * 6, "wrote": False}
    rows = [result("CT_a", dsc=(1.0,) * 6), result("CT_b"), result("MR_d", labels=())]
    means = modality_means([*rows, result("CT_c", **silent)])
    assert means == {"CT": {"DSC_AUC": 3, "NSD_AUC": 1, "DSC_Final": 0.75, "NSD_Final": 0.25}}
    means = modality_means([result("CT_a"), result("CT_c", "corrected", **silent)])
    assert means["CT"]["DSC_Final"] == 0.25


def test_results_survive_the_round_trip():
    clicks = (((1, 2, 3, 1), None),) * 5
    before = result(nsd=(NAN,) * 6, clicks=clicks, label_dsc=((0.5, NAN),) * 6, faults=("a\nb",))
    assert repr(CaseResult.from_json(before.to_json())) == repr(before)
    assert "\n" not in before.to_json()
    with pytest.raises(ValueError):
        CaseResult.from_json("[]")
