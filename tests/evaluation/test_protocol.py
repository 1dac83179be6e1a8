"""The protocol end to end on tiny folders."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from folders import FillBox, cube, two_cubes, write_folder

from segvol_gru.errors import InputError
from segvol_gru.evaluation.protocol import evaluate
from segvol_gru.evaluation.records import read_records
from segvol_gru.evaluation.tasks import Options
from segvol_gru.evaluation.workers import rank_and_world


class WrongShape(FillBox):
    def click(self, click):
        return super().click(click)[1:]


class Crashes(FillBox):
    def start(self, array, spacing_mm, box, click, modality):
        if array.any() and array[9, 9, 0]:
            raise RuntimeError("out of\nmemory")
        return super().start(array, spacing_mm, box, click, modality)


def hollow():
    """A 5 x 5 x 5 cube without its centre: a box fill has one false voxel."""
    gts = cube((1, 1, 1), (6, 6, 6))
    gts[3, 3, 3] = 0
    return gts


@pytest.fixture
def folder(tmp_path):
    return write_folder(
        tmp_path / "data",
        [
            ("a", "plain", two_cubes(), {}),
            ("b", "hollow", hollow(), {"modality": "Microscopy", "subject": "s9"}),
        ],
    )


def test_records_by_hand(folder, tmp_path):
    segmenter = FillBox()
    out = tmp_path / "out"
    evaluate(folder, lambda: segmenter, out, Options(start="tight"))
    first, second, third = read_records(out)
    assert (first.case, first.label, first.number, first.voxels) == ("a", 1, 0, 125)
    assert first.spacing == (2, 1, 1)
    assert first.box == ((0, 0, 0), (4, 4, 4))
    assert first.dsc == first.nsd == (1,) * 6  # perfect: no click is given, the scores stay
    assert first.clicks == (None,) * 5
    assert first.seconds[0] >= 0
    assert all(math.isnan(s) for s in first.seconds[1:])
    assert second.label == 2
    assert (third.dataset, third.modality, third.subject) == ("hollow", "Microscopy", "s9")
    assert third.dsc[0] == pytest.approx(2 * 124 / 249)
    assert third.dsc[1:] == (1,) * 5
    assert third.clicks == ((3, 3, 3, 0), None, None, None, None)
    assert all(math.isnan(v) for v in third.nsd)
    assert [call[2] for call in segmenter.calls] == ["CT", "CT", "Microscopy"]


def test_start_from_a_click(folder, tmp_path):
    segmenter = FillBox()
    evaluate(folder, lambda: segmenter, tmp_path / "out", Options(start="none"))
    record = read_records(tmp_path / "out")[0]
    assert record.box is None
    assert math.isnan(record.dsc[0])
    assert math.isnan(record.seconds[0])
    assert record.clicks[0] == (2, 2, 2, 1)
    assert record.dsc[1:] == tuple(2 * n / (125 + n) for n in range(1, 6))
    box, click, _, _ = segmenter.calls[0]
    assert (box, click.at) == (None, (2, 2, 2))


def test_random_clicks_are_repeatable(folder, tmp_path):
    options = Options(start="none", random_clicks=True)
    for name in ("one", "two"):
        evaluate(folder, FillBox, tmp_path / name, options)
    one, two = (read_records(tmp_path / name) for name in ("one", "two"))
    assert [r.clicks for r in one] == [r.clicks for r in two]
    evaluate(folder, FillBox, tmp_path / "plain", Options(start="none"))
    assert [r.clicks for r in one] != [r.clicks for r in read_records(tmp_path / "plain")]


def test_failures_are_recorded_and_count_as_zero(folder, tmp_path):
    (folder / "cases" / "b.npz").write_bytes(b"nothing")
    summary = evaluate(folder, Crashes, tmp_path / "out", Options(start="tight"))
    assert [(e["case"], e["label"]) for e in summary["errors"]] == [("a", 1), ("a", 2), ("b", 0)]
    assert summary["errors"][0]["error"] == "RuntimeError: out of memory"
    assert summary["datasets"]["plain"]["dsc"] == [0] * 6
    assert "hollow" not in summary["datasets"]


def test_a_wrong_shape_keeps_what_was_reached(folder, tmp_path):
    evaluate(folder, WrongShape, tmp_path / "out", Options(start="tight", datasets=("hollow",)))
    (record,) = read_records(tmp_path / "out")
    assert record.dsc[0] > 0.9
    assert record.dsc[1:] == (0,) * 5
    assert "bool of shape (9, 12, 14), wanted bool of shape (10, 12, 14)" in record.error
    assert all(math.isnan(v) for v in record.nsd)


def test_finished_tasks_are_not_run_again(folder, tmp_path):
    out, options = tmp_path / "out", Options(start="tight")
    evaluate(folder, WrongShape, out, options)
    rows = out / "rows-0.jsonl"
    rows.write_text(rows.read_text() + '{"case": "a", "lab')  # killed while writing
    again = FillBox()
    evaluate(folder, lambda: again, out, options)
    assert [call[2] for call in again.calls] == ["Microscopy"]  # only the failed one
    assert [r.error for r in read_records(out)] == ["", "", ""]
    evaluate(folder, lambda: pytest.fail("nothing is left to do"), out, options)


def test_other_settings_need_another_folder(folder, tmp_path):
    evaluate(folder, FillBox, tmp_path / "out", Options(start="tight"))
    with pytest.raises(InputError, match="other settings \\(start\\)"):
        evaluate(folder, FillBox, tmp_path / "out", Options(start="none"))


def test_what_is_refused_leaves_no_settings_behind(folder, tmp_path):
    with pytest.raises(InputError, match="no cases of split 'vall'"):
        evaluate(folder, FillBox, tmp_path / "out", Options(start="tight", split="vall"))
    evaluate(folder, FillBox, tmp_path / "out", Options(start="tight"))


def test_ranks_share_the_cases(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        evaluate(folder, FillBox, tmp_path / "out", Options())
    lines = [
        [json.loads(line)["case"] for line in (tmp_path / "out" / name).read_text().splitlines()]
        for name in ("rows-0.jsonl", "rows-1.jsonl")
    ]
    assert lines == [["a", "a"], ["b"]]
    assert [r.number for r in read_records(tmp_path / "out")] == [0, 1, 2]


def test_a_rank_without_cases_waits_for_nobody(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "9")
    monkeypatch.setenv("RANK", "8")
    summary = evaluate(folder, FillBox, tmp_path / "out", Options())
    assert summary["datasets"] == {}
    monkeypatch.setenv("RANK", "0")
    assert evaluate(folder, FillBox, tmp_path / "out", Options())["datasets"]


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_STEP_NUM_TASKS": "4"}, (1, 2)),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, (3, 4)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "measure"}, (0, 1)),
    ],
)
def test_launchers_say_which_process_this_is(environment, place):
    assert rank_and_world(environment) == place


def test_workers_give_the_same_records(folder, tmp_path):
    for workers in (1, 2):
        evaluate(folder, FillBox, tmp_path / str(workers), Options(workers=workers))
    one, two = (read_records(tmp_path / name) for name in "12")
    assert [(r.key, r.box, r.clicks, r.error) for r in one] == [
        (r.key, r.box, r.clicks, r.error) for r in two
    ]
    np.testing.assert_equal([r.dsc for r in one], [r.dsc for r in two])


def test_images_cannot_be_written_to(folder, tmp_path):
    class Vandal(FillBox):
        def start(self, array, *rest):
            array[0] = 0

    summary = evaluate(folder, Vandal, tmp_path / "out", Options())
    assert "read-only" in summary["errors"][0]["error"]
