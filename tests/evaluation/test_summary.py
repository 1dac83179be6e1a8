"""Aggregation by hand."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segvol_gru.errors import InputError
from segvol_gru.evaluation.records import Record, append_records, read_records
from segvol_gru.evaluation.summary import summarise

NAN = math.nan


def record(case, dataset="s", dsc=(0.5,) * 6, clicks=5, **more):
    values = {
        "case": case,
        "dataset": dataset,
        "modality": "CT",
        "licence_class": "open",
        "subject": case,
        "label": 1,
        "number": 0,
        "voxels": 100,
        "spacing": (1.0, 1.0, 1.0),
        "box": ((0, 0, 0), (1, 1, 1)),
        "clicks": ((1, 2, 3, 1),) * clicks + (None,) * (5 - clicks),
        "dsc": dsc,
        "nsd": dsc,
        "seconds": (1.0, *(0.1,) * clicks, *(NAN,) * (5 - clicks)),
    }
    return Record(**{**values, **more})


def summary_of(out, *records):
    out.mkdir()
    append_records(out / "rows-0.jsonl", records)
    return summarise(out)


def test_one_data_set_by_hand(tmp_path):
    summary = summary_of(
        tmp_path / "out",
        record("a", dsc=(0.6, 0.8, 0.7, 0.86, 0.92, 0.916), label=1),
        record("b", dsc=(0.9, 1.0, 1.0, 1.0, 1.0, 1.0), clicks=1, seconds=(3.0, 0.6, *(NAN,) * 4)),
    )
    stats = summary["datasets"]["s"]
    assert (stats["n"], stats["subjects"], stats["modality"]) == (2, 2, "CT")
    assert stats["dsc"] == pytest.approx([0.75, 0.9, 0.85, 0.93, 0.96, 0.958])
    assert stats["dsc_auc"] == pytest.approx((0.4 + 0.7 + 0.86 + 0.92 + 0.458 + 4) / 2)
    assert stats["harmful_share"] == pytest.approx(1 / 6)  # 0.8 -> 0.7; 0.004 down is no harm
    assert stats["seconds_box"] == 2
    assert stats["seconds_click"] == pytest.approx((5 * 0.1 + 0.6) / 6)
    assert (stats["clicks_to_85"], stats["clicks_to_90"]) == (1.5, 2.0)  # 3 and 0; 4 and 0
    assert (stats["reached_85"], stats["reached_90"]) == (1, 1)
    assert summary["mean"]["all"] == {"datasets": 0, "n": 0}  # two tasks are too few


def test_tasks_without_box(tmp_path):
    summary = summary_of(
        tmp_path / "out",
        record("a", dsc=(NAN, 0.2, 0.1, 0.3, 0.4, 0.5), box=None, seconds=(NAN, 2, 1, 1, 1, 1)),
        record("b", dsc=(0.8, 0.8, 0.8, 0.8, 0.8, 0.8), clicks=0),
    )
    stats = summary["datasets"]["s"]
    assert stats["dsc"][0] == 0.8  # of the task that had a box
    assert stats["dsc"][1] == pytest.approx(0.5)
    assert stats["harmful_share"] == 0.25  # the first click is a start, not a correction
    assert stats["seconds_click"] == 1
    assert stats["clicks_to_85"] == 6
    assert stats["reached_85"] == 0


def test_worse_than_the_box_is_a_share_of_tasks_with_a_box(tmp_path):
    summary = summary_of(
        tmp_path / "out",
        record("a", dsc=(0.8, 0.9, 0.9, 0.9, 0.9, 0.785)),  # 0.015 below
        record("b", dsc=(0.8, 0.5, 0.5, 0.5, 0.5, 0.795)),  # 0.005 below, whatever came between
        record("c", dsc=(0.8, 0.8, 0.8, 0.8, 0.8, 0.95)),
        record("d", dsc=(0.8, 0.8, 0.8, 0.8, 0.8, 0.0), error="crash"),
        record("e", dsc=(NAN, 0.9, 0.1, 0.1, 0.1, 0.1), box=None, seconds=(NAN, 1, 1, 1, 1, 1)),
    )
    assert summary["datasets"]["s"]["worse_than_box_share"] == 2 / 4
    assert summary["mean"]["open"]["worse_than_box_share"] == 2 / 4
    assert summary["mean"]["all"]["interval"]["low"]["worse_than_box_share"] >= 0
    with (tmp_path / "out" / "summary.csv").open(newline="") as stream:
        assert next(csv.DictReader(stream))["worse_than_box_share"] == "0.5"


def test_headline_is_the_mean_over_large_data_sets(tmp_path):
    rows = [record(f"a{k}", "big", (0.2,) * 6) for k in range(8)]
    rows += [record(f"b{k}", "other", (0.8,) * 6, licence_class="research") for k in range(4)]
    rows += [record(f"c{k}", "small", (0.0,) * 6) for k in range(3)]
    rows += [record("d", label=0, dsc=(NAN,) * 6, error="gone")]
    summary = summary_of(tmp_path / "out", *rows)
    means = summary["mean"]
    assert means["all"]["dsc"] == pytest.approx([0.5] * 6)
    assert means["open"]["dsc"] == pytest.approx([0.2] * 6)
    assert means["research"]["dsc_auc"] == pytest.approx(3.2)
    assert (means["all"]["datasets"], means["all"]["n"]) == (2, 12)
    assert means["all"]["interval"]["low"]["dsc"] == pytest.approx([0.5] * 6)
    assert summary["errors"] == [{"case": "d", "label": 0, "error": "gone"}]


def test_interval_resamples_subjects(tmp_path):
    # Ten subjects with 0 or 1, five tasks each: the mean of 10 draws of a fair coin.
    rows = [
        record(f"{s}-{k}", "s", (float(s % 2),) * 6, subject=str(s))
        for s in range(10)
        for k in range(5)
    ]
    interval = summary_of(tmp_path / "out", *rows)["mean"]["all"]["interval"]
    assert interval["low"]["dsc"][0] == pytest.approx(0.2)
    assert interval["high"]["dsc"][0] == pytest.approx(0.8)


def test_files(tmp_path):
    out = tmp_path / "out"
    summary = summary_of(
        out, *(record(f"a{k}", nsd=(NAN,) * 6, modality="Microscopy") for k in range(4))
    )
    assert all(math.isnan(v) for v in summary["mean"]["all"]["nsd"])
    written = json.loads((out / "summary.json").read_text())
    assert written["datasets"]["s"]["nsd"] == [None] * 6
    with (out / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["dataset"] for row in rows] == [
        "s",
        "mean (open)",
        "mean (research)",
        "mean (all)",
    ]
    assert (rows[0]["dsc_box"], rows[0]["nsd_1"], rows[0]["n"]) == ("0.5", "", "4")
    assert not list(out.glob("*.part"))


def test_nothing_to_summarise(tmp_path):
    with pytest.raises(InputError, match="no records"):
        summarise(tmp_path)


@given(st.lists(st.floats(0, 1) | st.just(NAN), min_size=6, max_size=6), st.text(max_size=20))
def test_records_survive_the_round_trip(values, text):
    before = record("a", dsc=tuple(values), error=text)
    after = Record.from_json(before.to_json())
    np.testing.assert_equal(after.dsc, before.dsc)
    assert repr(after) == repr(before)
    assert "\n" not in before.to_json()


def test_the_last_good_record_counts(tmp_path):
    failed = record("a", error="crash")
    append_records(tmp_path / "rows-0.jsonl", [failed, record("a")])
    append_records(tmp_path / "rows-1.jsonl", [failed])
    assert [r.error for r in read_records(tmp_path)] == [""]
    append_records(tmp_path / "rows-1.jsonl", [record("b", label=0, error="gone"), record("b")])
    assert [(r.case, r.label) for r in read_records(tmp_path)] == [("a", 1), ("b", 1)]
