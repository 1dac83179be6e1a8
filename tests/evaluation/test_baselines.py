"""Brush, box and the classical algorithms on structures that a human can check."""

from __future__ import annotations

import numpy as np
import pytest

from segvol_gru.evaluation.baselines import BASELINES, Brush, Seeded
from segvol_gru.evaluation.foreign import FOREIGN, foreign_mask, otsu
from segvol_gru.evaluation.metrics import dice
from segvol_gru.prompts import Box, Click
from segvol_gru.simulate import next_click, tight_box

SPACING = (2.0, 1.0, 1.0)
SHAPE = (20, 40, 40)


def ball(centre, radius_mm, shape=SHAPE):
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    d, h, w = SPACING
    return (d * (z - centre[0])) ** 2 + (h * (y - centre[1])) ** 2 + (
        w * (x - centre[2])
    ) ** 2 <= radius_mm**2


TRUTH = ball((10, 20, 20), 9.0)
IMAGE = np.where(TRUTH, 150, 50).astype(np.uint8) + np.random.default_rng(0).integers(
    0, 20, SHAPE, dtype=np.uint8
)


def test_a_filled_box_is_the_box_and_stays():
    tool = BASELINES["box"]()
    mask = tool.start(IMAGE, SPACING, Box((1, 2, 3), (4, 5, 6)), None, "MR")
    assert mask.sum() == 64
    assert mask[1:5, 2:6, 3:7].all()
    assert np.array_equal(tool.click(Click((10, 10, 10), True)), mask)


def test_a_stroke_reaches_half_as_far_again_as_the_border():
    brush = Brush()
    brush.adopt(IMAGE, SPACING, TRUTH, "MR")
    after = brush.click(Click((10, 20, 24), False))
    # The nearest voxel outside is (10, 21, 29), one and five millimetres away.
    assert np.array_equal(TRUTH & ~after, TRUTH & ball((10, 20, 24), 1.5 * 26**0.5))
    grown = brush.click(Click((10, 20, 35), True))
    assert grown[10, 20, 35]
    assert not after[10, 20, 35]
    assert grown.sum() > after.sum()


def test_a_first_stroke_has_five_millimetres():
    mask = Brush().start(IMAGE, SPACING, None, Click((10, 20, 20), True), "MR")
    assert np.array_equal(mask, ball((10, 20, 20), 5.0))


@pytest.mark.parametrize("name", ["random-walker", "geodesic", "region-growing"])
def test_algorithms_find_a_bright_ball(name):
    tool = BASELINES[name]()
    mask = tool.start(IMAGE, SPACING, tight_box(TRUTH), None, "MR")
    assert mask.dtype == bool
    assert dice(TRUTH, mask) > 0.9
    mask = BASELINES[name]().start(IMAGE, SPACING, None, Click((10, 20, 20), True), "MR")
    assert dice(TRUTH, mask) > 0.9


@pytest.mark.parametrize("name", ["random-walker", "geodesic", "region-growing"])
def test_a_click_is_obeyed(name):
    tool = BASELINES[name]()
    tool.start(IMAGE, SPACING, tight_box(TRUTH), None, "MR")
    for at, positive in (((10, 20, 12), False), ((3, 36, 36), True), ((3, 36, 36), False)):
        assert tool.click(Click(at, positive))[at] == positive


@pytest.mark.parametrize("name", ["random-walker", "geodesic", "region-growing"])
def test_a_box_around_everything(name):
    whole = Box((0, 0, 0), tuple(n - 1 for n in SHAPE))
    mask = BASELINES[name]().start(IMAGE, SPACING, whole, None, "MR")
    assert mask[10, 20, 20]


def test_large_windows_are_looked_at_in_steps():
    seen = []

    def note(scene):
        seen.append(scene)
        return scene.positive

    mask = Seeded(note, most_cells=10).start(
        IMAGE, SPACING, Box((5, 5, 5), (14, 34, 34)), None, "MR"
    )
    assert max(seen[0].image.shape) <= 10
    assert seen[0].spacing_mm == (4.0, 4.0, 4.0)
    assert mask.shape == SHAPE
    assert mask[10, 20, 20]
    assert not mask[:, :4].any()


def test_a_negative_first_click_finds_nothing():
    for name in ("random-walker", "geodesic", "region-growing", "brush"):
        assert (
            not BASELINES[name]().start(IMAGE, SPACING, None, Click((1, 1, 1), False), "MR").any()
        )


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_foreign_masks_are_near_but_not_right(kind):
    mask = foreign_mask(kind, IMAGE, SPACING, TRUTH, tight_box(TRUTH))
    assert 0.7 < dice(TRUTH, mask) <= 1
    assert next_click(TRUTH, mask) is not None or kind != "low-resolution"


def test_a_tool_that_finds_nothing_leaves_the_box(monkeypatch):
    monkeypatch.setitem(FOREIGN, "threshold", lambda image, mm, gt, box: np.zeros_like(gt))
    mask = foreign_mask("threshold", IMAGE, SPACING, TRUTH, Box((1, 1, 1), (2, 2, 2)))
    assert mask.sum() == 8


def test_low_resolution_by_hand():
    gt = np.zeros((1, 16, 16), bool)
    gt[0, :, 0:3] = True
    gt[0, 0, 3] = True  # blocks of 2: the second column of blocks is half full
    mask = foreign_mask("low-resolution", gt.astype(np.uint8), (1, 1, 1), gt, tight_box(gt))
    assert mask[0].all(axis=0).tolist() == [True] * 4 + [False] * 12


def test_otsu_parts_two_greys():
    assert otsu(np.array([10] * 5 + [200] * 3, np.uint8)) in range(10, 200)
