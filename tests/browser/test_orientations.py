"""A click on the screen reaches the voxel that lies there, however the file's axes run.

Three cubes of different grey, each on one of the three planes that the page shows first; where
they are is read off the screenshot and compared with where they are in the file.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.eulerangles import euler2mat
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from surfer import Spot, Surfer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SHAPE = (31, 37, 29)  # to the right, front, head
SPACING_MM = (1.2, 0.9, 1.7)
HALF = 2
CUBES = {  # grey -> middle, RAS; each on one middle plane and on no other
    250: (6, 28, 14),  # axial
    200: (24, 18, 6),  # coronal
    150: (15, 8, 22),  # sagittal
}
TILT = euler2mat(0.2, 0.1, 0.3)


def phantom(code: str, oblique: bool, path: Path) -> dict[int, list[int]]:
    """Write the cubes with the file's axes along `code`; their middles (z, y, x) by grey."""
    array = np.zeros(SHAPE, np.int16)
    marks = np.zeros(SHAPE, np.int16)
    for grey, (i, j, k) in CUBES.items():
        array[tuple(slice(n - HALF, n + HALF + 1) for n in (i, j, k))] = grey
        marks[i, j, k] = grey
    array[0, 0, 0] = 255  # the brightest value, so that grey is grey
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (-20, -15, -25)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(code)))
    turned = affine @ inv_ornt_aff(turn, SHAPE)
    if oblique:
        turned[:3] = TILT @ turned[:3]
    image = nib.Nifti1Image(apply_orientation(array, turn), turned)
    nib.save(image, path)
    there = apply_orientation(marks, turn)
    return {grey: np.argwhere(there == grey)[0][::-1].tolist() for grey in CUBES}


def cubes(surfer: Surfer) -> dict[int, list[Spot]]:
    """The patches on the screen by the grey of their cube."""
    found: dict[int, list[Spot]] = {grey: [] for grey in CUBES}
    for spot in surfer.spots(least_grey=120, least_pixels=150):
        found[min(CUBES, key=lambda grey: abs(grey - spot.grey))].append(spot)
    return found


def readout(surfer: Surfer, spot: Spot) -> list[int]:
    surfer.page.mouse.move(spot.x, spot.y)
    words = surfer.page.inner_text("#place")
    return [int(n) for n in words.split("value")[0].partition(")")[2].split(",")]


@pytest.mark.parametrize(
    ("code", "oblique"),
    [
        ("RAS", False),
        ("LPS", False),
        ("PIR", False),
        ("ASL", False),
        ("SRP", True),
        ("LIP", True),
    ],
)
def test_the_voxel_under_the_mouse_is_the_intended_one(
    surfer: Surfer, tmp_path: Path, code: str, oblique: bool
) -> None:
    middles = phantom(code, oblique, tmp_path / "cubes.nii.gz")
    surfer.open(tmp_path / "cubes.nii.gz")
    surfer.page.select_option("#window", "all values")
    surfer.page.keyboard.press("m")  # masks would tint the cubes
    surfer.rest()
    seen = cubes(surfer)
    assert {grey: len(spots) for grey, spots in seen.items()} == dict.fromkeys(CUBES, 1)
    for grey, (spot,) in seen.items():
        assert readout(surfer, spot) == middles[grey]
    # The first cube is on the patient's left, the second on the right; seen from the feet.
    assert seen[250][0].x > seen[200][0].x

    surfer.page.click("#tool-click")
    surfer.click(seen[250][0].x, seen[250][0].y)
    surfer.steps(2)
    assert surfer.session()["history"][-1]["at"] == middles[250]
    # The crosshair went along, so all planes show that cube now.
    spots = cubes(surfer)[250]
    assert len(spots) == 3
    for number, (spot, button) in enumerate(zip(spots, ("right", "left", "right"), strict=True)):
        surfer.click(spot.x, spot.y, button)
        surfer.steps(3 + number)
        last = surfer.session()["history"][-1]
        assert (last["at"], last["positive"]) == (middles[250], button == "left")


def test_a_viewer_may_put_the_left_on_the_left(surfer: Surfer, tmp_path: Path) -> None:
    middles = phantom("LPS", False, tmp_path / "cubes.nii.gz")
    surfer.open(tmp_path / "cubes.nii.gz")
    surfer.page.select_option("#window", "all values")
    surfer.page.uncheck("#radiological")
    surfer.rest()
    seen = cubes(surfer)
    assert seen[250][0].x < seen[200][0].x
    for grey, (spot,) in seen.items():
        assert readout(surfer, spot) == middles[grey]
