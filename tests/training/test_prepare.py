"""`prepare`: NIfTI, NRRD and DICOM in, a training folder out; bad files named, never fatal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from typer.testing import CliRunner

from segvol_gru.data.dataset import load_case, read_manifest
from segvol_gru.data.io import read_volume
from segvol_gru.data.prepare import PrepareOptions, prepare, split_subjects
from segvol_gru.data.prepare_pairs import find_pairs
from segvol_gru.data.prepare_report import CaseFacts, Report, write_report
from segvol_gru.errors import InputError
from segvol_gru.interfaces.cli import app

AFFINE = np.diag([0.5, 0.75, 2.0, 1.0])
MR = PrepareOptions("mine", modality="MR")


def anatomy(seed: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """An image and its labels in file order (x, y, z): 12 x 10 x 8."""
    labels = np.zeros((12, 10, 8), np.uint8)
    labels[2:7, 2:7, 1:6] = 1  # 125 voxels
    labels[8:11, 2:5, 2:4] = 7  # 18 voxels: too small to train on
    noise = np.random.default_rng(seed).integers(0, 300, labels.shape)
    return (labels * 200 + noise).astype(np.int16), labels


def write_nifti(root: Path, names: str) -> Path:
    """`imagesTr/NAME_0000.nii.gz` and `labelsTr/NAME.nii.gz`."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        image, labels = anatomy(seed)
        nib.save(nib.Nifti1Image(image, AFFINE), root / "imagesTr" / f"{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(labels, AFFINE), root / "labelsTr" / f"{name}.nii.gz")
    return root


def run(root: Path, out: Path, options: PrepareOptions = MR) -> Report:
    images, masks = root / "imagesTr" / "*_0000.nii.gz", root / "labelsTr" / "*.nii.gz"
    return prepare(images, masks, out, options)


def test_nifti_becomes_cases_that_load(tmp_path: Path) -> None:
    run(write_nifti(tmp_path / "raw", "abcde"), tmp_path / "out")
    rows = read_manifest(tmp_path / "out")
    assert [row.subject for row in rows] == list("abcde")
    assert sorted(row.split for row in rows) == ["train"] * 4 + ["val"]
    loaded = load_case(rows[0])
    _, labels = anatomy(0)
    assert np.array_equal(loaded.labels, labels.T)  # (D, H, W)
    assert loaded.spacing_mm == pytest.approx((2.0, 0.75, 0.5))
    assert (loaded.image.dtype, loaded.image.min(), loaded.image.max()) == (np.uint8, 0, 255)
    assert list(loaded.tasks) == [1]


def test_intensities_are_those_of_preprocess(tmp_path: Path) -> None:
    """CT in the window asked for: -160 HU is 0, 240 HU is 255."""
    root = write_nifti(tmp_path / "raw", "a")
    image = np.linspace(-1000, 1000, 960).reshape(12, 10, 8).astype(np.int16)
    nib.save(nib.Nifti1Image(image, AFFINE), root / "imagesTr" / "a_0000.nii.gz")
    run(root, tmp_path / "out", PrepareOptions("ct", modality="CT", window="soft-tissue", val=0))
    found = load_case(read_manifest(tmp_path / "out")[0]).image
    wanted = np.clip((image.T.astype(float) + 160) / 400 * 255, 0, 255)
    np.testing.assert_allclose(found, np.rint(wanted), atol=1)


def test_bad_files_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    root = write_nifti(tmp_path / "raw", "abcdefg")
    _, labels = anatomy(0)
    (root / "imagesTr" / "b_0000.nii.gz").write_bytes(b"no image")
    nib.save(nib.Nifti1Image(labels * 0, AFFINE), root / "labelsTr" / "c.nii.gz")
    nib.save(nib.Nifti1Image(labels[1:], AFFINE), root / "labelsTr" / "d.nii.gz")
    (root / "labelsTr" / "e.nii.gz").unlink()
    (root / "imagesTr" / "f_0000.nii.gz").unlink()
    report = run(root, tmp_path / "out")
    assert [row.subject for row in read_manifest(tmp_path / "out")] == ["a", "g"]
    assert sorted(report.faults) == list("bcdef")
    said = report.path.read_text()
    for name, words in zip(
        "bcdef", ("b_0000", "empty", "shape", "no mask", "no image"), strict=True
    ):
        assert words in report.faults[name]
        assert f"- `{name}`: " in said


def test_the_report_tells_splits_structures_and_grids(tmp_path: Path) -> None:
    report = run(write_nifti(tmp_path / "raw", "abcd"), tmp_path / "out")
    said = report.path.read_text()
    assert "4 cases of 4 subjects can be used, 0 cannot." in said
    assert "| train | 3 | 3 | 3 |" in said
    assert "| val | 1 | 1 | 1 |" in said
    assert "| 1 | 4 | 0.0938 | 0.0938 | 0.0938 |" in said  # 125 voxels of 0.75 mm3, in ml
    assert "| voxels | 8 x 10 x 12 | 8 x 10 x 12 | 8 x 10 x 12 |" in said
    assert "too small to train on (labels 7)" in said
    assert "MR by percentile: 4" in said


def test_a_subject_is_never_divided(tmp_path: Path) -> None:
    root = write_nifti(tmp_path / "raw", "abc")
    for name in "abc":
        for kind in ("imagesTr", "labelsTr"):
            old = next((root / kind).glob(f"{name}*"))
            old.rename(old.with_name(old.name.replace(name, f"{name}-1", 1)))
    write_nifti(root, "abc")
    options = PrepareOptions("mine", modality="MR", subject="([a-z])", val=0.34)
    run(root, tmp_path / "out", options)
    splits: dict[str, set[str]] = {}
    for row in read_manifest(tmp_path / "out"):
        splits.setdefault(row.subject, set()).add(row.split)
    assert splits.keys() == {"a", "b", "c"}
    assert all(len(found) == 1 for found in splits.values())


def facts(name: str, subject: str, digest: str) -> CaseFacts:
    grid = ((4, 4, 4), (1.0, 1.0, 1.0))
    return CaseFacts(name, f"{name}.npz", "MR", subject, "none", *grid, {1: 64}, digest)


def test_the_same_image_under_two_names_is_not_divided() -> None:
    cases = [facts(f"{i}{twin}", f"{i}{twin}", str(i)) for i in range(20) for twin in "xy"]
    splits = split_subjects(cases, MR, {})
    assert all(splits[f"{i}x"] == splits[f"{i}y"] for i in range(20))
    assert sorted(splits.values()).count("val") == 8


def test_subjects_that_share_an_image_are_one() -> None:
    cases = [facts("a1", "A", "x"), facts("b1", "B", "x"), facts("b2", "B", "y")]
    cases += [facts(f"c{i}", f"C{i}", f"c{i}") for i in range(5)]
    for seed in range(50):
        splits = split_subjects(cases, replace(MR, seed=seed), {})
        assert splits["a1"] == splits["b1"] == splits["b2"]


@pytest.mark.parametrize(
    ("known", "split"),
    [
        ({"V": "val"}, "val"),
        ({"A": "train"}, "train"),
        ({"A": "train", "V": "val"}, "neither"),
        ({"A": "val", "V": "val", "other": "train"}, "val"),
    ],
)
def test_who_shares_an_image_with_a_known_subject_has_its_split(
    known: dict[str, str], split: str
) -> None:
    cases = [
        facts("a", "A", "x"),
        facts("n", "N", "x"),
        facts("n2", "N", "y"),
        facts("v", "V", "y"),
    ]
    assert split_subjects(cases, MR, known) == dict.fromkeys(("a", "n", "n2", "v"), split)


def test_masks_of_one_image_do_not_make_it_two(tmp_path: Path) -> None:
    """A window chosen by the mask gives one CT other grey values under each of them."""
    noise = np.random.default_rng(0).normal(40, 20, (40, 40, 20))
    noise[5:20, 5:20, 5:15] -= 840
    for name, place in (("lung", slice(5, 20)), ("soft", slice(25, 35))):
        mask = np.zeros(noise.shape, np.uint8)
        mask[place, place, 5:15] = 1
        for folder, array in (("images", noise.astype(np.int16)), ("labels", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / folder / f"{name}.nii")
    options = PrepareOptions("ct", modality="CT", val=0.5)
    report = prepare(tmp_path / "images", tmp_path / "labels", tmp_path / "out", options)
    assert {case.window for case in report.cases} == {"lung", "soft-tissue"}
    assert len(set(report.splits.values())) == 1
    assert report.notes == ["`soft` shows the same image as `lung`: one split."]


def test_who_belongs_to_several_splits_is_named(tmp_path: Path) -> None:
    cases = [facts("a", "A", "x"), facts("v", "V", "x")]
    splits = split_subjects(cases, MR, {"A": "train", "V": "val"})
    notes = write_report(tmp_path / "report.md", cases, splits, {}).notes
    assert [note for note in notes if "not used" in note] == [
        f"`{name}` is not used: its subject or image lies in several splits of this folder."
        for name in "av"
    ]


def test_subjects_of_other_data_sets_keep_their_split(tmp_path: Path) -> None:
    root, out = write_nifti(tmp_path / "raw", "abcdefgh"), tmp_path / "out"
    run(root, out)
    run(root, out, PrepareOptions("again", modality="PET", seed=9, val=0.5))
    rows = read_manifest(out)
    first, second = (
        {r.subject: r.split for r in rows if r.dataset == d} for d in ("mine", "again")
    )
    assert first == second
    assert json.loads((out / "datasets.json").read_text()).keys() == {"MR_mine", "PET_again"}
    with pytest.raises(InputError, match="holds mine already"):
        run(root, out)


def test_one_subject_is_all_for_training(tmp_path: Path) -> None:
    run(write_nifti(tmp_path / "raw", "a"), tmp_path / "out")
    assert [row.split for row in read_manifest(tmp_path / "out")] == ["train"]


def test_folders_nrrd_and_dicom_are_read(tmp_path: Path) -> None:
    """Images as NRRD in a plain folder; the other as a folder of DICOM slices that says CT."""
    image, labels = anatomy(1)
    for kind in ("nrrd", "masks", "dicom/one"):
        (tmp_path / kind).mkdir(parents=True)
    for array, path in ((image, "nrrd/one.nrrd"), (labels, "masks/one.nrrd")):
        picture = sitk.GetImageFromArray(array.T)
        picture.SetSpacing((0.5, 0.75, 2.0))
        sitk.WriteImage(picture, tmp_path / path)
    report = prepare(tmp_path / "nrrd", tmp_path / "masks", tmp_path / "a", MR)
    assert [case.name for case in report.cases] == ["one"]
    write_dicom(image.T, tmp_path / "dicom" / "one")
    report = prepare(
        tmp_path / "dicom",
        tmp_path / "masks",
        tmp_path / "b",
        PrepareOptions("d", window="soft-tissue"),
    )
    assert [(case.modality, case.window) for case in report.cases] == [("CT", "soft-tissue")]
    found = [load_case(read_manifest(tmp_path / name)[0]).labels for name in "ab"]
    assert np.array_equal(*found)


def write_dicom(array: NDArray[np.int16], folder: Path) -> None:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, plane in enumerate(array):
        slice_ = sitk.GetImageFromArray(plane[None])
        slice_.SetSpacing((0.5, 0.75, 2.0))
        slice_.SetOrigin((0.0, 0.0, 2.0 * number))
        tags = {
            "0008|0060": "CT",
            "0008|0018": f"1.2.3.{number + 1}",
            "0020|000e": "1.2.3",
            "0020|000d": "1.2",
            "0020|0013": str(number + 1),
            "0020|0032": f"0\\0\\{2.0 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0018|0050": "2.0",
        }
        for tag, value in tags.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{number:03d}.dcm"))
        writer.Execute(slice_)


def test_patterns_name_the_case_by_their_star(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        (tmp_path / name).mkdir()
        for file in ("ct.nrrd", "seg.nrrd"):
            (tmp_path / name / file).touch()
    (tmp_path / "p3").mkdir()
    (tmp_path / "p3" / "ct.nrrd").touch()
    pairs, faults = find_pairs(tmp_path / "*" / "ct.nrrd", tmp_path / "*" / "seg.nrrd")
    assert {k: v[1].parent.name for k, v in pairs.items()} == {"p1": "p1", "p2": "p2"}
    assert list(faults) == ["p3"]


@pytest.mark.parametrize(
    ("images", "words"),
    [("*/*.nii", "one \\*"), ("none", "no folder"), ("*.mha", "nothing at")],
)
def test_places_without_images_are_refused(tmp_path: Path, images: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_pairs(tmp_path / images, tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("dataset", "a b"), ("val", 1.0), ("subject", "abc"), ("subject", "(")]
)
def test_impossible_options_are_refused(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        PrepareOptions(**{"dataset": "a", name: value})  # type: ignore[arg-type]


def test_a_folder_of_nothing_but_bad_files_is_refused(tmp_path: Path) -> None:
    root = write_nifti(tmp_path / "raw", "a")
    (root / "imagesTr" / "a_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="none of 1 cases"):
        run(root, tmp_path / "out")
    with pytest.raises(InputError, match="does not say its modality"):
        run(write_nifti(tmp_path / "more", "a"), tmp_path / "out", PrepareOptions("x"))


def test_the_command_prepares_and_names_what_it_left(tmp_path: Path) -> None:
    root = write_nifti(tmp_path / "raw", "abc")
    (root / "labelsTr" / "b.nii.gz").unlink()
    arguments = ["prepare", "--images", str(root / "imagesTr" / "*_0000.nii.gz")]
    arguments += ["--masks", str(root / "labelsTr" / "*.nii.gz"), "--out", str(tmp_path / "out")]
    arguments += ["--dataset", "mine", "--modality", "MR"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert "2 cases (1 train, 1 val), 1 not used" in done.stdout
    assert "not used: b: " in done.stderr


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz", "b.nii"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match="both the case a"):
        find_pairs(tmp_path, tmp_path)


def test_a_prepared_case_is_read_as_its_image(tmp_path: Path) -> None:
    """As one file, too, where others of the same keys have their spacing the other way round."""
    run(write_nifti(tmp_path / "raw", "ab"), tmp_path / "out")
    (case, _) = read_manifest(tmp_path / "out")
    moved = case.file.rename(tmp_path / case.file.name)
    assert read_volume(moved).spacing_mm == pytest.approx((2.0, 0.75, 0.5))


def test_a_case_of_another_data_set_is_not_written_over(tmp_path: Path) -> None:
    first = tmp_path / "first"
    for kind in ("imagesTr", "labelsTr"):
        (first / kind).mkdir(parents=True)
    write_nifti(tmp_path / "raw", "ab")
    for path in (tmp_path / "raw").glob("*/*.gz"):
        (first / path.parent.name / f"b_{path.name}").write_bytes(path.read_bytes())
    out = tmp_path / "out"
    run(first, out, replace(MR, dataset="site"))  # site with the cases b_a and b_b
    before = {path.name: path.read_bytes() for path in (out / "cases").iterdir()}
    said = run(write_nifti(tmp_path / "more", "abc"), out, replace(MR, dataset="site_b"))
    after = {path.name: path.read_bytes() for path in (out / "cases").iterdir()}
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["MR_site_b_c.npz"]
    assert sorted(said.faults) == ["a", "b"]
    assert "is of another data set" in said.faults["a"]


def test_a_licence_class_is_one_of_three() -> None:
    with pytest.raises(InputError, match="'opne', wanted open, research, own"):
        PrepareOptions("mine", licence_class="opne")
