"""What looks alike: maps by hand."""

from __future__ import annotations

import math

import pytest
import torch

from segvol_gru.likeness import (
    JOINED_CELLS,
    alike_maps,
    box_likeness,
    joined,
    part_likeness,
    ranks,
    see,
)


def test_what_looks_like_a_click_is_shown_wherever_it_is() -> None:
    """Three slabs of the intensities 0, 2 and 0.3."""
    image = torch.zeros(1, 1, 12, 4, 4)
    image[:, :, 4:8], image[:, :, 8:] = 2.0, 0.3
    points = torch.tensor([[[1.0, 1.0, 1.0], [40.0, 9.0, -3.0]]])  # the second: beyond the region
    one = alike_maps(image, points, torch.tensor([[True, False]]), 0.3)[0, 0, :, 2, 2]
    assert one[1] == 1
    assert one[6] < 1e-9
    assert torch.isclose(one[10], torch.tensor(-0.5).exp())
    both = alike_maps(image, points, torch.tensor([[True, True]]), 0.3)[0, 0, :, 2, 2]
    assert both[10] == 1
    assert not alike_maps(image, points, torch.tensor([[False, False]]), 0.3).any()


def test_ranks_are_the_share_of_darker_cells() -> None:
    """A quarter of the cells at -5, a half at 0, a quarter at 100: ties count by half."""
    image = torch.zeros(1, 1, 8, 2, 2)
    image[:, :, :2], image[:, :, 6:] = -5.0, 100.0
    expected = [0.125] * 2 + [0.5] * 4 + [0.875] * 2
    assert ranks(image)[0, 0, :, 0, 1].tolist() == expected
    assert ranks(3 * image + 7)[0, 0, :, 0, 1].tolist() == expected
    assert ranks(torch.full_like(image, 4.0)).unique().tolist() == [0.5]


def test_box_likeness_compares_inside_with_outside() -> None:
    """Half the cells are bright, all of them in the box, with as many dark ones beside them."""
    ranked = torch.full((1, 1, 16, 2, 2), 0.2)
    ranked[:, :, :4] = 0.8
    inside = torch.zeros_like(ranked)
    inside[:, :, :8] = 1.0
    likeness = box_likeness(ranked, inside)[0, 0, :, 0, 0]
    # Inside 16 of 32 cells are bright, outside 0 of 32, and each of 64 bins has one more.
    bright, dark = ((16 + 1) / 96) / (1 / 96), ((16 + 1) / 96) / ((32 + 1) / 96)
    assert float(likeness[0]) == pytest.approx(math.tanh(math.log(bright) / 2))
    assert float(likeness[15]) == pytest.approx(math.tanh(math.log(dark) / 2))
    assert not box_likeness(ranked, torch.zeros_like(ranked)).any()


def test_part_likeness_learns_the_looks_of_the_part() -> None:
    """The part is the bright half of one half: bright is likely wherever it is, dark is not."""
    image = torch.zeros(1, 1, 12, 12, 12)
    image[..., 6:] = 1.0
    p_part = torch.zeros_like(image)
    p_part[:, :, :6, :, 7:] = 1.0
    likeness = part_likeness(see(image), p_part)[0, 0]
    assert likeness[2, 6, 10] > 0.4
    assert torch.equal(likeness[2, 6, 10], likeness[10, 6, 10])
    assert likeness[2, 6, 1] < -0.5
    assert torch.allclose(part_likeness(see(3 * image + 7), p_part)[0, 0], likeness)


def test_part_likeness_of_a_constant_image_is_that_of_its_share() -> None:
    """All cells fall into one bin: the same share of either side, spread over 3 x 3 bins."""
    image = torch.full((1, 1, 10, 10, 10), 5.0)
    p_part = torch.zeros_like(image)
    p_part[:, :, :1] = 1.0
    prior = 0.5 * (18 * 18 + 4 * 18 * 6 / 9 + 4 * 4 / 9)  # what smoothing leaves of 20 x 20 bins
    here, there = ((n / 9 + 0.5) / (n + prior) for n in (100, 900))
    found = part_likeness(see(image), p_part)[0, 0].unique()
    assert found.tolist() == pytest.approx([math.tanh(math.log(here / there) / 2)], abs=1e-5)


def test_joined_is_the_weakest_link_of_the_best_path() -> None:
    """Two rooms of likeness 1 and 0.8, a door of 0.6 between them, and one room walled off."""
    alike = torch.zeros(1, 1, 4, 4, 40)
    alike[..., :10], alike[..., 10:12], alike[..., 12:20] = 1.0, 0.6, 0.8
    alike[..., 30:] = 1.0
    marks = torch.zeros_like(alike, dtype=torch.bool)
    marks[..., 2, 2, 3] = True
    line = joined(alike, marks)[0, 0, 2, 2]
    assert line[:10].tolist() == [1.0] * 10
    assert line[12:20].tolist() == pytest.approx([0.6] * 8)
    assert not line[20:].any()
    assert not joined(alike, torch.zeros_like(marks)).any()
    both = joined(torch.cat([alike, alike]), torch.cat([torch.zeros_like(marks), marks]))
    assert not both[0].any()
    assert torch.equal(both[1], joined(alike, marks)[0])


def test_joined_is_followed_a_certain_way_only() -> None:
    alike = torch.ones(1, 1, 2, 2, 2 * JOINED_CELLS)
    marks = torch.zeros_like(alike, dtype=torch.bool)
    marks[..., 0] = True
    line = joined(alike, marks)[0, 0, 0, 0]
    assert line[: JOINED_CELLS + 2].tolist() == [1.0] * (JOINED_CELLS + 2)
    assert not line[JOINED_CELLS + 2 :].any()
