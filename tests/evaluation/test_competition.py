"""The competition's loop over tiny folders: scores by hand, faults by name, going on."""

from __future__ import annotations

import csv
import json
import math
import os

import nibabel as nib
import numpy as np
import pytest
from folders import cube, two_cubes, write_folder
from goldens import NAMES, load, needs_goldens

from segvol_gru.data.challenge import read_challenge
from segvol_gru.errors import InputError
from segvol_gru.evaluation.case_results import read_results
from segvol_gru.evaluation.competition import Contest, compete
from segvol_gru.evaluation.entries import chosen_cases, file_name, pose
from segvol_gru.evaluation.submission import command_answer

NAN = math.nan


class Painter:
    """Fills the boxes and paints every click; keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, inputs, outputs):
        (path,) = inputs.glob("*.npz")
        case = read_challenge(path)
        self.asked.append((path.stem, len(case.boxes), [len(c) for c in case.clicks]))
        segs = np.zeros(case.volume.shape, np.uint8)
        if case.previous is not None:
            segs[:] = case.previous
        else:
            for k, box in enumerate(case.boxes, start=1):
                segs[tuple(slice(a, b + 1) for a, b in zip(box.lo, box.hi, strict=True))] = k
        for k, rounds in enumerate(case.clicks, start=1):
            for click in (c for c in rounds if c is not None):
                segs[click.at] = k if click.positive else 0
        self.write(outputs / path.name, segs, len(case.clicks[0]) if case.clicks else 0)

    def write(self, path, segs, step):
        np.savez(path, segs=segs)


class WrongShape(Painter):
    def write(self, path, segs, step):
        super().write(path, segs[1:] if step == 2 else segs, step)


class Crashes(Painter):
    """From the third click on."""

    def write(self, path, segs, step):
        if step >= 3:
            raise RuntimeError("out of\nmemory")
        super().write(path, segs, step)


class Silent(Painter):
    def write(self, path, segs, step):
        pass


class Garbled(Painter):
    def write(self, path, segs, step):
        path.write_bytes(b"no archive")


def cubes():
    """Two cubes, labels 2 and 7; the competition would call them 1 and 2."""
    return 2 * cube((1, 1, 1), (6, 6, 6)) + 7 * cube((6, 7, 7), (10, 12, 13))


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "data", [("a", "set", cubes(), {"modality": "MR"})])


def run(data, out, model, **options):
    return compete(data, lambda: model, out, Contest(**options), model="painter")


def test_a_case_is_posed_as_the_competition_would(data, tmp_path):
    ((place, case),) = chosen_cases(data, "val", (), None)
    entry = pose(case, np.random.default_rng([2025, place]))
    assert entry.name == file_name(case) == "MR_a"
    assert entry.values == (2, 7)
    assert np.array_equal(entry.gts, np.searchsorted([0, 2, 7], cubes()))
    assert entry.boxes[1]["z_min"] == 6
    assert (entry.boxes[1]["z_mid"], entry.boxes[1]["z_max"]) == (8, 9)
    painter = Painter()
    run(data, tmp_path / "out", painter)
    assert painter.asked == [("MR_a", 2, [n, n] if n else []) for n in range(6)]


@pytest.mark.parametrize("rules", ["official", "corrected"])
def test_perfect_answers(data, tmp_path, rules):
    # The boxes are tight: 5 pixels of 256 are less than one of 12 or 14.
    summary = run(data, tmp_path / "out", Painter(), rules=rules)
    (result,) = read_results(tmp_path / "out")
    assert result.labels == (2, 7)
    assert result.dsc == result.nsd == (1,) * 6
    assert result.label_dsc == ((1, 1),) * 6
    assert result.clicks == ((None, None),) * 5
    assert result.row() == {"DSC_AUC": 4, "NSD_AUC": 4, "DSC_Final": 1, "NSD_Final": 1}
    assert summary["faults"] == []
    rows = {row[0]: row[2:7] for row in summary["table"]["rows"]}
    assert rows["MRI"] == (4, 4, 1, 1, 1)
    assert math.isnan(rows["CT"][0])
    assert summary["cases"] == {"all": 1, "read": 1, "counted": 1, "slow": 0}
    with (tmp_path / "out" / "metrics.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert list(row) == [
        *("CaseName", "TotalRunningTime", *(f"RunningTime_{k}" for k in range(1, 7))),
        *("DSC_AUC", "NSD_AUC", "DSC_Final", "NSD_Final"),
        *(f"DSC_{k}" for k in range(1, 7)),
        *(f"NSD_{k}" for k in range(1, 7)),
        *("num_class", "runtime_upperbound"),
    ]
    assert (row["CaseName"], row["num_class"], row["runtime_upperbound"]) == (
        "MR_a.npz",
        "2",
        "180",
    )
    times = [float(row[f"RunningTime_{k}"]) for k in range(1, 7)]
    assert float(row["TotalRunningTime"]) == pytest.approx(sum(times))


def test_an_answer_of_another_shape_counts_as_empty(tmp_path):
    gts = cube((1, 1, 1), (6, 6, 6))
    gts[3, 3, 3] = 0  # DSC of the filled box: 2 * 124 / 249; of all but it: 1
    data = write_folder(tmp_path / "data", [("a", "set", gts, {})])
    for rules in ("official", "corrected"):
        summary = run(data, tmp_path / rules, WrongShape(), rules=rules)
        (result,) = read_results(tmp_path / rules)
        assert result.dsc[:3] == pytest.approx((248 / 249, 1, 0))
        assert result.dsc[3] == pytest.approx(2 * 1 / 125)  # one click on nothing
        (fault,) = summary["faults"]
        assert fault["case"] == "CT_a"
        assert "step 2: the answer has shape (9, 12, 14), wanted (10, 12, 14)" in fault["fault"]


def test_a_crash_scores_the_older_file_only_officially(data, tmp_path):
    for rules, last in (("official", 1.0), ("corrected", 0.0)):
        summary = run(data, tmp_path / rules, Crashes(), rules=rules)
        (result,) = read_results(tmp_path / rules)
        assert result.dsc == (1, 1, 1, last, last, last)
        said = [fault["fault"] for fault in summary["faults"]]
        assert said[:2] == [
            *("step 3: RuntimeError: out of memory", "step 3: no MR_a.npz was written"),
        ]
        assert len(said) == 6


def test_a_case_without_any_answer_leaves_the_official_mean_only(data, tmp_path):
    official = run(data, tmp_path / "official", Silent())
    assert official["cases"]["counted"] == 0
    assert all(math.isnan(row[2]) for row in official["table"]["rows"])
    assert len(official["faults"]) == 6
    corrected = run(data, tmp_path / "corrected", Silent(), rules="corrected")
    rows = {row[0]: row[2:7] for row in corrected["table"]["rows"]}
    assert rows["MRI"] == (0, 0, 0, 0, 1)
    garbled = run(data, tmp_path / "garbled", Garbled())
    assert len(garbled["faults"]) == 6
    assert all(str(tmp_path) not in fault["fault"] for fault in garbled["faults"])
    assert garbled["cases"]["counted"] == 1


def test_cases_that_cannot_be_read_are_named(tmp_path):
    rows = [("a", "set", cubes(), {}), ("gone", "set", None, {}), ("torn", "set", cubes(), {})]
    rows.append(("blank", "set", 0 * cubes(), {}))
    data = write_folder(tmp_path / "data", rows)
    torn = data / "cases" / "torn.npz"
    torn.write_bytes(torn.read_bytes()[:300])
    summary = run(data, tmp_path / "out", Painter())
    faults = {fault["case"]: fault["fault"] for fault in summary["faults"]}
    assert set(faults) == {"CT_gone", "CT_torn", "CT_blank"}
    assert "gone.npz cannot be read" in faults["CT_gone"]
    assert "holds no labels" in faults["CT_blank"]
    assert summary["cases"] == {"all": 4, "read": 1, "counted": 1, "slow": 0}


def test_a_run_goes_on_and_tries_faulty_cases_again(tmp_path):
    data = write_folder(tmp_path / "data", [(n, "set", cubes(), {}) for n in "abc"])
    whole = (data / "cases" / "b.npz").read_bytes()
    (data / "cases" / "b.npz").write_bytes(b"")
    out, seen = tmp_path / "out", []
    compete(data, Painter, out, Contest(), model="m", watch=lambda *n: seen.append(n))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    lines = (out / "cases.jsonl").read_text().splitlines()
    (out / "cases.jsonl").write_text("\n".join(lines[:2]) + "\n" + lines[2][:40])  # killed
    (data / "cases" / "b.npz").write_bytes(whole)
    painter = Painter()
    summary = compete(data, lambda: painter, out, Contest(), model="m")
    assert [name for name, *_ in painter.asked] == ["CT_b"] * 6 + ["CT_c"] * 6
    assert summary["faults"] == []
    assert summary["cases"]["counted"] == 3
    with pytest.raises(InputError, match="rules"):
        compete(data, Painter, out, Contest(rules="corrected"), model="m")
    with pytest.raises(InputError, match="model"):
        compete(data, Painter, out, Contest(), model="other")


def test_workers_give_the_same_scores(tmp_path):
    gts = two_cubes()
    data = write_folder(tmp_path / "data", [(n, "set", gts, {}) for n in "ab"])
    found = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        compete(data, Painter, out, Contest(workers=workers))
        found.append([(r.case, r.dsc, r.nsd, r.clicks) for r in read_results(out)])
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_competition_files_keep_their_boxes_and_labels(tmp_path):
    data = tmp_path / "data"
    for folder in ("3D_val_npz", "3D_val_gt"):
        (data / folder).mkdir(parents=True)
    gts = cube((1, 1, 1), (6, 6, 6))
    box = dict(zip(("z_min", "z_max", "z_mid"), (1, 5, 4), strict=True))  # 4: not the middle
    box |= {"z_mid_x_min": 1, "z_mid_x_max": 5, "z_mid_y_min": 0, "z_mid_y_max": 5}
    boxes = np.empty(1, dtype=object)
    boxes[0] = box
    shared = {"imgs": gts * 100, "spacing": np.array([1.0, 1.0, 2.0])}
    np.savez(data / "3D_val_npz" / "CT_with_box.npz", boxes=boxes, **shared)
    np.savez(data / "3D_val_npz" / "MR_without_box.npz", **shared)
    for name in ("CT_with_box", "MR_without_box"):
        np.savez(data / "3D_val_gt" / f"{name}.npz", gts=gts)
    ((_, case), _) = chosen_cases(data, "val", (), None)
    entry = pose(case, np.random.default_rng(0))
    assert entry.name == "CT_with_box"
    assert [dict(b) for b in entry.boxes] == [box]
    painter = Painter()
    for rules, first in (("official", 0.0), ("corrected", NAN)):
        run(data, tmp_path / rules, painter, rules=rules)
        results = {r.case: r for r in read_results(tmp_path / rules)}
        assert results["CT_with_box"].dsc[0] == pytest.approx(2 * 125 / (125 + 150))
        assert results["MR_without_box"].dsc[0] == pytest.approx(first, nan_ok=True)
        assert math.isnan(results["MR_without_box"].seconds[0])
        with (tmp_path / rules / "metrics.csv").open(newline="") as stream:
            row = {r["CaseName"]: r for r in csv.DictReader(stream)}["MR_without_box.npz"]
        empty = "0.0" if rules == "official" else ""
        assert (row["DSC_1"], row["NSD_1"], row["RunningTime_1"]) == (empty,) * 3


def test_pairs_of_nifti_files(tmp_path):
    data = tmp_path / "data"
    for folder, name in (("images", "US_a"), ("labels", "US_a"), ("images", "lone")):
        (data / folder).mkdir(parents=True, exist_ok=True)
        array = cubes().T if folder == "labels" else cubes().T * 10  # (x, y, z)
        path = data / folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(array, np.diag((-1.0, -1.0, 2.0, 1.0))), path)
    painter = Painter()
    summary = run(data, tmp_path / "out", painter)
    assert [name for name, *_ in painter.asked] == ["US_a"] * 6
    (result,) = (r for r in read_results(tmp_path / "out") if r.labels)
    assert (result.modality, result.labels, result.dsc) == ("US", (2, 7), (1,) * 6)
    (fault,) = summary["faults"]
    assert fault["case"] == "CT_lone"
    assert "lone.nii.gz" in fault["fault"]


class Replay:
    """Writes what the golden run's model wrote."""

    def __init__(self, golden):
        self.golden, self.calls = golden, 0

    def __call__(self, inputs, outputs):
        (path,) = inputs.glob("*.npz")
        if self.golden["wrote"][self.calls]:
            segs = self.golden["pred"][self.calls]
            fortran = self.golden["pred_fortran"][self.calls]
            np.savez(outputs / path.name, segs=np.asfortranarray(segs) if fortran else segs)
        self.calls += 1


@needs_goldens
@pytest.mark.parametrize("name", NAMES)
def test_a_folder_scores_as_the_official_script_does(name, tmp_path):
    golden = load(name)
    data, boxed = tmp_path / "data", int(golden["first_step"]) == 0
    data.mkdir()
    content = {key: golden[key] for key in ("gts", "spacing")}
    if boxed:
        box = dict.fromkeys(("z_min", "z_mid", "z_mid_x_min", "z_mid_y_min"), 0)
        box |= dict.fromkeys(("z_max", "z_mid_x_max", "z_mid_y_max"), 1)
        content["boxes"] = np.array([box] * len(golden["labels"]), dtype=object)
    image = np.zeros(golden["gts"].shape, np.uint8)
    np.savez(data / f"CT_{name}.npz", imgs=image, **content)
    run(data, tmp_path / "out", Replay(golden), rules="official")
    (found,) = read_results(tmp_path / "out")
    assert found.labels == tuple(golden["labels"])
    for given, places, flags in zip(
        found.clicks, golden["click_zyx"], golden["click_is_fg"], strict=True
    ):
        wanted = [
            (*at, flag) if flag >= 0 else None for at, flag in zip(places, flags, strict=True)
        ]
        assert list(given) == wanted
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(found.dsc, golden["dsc"], **close)
    np.testing.assert_allclose(found.nsd, golden["nsd"], **close)
    for key, value in found.row().items():
        assert value == pytest.approx(float(golden[key.lower()]), abs=1e-12)
    assert found.seconds_allowed == int(golden["runtime_upperbound"])


def test_no_millimetres_for_microscopy_unless_official(tmp_path):
    more = {"modality": "Microscopy"}
    data = write_folder(tmp_path / "data", [("a", "set", cubes(), more)])
    right = run(data, tmp_path / "corrected", Painter(), rules="corrected")
    official = run(data, tmp_path / "official", Painter())
    values = [[r[3] for r in s["table"]["rows"] if r[0] == "Microscopy"] for s in (right, official)]
    assert math.isnan(values[0][0])
    assert values[1] == [4]
    written = json.loads((tmp_path / "corrected" / "summary.json").read_text())
    assert written["table"]["rows"][2][3] is None


def test_what_is_refused(data, tmp_path):
    with pytest.raises(InputError, match="rules is 'mine'"):
        Contest(rules="mine")
    with pytest.raises(InputError, match="workers is 0"):
        Contest(workers=0)
    with pytest.raises(InputError, match=r"data set nothing; it has the data sets set\."):
        chosen_cases(data, "val", ("nothing",), None)
    with pytest.raises(InputError, match="other splits"):
        chosen_cases(data, "test", (), None)
    with pytest.raises(InputError, match="empty"):
        command_answer(" ")


def test_few_cases_are_spread_over_a_data_set(tmp_path):
    names = [f"c{k}" for k in range(6)]
    data = write_folder(tmp_path / "data", [(n, "set", None, {}) for n in names])
    few = chosen_cases(data, "val", (), 3)
    assert [place for place, _ in few] == [0, 2, 4]
    assert len(chosen_cases(data, "val", (), 99)) == 6


def test_a_file_written_again_within_a_tick_is_an_answer(data, tmp_path):
    """What counts is that a file was written, not that it differs."""

    class Stopped(Painter):
        def write(self, path, segs, step):
            aside = path.with_suffix(".part.npz")
            np.savez(aside, segs=segs)
            os.utime(aside, ns=(0, 0))
            aside.replace(path)

    summary = run(data, tmp_path / "out", Stopped())
    assert summary["faults"] == []
