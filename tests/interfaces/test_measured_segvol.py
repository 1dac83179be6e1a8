"""SegVol under the protocol: asked once per image, again per click, or corrected by ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segvol_gru.base.segvol import SegVolConfig, random_segvol
from segvol_gru.base.weights import save_segvol
from segvol_gru.interfaces.measured import SessionSegmenter
from segvol_gru.interfaces.measured_segvol import SegVolSegmenter
from segvol_gru.prompts import Box, Click

SPACING = (2.0, 1.0, 1.0)
BOX = Box((3, 5, 5), (12, 20, 22))
CLICK = Click((4, 6, 7), True)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    sizes = {"width": 16, "image": (8, 16, 16), "patch": (2, 4, 4), "iou_hidden": 8}
    sizes |= {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in HALF.items()}
    path = tmp_path / "segvol.safetensors"
    config = SegVolConfig(**sizes)
    save_segvol(path, random_segvol(config, torch.Generator().manual_seed(3)), "test")
    return path


HALF = {"layers": 1, "heads": 2, "hidden": 16}


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (16, 26, 28), dtype=np.uint8)


def test_the_first_mask_is_handed_to_our_corrector(
    weights: Path, tiny_model: Path, image: np.ndarray
) -> None:
    alone = SegVolSegmenter(weights, str(tiny_model), "none", "cpu")
    first = alone.start(image, SPACING, BOX, None, "MR")
    assert np.array_equal(alone.click(CLICK), first)
    both = SegVolSegmenter(weights, str(tiny_model), "field", "cpu")
    assert np.array_equal(both.start(image, SPACING, BOX, None, "MR"), first)
    ours = SessionSegmenter(str(tiny_model), "field", "cpu")
    ours.adopt(image, SPACING, first, "MR")
    assert np.array_equal(both.click(CLICK), ours.click(CLICK))


def test_asked_again_with_every_click(weights: Path, tiny_model: Path, image: np.ndarray) -> None:
    again = SegVolSegmenter(weights, str(tiny_model), "reprompt", "cpu")
    masks = [again.start(image, SPACING, BOX, None, "MR"), again.click(CLICK)]
    assert not np.array_equal(*masks)
    other = SegVolSegmenter(weights, str(tiny_model), "reprompt", "cpu")
    other.start(image[::-1].copy(), SPACING, BOX, None, "MR")  # another image in between
    assert np.array_equal(other.start(image, SPACING, BOX, None, "MR"), masks[0])


def test_where_segvol_finds_nothing_a_click_begins(
    weights: Path, tiny_model: Path, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = SegVolSegmenter(weights, str(tiny_model), "field", "cpu")
    monkeypatch.setattr(both, "_ask", lambda: np.zeros(image.shape, bool))
    assert not both.start(image, SPACING, BOX, None, "MR").any()
    ours = SessionSegmenter(str(tiny_model), "field", "cpu")
    assert np.array_equal(both.click(CLICK), ours.start(image, SPACING, None, CLICK, "MR"))
