"""A watched segmenter: what it says, what its suggestions hit, what went wrong."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from folders import FillBox, cube, write_folder

from segvol_gru.errors import InputError
from segvol_gru.evaluation.calibration import Observer, calibrate
from segvol_gru.evaluation.doubts import NO_BINS, Doubts, read_doubts, summarise_doubts
from segvol_gru.evaluation.records import append_records
from segvol_gru.evaluation.reliability import BINS, LOGIT_BINS
from segvol_gru.evaluation.tasks import Options
from segvol_gru.prompts import Box

SPOT = (3, 3, 3)  # in the hole of `hollow`


def hollow():
    """A 5 x 5 x 5 cube with a hole of 27 voxels: a filled box is wrong there."""
    gts = cube((1, 1, 1), (6, 6, 6))
    gts[2:5, 2:5, 2:5] = 0
    return gts


class Sure(FillBox):
    """As sure of its mask as told; suggests one place."""

    said, at = 0.75, SPOT

    @property
    def probability(self):
        return np.where(self.mask, self.said, 1 - self.said).astype(np.float32)

    def suggest(self):
        return self.at


class Adopts(Sure):
    """Takes any mask over."""

    def adopt(self, array, spacing_mm, mask, modality):
        self.mask = mask.copy()
        return self.mask.copy()


class Clueless(Sure):
    at = None


class Crashes(Sure):
    def click(self, click):
        if len(self.calls) == 1:
            raise RuntimeError("out of\nmemory")
        return super().click(click)


OPTIONS = Options(start="tight")


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "data", [(n, "set", hollow(), {}) for n in "abcd"])


def test_what_an_observer_sees():
    gt = hollow() == 1
    observer = Observer(Sure(), gt, np.random.default_rng(0))
    image = np.zeros(gt.shape, np.uint8)
    observer.start(image, (1, 1, 1), Box((1, 1, 1), (5, 5, 5)), None, "CT")
    (bins,) = observer.bins
    assert bins[0].sum() == observer.logits[0].sum()
    assert bins[2].sum() == gt.sum() == observer.logits[1].sum()  # nothing lies deeper than 5
    assert bins[:, 11] == pytest.approx((125, 93.75, 98))  # 0.75 of the mask, 27 of it wrong
    assert bins[2, 3] == 0
    assert observer.hits[0][0] is True
    # Both sides of the mask's boundary: the hole's middle layer does not touch it.
    assert observer.hits[0][1] is False


def test_a_run_by_hand(data, tmp_path):
    summary = calibrate(data, Sure, tmp_path / "out", OPTIONS, model="sure")
    stats = summary["datasets"]["set"]
    assert (stats["n"], stats["licence_class"]) == (4, "open")
    records = read_doubts(tmp_path / "out")
    first = np.array(records[0].bins[0])
    expected = (98 - 93.75 + 0.25 * (first[0].sum() - 125)) / first[0].sum()
    assert stats["ece_steps"][0] == pytest.approx(expected)
    # The first click is on the spot, the hole's deepest voxel: later suggestions of it miss.
    assert records[0].suggested == (True, False, False, False, False, False)
    assert stats["suggested"] == pytest.approx(1 / 6)
    assert all(record.drawn[0] is False for record in records)  # no error at the first boundary
    mean = summary["mean"]
    assert mean["research"] == {"datasets": 0, "n": 0}
    assert mean["open"] == mean["all"]
    gain = mean["open"]["gain"]
    assert gain["mean"] == pytest.approx(stats["suggested"] - stats["drawn"])
    assert gain["low"] <= gain["mean"] <= gain["high"]
    assert (gain["tasks"], gain["sets"]) == (4, 1)
    assert np.array(mean["open"]["curve"])[0].sum() == pytest.approx(1)
    assert mean["open"]["ece"] > 0.05
    fitted = summary["temperature"]
    assert fitted["value"] < 1  # it could be surer: outside it is always right
    assert fitted["ece"]["open"] < mean["open"]["ece"]
    written = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert written["datasets"]["set"]["suggested"] == stats["suggested"]
    assert written["temperature"]["ece"]["research"] is None


def test_without_a_suggestion_nothing_is_hit(data, tmp_path):
    summary = calibrate(data, Clueless, tmp_path / "out", OPTIONS)
    assert summary["mean"]["open"]["suggested"] == 0


def test_masks_of_other_tools_are_watched_too(data, tmp_path):
    summary = calibrate(data, Adopts, tmp_path / "out", Options(start="foreign:threshold"))
    assert summary["errors"] == []
    assert [record.suggested[0] for record in read_doubts(tmp_path / "out")] != [None] * 4


def test_other_data_have_a_folder_of_their_own(data, tmp_path):
    calibrate(data, Sure, tmp_path / "out", OPTIONS)
    more = write_folder(tmp_path / "more", [("a", "set", hollow(), {})])
    with pytest.raises(InputError, match=r"other settings \(data\)"):
        calibrate(more, Sure, tmp_path / "out", OPTIONS)


def test_steps_without_error_have_nothing_to_find(tmp_path):
    whole = write_folder(tmp_path / "data", [("a", "set", cube((1, 1, 1), (6, 6, 6)), {})])
    summary = calibrate(whole, Sure, tmp_path / "out", OPTIONS)
    (record,) = read_doubts(tmp_path / "out")
    assert record.suggested == (None,) * 6
    assert record.bins[1:] == NO_BINS[1:]  # no click was given
    assert math.isnan(record.gain)
    assert math.isnan(summary["datasets"]["set"]["suggested"])
    assert math.isnan(summary["datasets"]["set"]["ece_steps"][5])
    assert summary["mean"]["all"] == {"datasets": 0, "n": 0}


def test_faults_are_named_and_tried_again(data, tmp_path):
    whole = (data / "cases" / "b.npz").read_bytes()
    (data / "cases" / "b.npz").write_bytes(b"nothing")
    out, segmenter = tmp_path / "out", Crashes()
    seen = []
    summary = calibrate(data, lambda: segmenter, out, OPTIONS, watch=lambda *n: seen.append(n))
    assert seen[-1] == (3, 3)
    errors = {(e["case"], e["label"]): e["error"] for e in summary["errors"]}
    assert errors["a", 1] == "RuntimeError: out of memory"
    assert "b.npz cannot be read" in errors["b", 0]
    assert summary["datasets"]["set"]["n"] == 2
    (data / "cases" / "b.npz").write_bytes(whole)
    rows = out / "doubts.jsonl"
    rows.write_text(rows.read_text() + '{"case": "c", "lab\n')  # killed while writing
    again = Sure()
    summary = calibrate(data, lambda: again, out, OPTIONS)
    assert summary["errors"] == []
    assert summary["datasets"]["set"]["n"] == 4
    assert len(again.calls) == 2
    with pytest.raises(InputError, match="start"):
        calibrate(data, Sure, out, Options(start="none"))


def test_workers_and_seeds_draw_the_same(data, tmp_path):
    found = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        calibrate(data, Sure, out, Options(start="tight", workers=workers))
        found.append(read_doubts(out))
    assert found[0] == found[1]


def test_data_sets_weigh_alike_and_voxels_within_them_too(tmp_path):
    def bins(count, said, true):
        step = np.zeros((3, BINS))
        step[:, 7] = count, said, true
        return (tuple(map(tuple, step.tolist())), *NO_BINS[1:])

    logits = (tuple(float(k == 99) for k in range(LOGIT_BINS)), (0.0,) * LOGIT_BINS)
    rows = [Doubts(n, "a", "open", n, 1, bins(10, 5, 3)) for n in "123"]
    rows += [Doubts("4", "a", "open", "4", 1, bins(70, 35, 31))]  # 0.5 said, 40 of 100 true
    rows += [Doubts(n, "b", "research", n, 1, bins(10, 5, 5)) for n in "5678"]
    rows += [Doubts(n, "few", "open", n, 1, bins(10, 5, 0)) for n in "9"]
    append_records(tmp_path / "doubts.jsonl", [replace(row, logits=logits) for row in rows])
    summary = summarise_doubts(tmp_path)
    assert summary["datasets"]["a"]["ece"] == pytest.approx(0.1)
    assert summary["datasets"]["few"]["ece"] == pytest.approx(0.5)
    eces = {scope: mean["ece"] for scope, mean in summary["mean"].items()}
    assert eces == pytest.approx({"open": 0.1, "research": 0, "all": 0.05})
    assert np.array(summary["mean"]["all"]["curve"])[:, 7] == pytest.approx((2, 1, 0.9))
