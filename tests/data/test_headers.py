"""Headers that a client sends: those of readers pass, others are refused in one sentence."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segvol_gru.data.headers import check_header
from segvol_gru.data.io import read_volume, write_mask
from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader, Grid

SHAPE = (5, 6, 7)
AFFINE = np.array([[0, 0.1, -0.8, 12], [0.2, 1.5, 0, -3], [2.5, 0, 0, 7], [0, 0, 0, 1.0]])
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_header_of_a_file_is_one_of_its_image(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image{ending}"
    write_mask(path, np.zeros(SHAPE, bool), Grid(SHAPE, AFFINE))
    grid = read_volume(path).grid
    assert grid.header is not None
    check_header(grid)
    check_header(Grid(SHAPE, AFFINE))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_header_of_another_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"image{ending}"
    write_mask(path, np.zeros(SHAPE, bool), Grid(SHAPE, AFFINE))
    shifted = AFFINE.copy()
    shifted[2, 3] += 1
    with pytest.raises(InputError, match="wanted that of its file"):
        check_header(Grid(SHAPE, shifted, read_volume(path).grid.header))


def test_a_series_has_the_header_of_its_frames(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((7, 6, 5, 3), np.int16), np.eye(4)), tmp_path / "s.nii")
    grid = read_volume(tmp_path / "s.nii", time=1).grid
    check_header(grid)
    with pytest.raises(InputError, match="wanted that of its file"):
        check_header(Grid((5, 6, 6), grid.affine, grid.header))


NRRD = {
    "space": "left-posterior-superior",
    "space directions": "(1,0,0) (0,1,0) (0,0,1)",
    "space origin": "(0,0,0)",
}
LPS = np.array([[0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


def nrrd(**fields: object) -> FileHeader:
    return FileHeader("nrrd", json.dumps({**NRRD, **fields}).encode())


def test_a_header_of_plain_lines_passes() -> None:
    check_header(Grid(SHAPE, LPS, nrrd()))


@pytest.mark.parametrize(
    "header",
    [
        nrrd(**{"data file": "/etc/passwd"}),
        nrrd(**{"space units": '"mm" "mm" "mm"\ndata file: /etc/passwd'}),
        nrrd(**{"space units": '"mm" "mm" "mm"\r\ndata file: /etc/passwd'}),
        nrrd(**{"space units": 5}),
        nrrd(**{"space units": "\ud800"}),
        nrrd(space="the moon"),
        nrrd(**{"space directions": "(1,0,0)"}),
        FileHeader("nrrd", b"[]"),
        FileHeader("nrrd", b"["),
        FileHeader("nrrd", b"[" * 50_000),
        FileHeader("nrrd", b"\xff"),
        FileHeader("itk", b""),
        FileHeader("itk", b"[1, 2]"),
        FileHeader("itk", b'["x", [1, 1, 1], [0, 0, 0]]'),
        FileHeader("itk", b"[[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [1, 1, 1], [0, 0, 0]]"),
        FileHeader("itk", b"[[1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 1, NaN], [0, 0, 0]]"),
        FileHeader("itk", b"[[0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1], [0, 0, 0]]"),
        FileHeader("nifti", b""),
        FileHeader("nifti", bytes(348)),
        FileHeader("nifti", struct.pack("<i", 348) + b"\xff" * 344),
        FileHeader("nifti", bytes(540)),
        FileHeader("dicom", b""),
    ],
)
def test_what_is_no_header_of_the_image_is_refused_in_one_sentence(header: FileHeader) -> None:
    with pytest.raises(InputError, match="wanted that of its file") as error:
        check_header(Grid(SHAPE, LPS, header))
    assert "/" not in str(error.value)
