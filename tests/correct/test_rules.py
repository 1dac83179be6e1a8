"""Every click is obeyed, and what is already right stays as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segvol_gru.correct.rules import (
    LIKE_MEAN,
    LIKE_RANK,
    MARGIN,
    NEAR_CELLS,
    REACH_CELLS,
    obey,
    spoken_for,
)
from segvol_gru.likeness import see

SIDE = 20
FAR = 9  # at this many cells a bump has fallen below 1e-7 of its height


def at_click(logits, point):
    """The logit at a point between cells, the grid's border repeated beyond it."""
    grid = logits.reshape(SIDE, SIDE, SIDE).double().numpy()
    places = np.array(point, dtype=np.float64)[:, None]
    return float(ndimage.map_coordinates(grid, places, order=1, mode="nearest")[0])


def weight(at, point):
    squared = sum((a - b) ** 2 for a, b in zip(at, point, strict=True))
    return math.exp(-squared / (2 * REACH_CELLS**2))


def test_bump_by_hand(prompts):
    logits = torch.full((1, 1, SIDE, SIDE, SIDE), -3.0)
    out = obey(logits, prompts([((10, 10, 10), 1)]))[0, 0]
    lift = 3 + MARGIN
    assert float(out[10, 10, 10]) == pytest.approx(MARGIN)
    for at in ((10, 10, 11), (10, 9, 12), (0, 0, 0)):
        assert float(out[at]) == pytest.approx(-3 + lift * weight(at, (10, 10, 10)))
    lowered = obey(-logits, prompts([((10, 10, 10), 0)]))[0, 0]
    assert torch.equal(lowered, -out)


def test_bump_between_cells_by_hand(prompts):
    logits = torch.zeros(1, 1, SIDE, SIDE, SIDE)
    out = obey(logits, prompts([((10, 10, 10.5), 1)]))[0, 0]
    assert float(out[10, 10, 10]) == float(out[10, 10, 11]) == pytest.approx(MARGIN)
    assert float(out[10, 10, 12]) == pytest.approx(weight((1.5,), (0,)) / weight((0.5,), (0,)))


@st.composite
def situations(draw, step=4):
    """Logits and clicks; clicks of opposite labels lie out of each other's reach."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.5, 4.0]))
    logits = scale * torch.randn(1, 1, SIDE, SIDE, SIDE, generator=generator)
    place = st.integers(0, step * (SIDE - 1)).map(lambda n: n / step)
    click = st.tuples(st.tuples(place, place, place), st.sampled_from([-1, 0, 1]))
    clicks = []
    for at, label in draw(st.lists(click, max_size=5)):
        rivals = [p for p, other in clicks if {label, other} == {0, 1}]
        if all(math.dist(at, p) >= FAR for p in rivals):
            clicks.append((at, label))
    return logits, clicks


@given(situations())
@settings(max_examples=100, deadline=None)
def test_every_click_is_obeyed(prompts, situation):
    logits, clicks = situation
    before = logits.clone()
    out = obey(logits, prompts(clicks))
    assert torch.equal(logits, before)
    for at, label in clicks:
        if label >= 0:
            assert (1 if label else -1) * at_click(out, at) >= MARGIN - 1e-4


@given(situations(step=1))
@settings(max_examples=100, deadline=None)
def test_satisfied_clicks_change_nothing(prompts, situation):
    logits, clicks = situation
    for (z, y, x), label in clicks:
        if label >= 0:
            logits[0, 0, int(z), int(y), int(x)] = MARGIN if label else -MARGIN
    assert torch.equal(obey(logits, prompts(clicks)), logits)


@given(st.lists(st.tuples(*[st.floats(0, SIDE - 1)] * 3, st.booleans()), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_the_newest_click_is_obeyed_whatever_came_before(prompts, clicks):
    asked = prompts([((z, y, x), int(positive)) for z, y, x, positive in clicks])
    out = obey(torch.zeros(1, 1, SIDE, SIDE, SIDE), asked)
    *at, positive = clicks[-1]
    assert (1 if positive else -1) * at_click(out, at) >= MARGIN - 1e-3


def test_items_and_padding_are_kept_apart(prompts):
    logits = torch.full((2, 1, SIDE, SIDE, SIDE), -3.0)
    out = obey(logits, prompts([((10, 10, 10), 1)], [((10, 10, 10), -1)]))
    assert not torch.equal(out[0], logits[0])
    assert torch.equal(out[1], logits[1])


def test_clicks_beyond_the_grid_act_on_its_border(prompts):
    logits = torch.full((1, 1, SIDE, SIDE, SIDE), -3.0)
    out = obey(logits, prompts([((-2, 5.4, SIDE + 3), 1)]))
    assert at_click(out, (0, 5.4, SIDE - 1)) == pytest.approx(MARGIN, abs=1e-5)


def test_neighbours_of_opposite_labels_are_both_obeyed(prompts):
    logits = torch.full((1, 1, SIDE, SIDE, SIDE), -4.0)
    logits[..., 11:] = 4.0  # an edge in the wrong place: + on its dark side, - on its bright one
    out = obey(logits, prompts([((10, 10, 10), 1), ((10, 10, 11), 0)]))[0, 0]
    assert out[10, 10, 10] > 0 > out[10, 10, 11]


def test_who_may_take_something_away(prompts):
    seen = see(torch.zeros(1, 1, 32, 32, 32))._replace(
        means=torch.full((1, 1, 32, 32, 32), 9.0), ranked=torch.ones(1, 1, 32, 32, 32)
    )
    seen.means[0, 0, 0, 0, :], seen.ranked[0, 0, 0, 0, :] = 0.0, 0.0
    seen.means[0, 0, 31, 31, 31] = 2 * LIKE_MEAN
    seen.ranked[0, 0, 31, 31, 30] = 2 * LIKE_RANK
    reach = spoken_for(seen, prompts([((5, 5, 5), 1), ((0, 0, 0), 0)]))[0, 0]
    assert reach[0, 0, 31] == 1  # looks the same
    assert reach[8, 8, 8] == 1  # is near: 2 exp(-192 / 288) > 1
    assert float(reach[12, 20, 0]) == pytest.approx(2 * math.exp(-544 / (2 * NEAR_CELLS**2)))
    assert float(reach[31, 31, 31]) == pytest.approx(2 * math.exp(-2))
    assert float(reach[31, 31, 30]) == pytest.approx(2 * math.exp(-2))


def test_only_the_newest_click_bounds_and_only_if_negative(prompts):
    seen = see(torch.randn(3, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1)))
    clicks = prompts(
        [((1, 1, 1), 0), ((5, 5, 5), 1)],
        [((1, 1, 1), 0), ((5, 5, 5), -1)],
        [((1, 1, 1), -1), ((5, 5, 5), -1)],
    )
    free, bound, none = spoken_for(seen, clicks)
    assert (free == 1).all()
    assert (none == 1).all()
    assert bound.min() < 1
    assert bound[0, 1, 1, 1] == 1
