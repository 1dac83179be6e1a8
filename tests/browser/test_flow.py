"""What a user does from the file to the mask, and that the mask is the one Python computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from surfer import Surfer

from segvol_gru.data.io import read_mask, read_volume
from segvol_gru.prompts import Box, Click
from segvol_gru.session.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MIDDLE, RADIUS_MM = (20, 30, 16), 11.0
SPACING_MM = (1.0, 1.0, 1.5)


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    """A bright ball in noise, uneven voxels; beside it the ball itself as a mask."""
    x, y, z = np.ogrid[:48, :56, :40]
    offsets = (np.array(at - m) * s for at, m, s in zip((x, y, z), MIDDLE, SPACING_MM, strict=True))
    inside = sum(offset**2 for offset in offsets) < RADIUS_MM**2
    noise = np.random.default_rng(0).normal(100, 10, inside.shape)
    affine = np.diag([*SPACING_MM, 1.0])
    nib.save(
        nib.Nifti1Image((noise + 120 * inside).astype(np.int16), affine), tmp_path / "ball.nii.gz"
    )
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), affine), tmp_path / "truth.nii.gz")
    return tmp_path / "ball.nii.gz"


def computed(path: Path, history: list[dict[str, Any]]) -> NDArray[np.bool_]:
    """The mask of the same prompts in this process."""
    with Session(read_volume(path), device="cpu") as session:
        for entry in history:
            if entry["kind"] == "box":
                prompt = Box(tuple(entry["lo"]), tuple(entry["hi"]), tuple(entry["tight"]))
                mask = session.prompt(prompt)
            else:
                mask = session.prompt(Click(tuple(entry["at"]), entry["positive"]))
    return mask


def test_from_a_file_to_a_mask_and_back_after_a_reload(
    surfer: Surfer, ball: Path, tmp_path: Path
) -> None:
    page = surfer.page
    surfer.open(ball)
    assert page.inner_text("#history").strip() == "0. Empty"

    # The ball in the coronal plane, which is in the upper left.
    spot = min(surfer.spots(150, 400), key=lambda s: s.x + s.y)
    surfer.drag((spot.left - 2, spot.top - 2), (spot.right + 2, spot.bottom + 2))
    surfer.steps(2)
    box = surfer.session()["history"][0]
    for axis, middle, reach in ((0, 16, 11 / 1.5), (2, 20, 11)):
        assert abs(box["lo"][axis] - (middle - reach)) <= 2
        assert abs(box["hi"][axis] - (middle + reach)) <= 2
    assert box["lo"][1] <= 28 <= box["hi"][1]
    assert page.input_value("#lo-z") == str(box["lo"][0])
    assert page.get_attribute("#tool-click", "aria-pressed") == "true"

    places = [(0, 0), (-0.6, 0.2), (0.5, -0.5), (1.6, 0), (0.1, 1.7)]
    for number, (right, down) in enumerate(places):
        x = spot.x + right * (spot.right - spot.left) / 2
        y = spot.y + down * (spot.bottom - spot.top) / 2
        surfer.click(x, y, "left" if number < 3 else "right")
        surfer.steps(3 + number)
    known = surfer.session()
    assert [entry["kind"] for entry in known["history"]] == ["box", *["click"] * 5]
    assert [entry["positive"] for entry in known["history"][1:]] == [True] * 3 + [False] * 2
    expected = computed(ball, known["history"])

    page.keyboard.press("Control+z")
    page.locator("#history button.undone").wait_for()
    assert surfer.session()["cursor"] == 5
    page.click("#redo")
    page.locator("#history button.undone").wait_for(state="detached")
    assert surfer.session()["cursor"] == 6
    page.click("#history li:nth-child(3) button")  # step 2
    page.locator("#history li:nth-child(3) button[aria-current=true]").wait_for()
    assert surfer.session()["cursor"] == 2
    page.click("#history li:nth-child(7) button")
    page.locator("#history li:nth-child(7) button[aria-current=true]").wait_for()

    page.reload()
    surfer.steps(7)
    assert surfer.session() == known
    surfer.expect("#title", "ball.nii.gz")

    for kind in ("nii.gz", "nrrd"):
        path = surfer.download("mask", kind, tmp_path)
        assert path.name == f"ball-mask.{kind}"
        np.testing.assert_array_equal(read_mask(path, read_volume(ball)) > 0, expected)
    assert expected.sum() > 1000


def test_numbers_reference_heat_and_objects(surfer: Surfer, ball: Path, tmp_path: Path) -> None:
    page = surfer.page
    surfer.open(ball)
    page.set_input_files("#reference", str(tmp_path / "truth.nii.gz"))
    surfer.expect("#score-words", "DSC 0.000 at step 0")
    for field, value in (("lo", (9, 19, 9)), ("hi", (23, 41, 31))):
        for axis, number in zip("zyx", value, strict=True):
            page.fill(f"#{field}-{axis}", str(number))
    page.click("#box-go")
    surfer.expect("#score-words", "at step 1")
    box = surfer.session()["history"][0]
    assert (box["lo"], box["hi"]) == ([9, 19, 9], [23, 41, 31])
    assert float(page.inner_text("#score-words").split()[1]) > 0.7

    surfer.rest()
    before = surfer.screen().astype(int)
    page.keyboard.press("h")
    page.locator("#heat:checked").wait_for()
    surfer.rest()
    changed = np.abs(surfer.screen().astype(int) - before).max(axis=2) > 20
    assert changed.sum() > 100
    page.keyboard.press("h")
    page.locator("#heat:not(:checked)").wait_for()

    page.click("#suggest")
    surfer.expect("#words", "Is voxel")
    page.keyboard.press("a")  # the crosshair is there now
    surfer.steps(3)
    said = page.inner_text("#history li:nth-child(3)")
    assert "Add at" in said
    assert page.locator("#curve circle").count() == 3

    page.keyboard.press("n")
    page.locator("#objects li:nth-child(2)").wait_for()
    surfer.steps(1)
    page.fill("#objects li:nth-child(2) input[type=text]", "vessel")
    page.keyboard.press("Tab")
    surfer.rest()
    known = surfer.session()
    assert ([o["name"] for o in known["objects"]], known["current"]) == (
        ["object 1", "vessel"],
        "vessel",
    )
    surfer.page.locator("#marks").focus()
    page.keyboard.press("c")
    page.keyboard.press("a")
    surfer.steps(2)
    labels = read_mask(surfer.download("labels", "nii.gz", tmp_path))
    assert set(np.unique(labels)) <= {0, 1, 2}
    page.keyboard.press("[")
    surfer.steps(3)
    assert surfer.session()["current"] == "object 1"


def test_keys_help_refusals_and_cancel(surfer: Surfer, ball: Path, tmp_path: Path) -> None:
    page = surfer.page
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    page.set_input_files("#file", str(broken))
    surfer.expect("#words.bad", "upload.nii.gz")
    page.set_input_files("#file", {"name": "a.dcm", "mimeType": "", "buffer": b"x"})
    surfer.expect("#words.bad", "can be opened here")

    page.keyboard.press("?")
    page.locator("#help[open]").wait_for()
    for line in ("undo", "suggested next click", "remove here"):
        assert line in page.inner_text("#help")
    page.keyboard.press("Escape")
    page.locator("#help:not([open])").wait_for(state="attached")

    dropped = page.evaluate_handle(
        """bytes => { const carried = new DataTransfer();
        carried.items.add(new File([Uint8Array.from(bytes)], "dropped.nii.gz"));
        return carried; }""",
        list(ball.read_bytes()),
    )
    page.dispatch_event("#stage", "drop", {"dataTransfer": dropped})
    surfer.expect("#title", "dropped.nii.gz")
    surfer.rest()
    page.keyboard.press("b")
    assert page.get_attribute("#tool-box", "aria-pressed") == "true"
    page.keyboard.press("c")
    assert page.get_attribute("#tool-click", "aria-pressed") == "true"
    page.keyboard.press("2")
    assert page.input_value("#layout") == "axial"
    page.keyboard.press("1")
    page.select_option("#window", "CT bone")
    assert page.input_value("#window-lo") == "-500"

    # The server has the prompt, its answer does not come: cancelled, it is taken back.
    page.route("**/click", lambda route: route.fetch())
    page.keyboard.press("a")
    while surfer.session()["cursor"] == 0:
        page.wait_for_timeout(200)
    page.click("#cancel")
    surfer.expect("#words", "Cancelled")
    page.unroute_all(behavior="ignoreErrors")
    surfer.steps(2)
    assert surfer.session()["cursor"] == 0

    page.click("#end")
    page.click("#end")
    page.locator("body[data-case=no]").wait_for()
    page.locator("#demo").wait_for()
