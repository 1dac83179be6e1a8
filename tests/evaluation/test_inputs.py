"""Data folders of other makes: NIfTI pairs and competition files, whole and broken."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from folders import SHAPE, FillBox, cube, two_cubes

from segvol_gru.errors import InputError
from segvol_gru.evaluation.inputs import find_cases, load
from segvol_gru.evaluation.protocol import evaluate
from segvol_gru.evaluation.records import read_records
from segvol_gru.evaluation.tasks import Options

BOX = {
    "z_min": 0,
    "z_max": 4,
    "z_mid": 2,
    "z_mid_x_min": 0,
    "z_mid_y_min": 1,
    "z_mid_x_max": 6,
    "z_mid_y_max": 5,
}


def nifti(path, array):
    path.parent.mkdir(exist_ok=True)
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def test_pairs_of_nifti_files(tmp_path):
    truth = two_cubes()
    raw = np.random.default_rng(0).integers(-1000, 800, SHAPE).astype(np.int16)
    nifti(tmp_path / "images" / "CT_a.nii.gz", raw)
    nifti(tmp_path / "labels" / "CT_a.nii.gz", truth)
    nifti(tmp_path / "images" / "b_0000.nii", raw)
    nifti(tmp_path / "labels" / "b.nii.gz", truth)
    nifti(tmp_path / "images" / "lonely.nii.gz", raw)
    (tmp_path / "images" / "torn.nii.gz").write_bytes(b"torn")
    (tmp_path / "images" / "notes.txt").write_text("not a case")
    cases = find_cases(tmp_path, "val")
    assert [c.file.name for c in cases] == [
        *("CT_a.nii.gz", "b_0000.nii", "lonely.nii.gz", "torn.nii.gz")
    ]
    assert [c.modality for c in cases] == ["CT", "", "", ""]
    first = load(cases[0])
    assert np.array_equal(first.labels, truth)
    assert first.spacing_mm == pytest.approx((2.0, 1.5, 1.0))
    assert first.image.dtype == np.uint8
    assert sorted(first.tasks) == [1, 2]
    summary = evaluate(tmp_path, FillBox, tmp_path / "out", Options(start="tight"))
    assert [e["case"] for e in summary["errors"]] == ["lonely.nii", "torn.nii"]
    assert summary["datasets"][tmp_path.name]["n"] == 4


def competition(path, gts=None, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full(SHAPE, 7, np.uint8)
    content = {"imgs": image, "spacing": np.array([1.0, 1.5, 2.0]), **more}
    np.savez(path, **content, **({} if gts is None else {"gts": gts}))


def test_competition_files_with_their_own_boxes(tmp_path):
    boxes = np.array([BOX, BOX], dtype=object)
    competition(tmp_path / "CT_set_1.npz", two_cubes(), boxes=boxes)
    competition(tmp_path / "MR_set_2.npz", cube((0, 0, 0), (5, 5, 5)))
    competition(tmp_path / "MR_set_3.npz")
    (tmp_path / "PET_x_4.npz").write_bytes(b"nothing")
    segmenter = FillBox()
    summary = evaluate(tmp_path, lambda: segmenter, tmp_path / "out", Options(start="challenge"))
    assert {(e["case"], e["label"]) for e in summary["errors"]} == {
        ("MR_set_3", 0),
        ("PET_x_4", 0),
    }
    records = read_records(tmp_path / "out")
    assert {r.dataset for r in records if r.label} == {"CT_set", "MR_set"}
    assert records[0].box == ((0, 1, 0), (4, 5, 6))
    assert records[0].spacing == (2.0, 1.5, 1.0)
    assert segmenter.calls[0][2] == "CT"


def test_labels_in_a_folder_of_their_own(tmp_path):
    competition(tmp_path / "3D_val_npz" / "US_set_1.npz")
    competition(tmp_path / "3D_val_npz" / "US_set_2.npz")
    (tmp_path / "3D_val_gt").mkdir()
    np.savez(tmp_path / "3D_val_gt" / "US_set_1.npz", gts=two_cubes())
    np.savez(tmp_path / "3D_val_gt" / "US_set_2.npz", gts=two_cubes()[1:])
    summary = evaluate(tmp_path, FillBox, tmp_path / "out", Options(start="tight"))
    (error,) = summary["errors"]
    assert error["case"] == "US_set_2"
    assert "(9, 12, 14)" in error["error"]
    assert summary["datasets"]["US_set"]["n"] == 2


def test_files_of_one_name_are_refused(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        competition(tmp_path / folder / "CT_s_1.npz", two_cubes())
    with pytest.raises(InputError, match=r"CT_s_1\.npz have one name"):
        find_cases(tmp_path, "val")


def test_an_unknown_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="competition"):
        find_cases(tmp_path, "val")
