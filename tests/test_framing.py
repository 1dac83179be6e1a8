"""Where to look: around a box, around a click, wider and closer."""

import torch

from segvol_gru.framing import (
    around_box,
    around_click,
    better_view,
    cut_off,
    grown,
    mask_bounds,
    widened,
)
from segvol_gru.prompts import Box
from segvol_gru.region import Region

SHAPE = (100, 100, 100)
ISO = (1.0, 1.0, 1.0)
MIDDLE = Region((30, 30, 30), (40, 40, 40))


def ball(side: int = 16, first: int = 5, last: int = 10) -> torch.Tensor:
    mask = torch.zeros(side, side, side, dtype=torch.bool)
    mask[first : last + 1, first : last + 1, first : last + 1] = True
    return mask


def test_a_guessed_side_gets_more_room_than_a_tight_one() -> None:
    box = Box((40, 40, 40), (59, 59, 59), (True, False, False))
    region = around_box(box, SHAPE, ISO)
    assert region.size == (28, 40, 40)
    assert region.lo == (36, 30, 30)


def test_a_flat_box_is_given_depth_in_millimetres() -> None:
    """20 x 20 voxels of 1 mm on one slice of 5 mm: at least 0.4 of 28 mm, which is 3 slices."""
    region = around_box(Box((50, 40, 40), (50, 59, 59)), SHAPE, (5.0, 1.0, 1.0))
    assert region.size == (7, 28, 28)  # three slices of room on either side
    assert around_box(Box((50, 40, 40), (50, 59, 59)), SHAPE, ISO).size == (12, 28, 28)


def test_a_region_never_leaves_the_volume() -> None:
    region = around_box(Box((0, 0, 0), (9, 99, 5)), SHAPE, ISO)
    assert region.lo == (0, 0, 0)
    assert region.hi[1] == 100


def test_a_click_alone_is_looked_at_in_forty_fine_voxels() -> None:
    region = around_click((50, 50, 50), SHAPE, (2.0, 1.0, 1.0))
    assert region.lo[1] <= 30
    assert region.hi[1] >= 70
    assert region.size[0] < region.size[1]


def test_a_mask_on_an_open_face_is_cut_off_but_not_at_the_volumes_end() -> None:
    mask = torch.zeros(16, 16, 16, dtype=torch.bool)
    mask[0, :4, :4] = True
    assert cut_off(mask, MIDDLE, SHAPE)
    assert not cut_off(mask, Region((0, 30, 30), (40, 40, 40)), SHAPE)


def test_bounds_are_in_voxels() -> None:
    low, high = mask_bounds(ball(16, 4, 7), Region((10, 20, 30), (16, 32, 8)))
    assert low == [14, 28, 32]
    assert high == [17, 35, 33]
    assert mask_bounds(torch.zeros(4, 4, 4, dtype=torch.bool), MIDDLE) is None


def test_the_search_widens_closes_in_and_stays() -> None:
    fits = ball()
    assert better_view(fits, MIDDLE, SHAPE, ISO) == MIDDLE
    empty = torch.zeros(16, 16, 16, dtype=torch.bool)
    assert better_view(empty, MIDDLE, SHAPE, ISO) == MIDDLE
    wide = better_view(ball(16, 0, 15), MIDDLE, SHAPE, ISO)
    assert all(a > b for a, b in zip(wide.size, MIDDLE.size, strict=True))
    close = better_view(ball(16, 7, 8), MIDDLE, SHAPE, ISO)
    assert all(a < b for a, b in zip(close.size, MIDDLE.size, strict=True))


def test_a_click_inside_keeps_the_region_and_one_outside_widens_it() -> None:
    assert widened(MIDDLE, ball(), (50, 50, 50), SHAPE, ISO) == MIDDLE
    wider = widened(MIDDLE, ball(), (90, 50, 50), SHAPE, ISO)
    assert wider.union(MIDDLE) == wider
    assert wider.lo[0] <= 30
    assert wider.hi[0] > 90


def test_only_guessed_sides_grow_to_a_voxel_beyond_them() -> None:
    box = Box((40, 40, 40), (59, 59, 59), (True, False, False))
    assert grown(box, (50, 41, 59)) == box
    assert grown(box, (70, 30, 75)) == Box((40, 30, 40), (59, 59, 75), (True, False, False))
    tight = Box((40, 40, 40), (59, 59, 59))
    assert grown(tight, (70, 30, 75)) == tight
