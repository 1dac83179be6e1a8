"""Our networks as the protocol drives them: correctors, ablations, masks of other tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segvol_gru.interfaces.measured import SessionSegmenter
from segvol_gru.prompts import Box, Click

SPACING = (2.0, 1.0, 1.0)
BOX = Box((3, 5, 5), (12, 20, 22))
CLICKS = (
    Click((4, 6, 7), True),
    Click((11, 19, 20), False),
    Click((7, 12, 12), True),
    Click((8, 9, 18), False),
)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (16, 26, 28), dtype=np.uint8)


def masks(segmenter: SessionSegmenter, image: np.ndarray) -> list[np.ndarray]:
    first = segmenter.start(image, SPACING, BOX, None, "MR")
    return [first, *(segmenter.click(click) for click in CLICKS)]


def test_without_a_corrector_the_first_mask_stays(tiny_model: Path, image: np.ndarray) -> None:
    plain = masks(SessionSegmenter(str(tiny_model), "reprompt", "cpu"), image)
    frozen = masks(SessionSegmenter(str(tiny_model), "none", "cpu"), image)
    assert all(np.array_equal(mask, plain[0]) for mask in frozen)


def test_shuffling_needs_two_earlier_clicks(tiny_model: Path, image: np.ndarray) -> None:
    plain = masks(SessionSegmenter(str(tiny_model), "field", "cpu"), image)
    mixed = masks(SessionSegmenter(str(tiny_model), "field", "cpu", shuffle=True), image)
    again = masks(SessionSegmenter(str(tiny_model), "field", "cpu", shuffle=True), image)
    assert all(np.array_equal(a, b) for a, b in zip(plain[:3], mixed[:3], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(plain[3:], mixed[3:], strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(mixed, again, strict=True))


def test_a_mask_of_another_tool_is_gone_on_with(tiny_model: Path, image: np.ndarray) -> None:
    given = np.zeros(image.shape, bool)
    given[4:9, 6:15, 7:18] = True
    segmenter = SessionSegmenter(str(tiny_model), "field", "cpu", shuffle=True)
    assert np.array_equal(segmenter.adopt(image, SPACING, given, ""), given)
    for click in CLICKS:
        assert segmenter.click(click)[click.at] == click.positive
