"""U and E against hand-derived sets and against Algorithm 1 written as loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segvol_gru.correct.sampling import (
    PER_BLOCK,
    REACH_CELLS,
    TAU,
    fitting_radius,
    sample_paper,
    sample_stratified,
)


def seeded(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def points_of(candidates, item, which):
    """Coordinates of the valid points, in order."""
    chosen = candidates.valid[item, which]
    return [tuple(c) for c in candidates.coordinates[item, which][chosen].tolist()]


def algorithm_1(logits, clicks, radius):
    """Lines 1-11, literally: U with its key and E, for one (D, H, W) item."""
    uncertain, wrong = [], set()
    p_prob = logits.sigmoid()
    for at in itertools.product(*(range(n) for n in logits.shape)):
        p = float(p_prob[at])
        if TAU < p < 1 - TAU:
            uncertain.append((abs(p - 0.5), at))
        for point, label in clicks:
            near = math.dist(at, point) <= radius
            if label >= 0 and near and (float(logits[at]) > 0) != (label == 1):
                wrong.add(at)
    return uncertain, wrong


@st.composite
def situations(draw):
    """Logits of one item, its clicks (some are padding), a radius and k."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(shape, generator=generator) * draw(st.sampled_from([0.5, 3.0, 20.0]))
    # Half cells keep squared distances exact; clicks may lie outside.
    half = st.integers(-4, 14).map(lambda n: n / 2)
    click = st.tuples(st.tuples(half, half, half), st.sampled_from([-1, 0, 1]))
    clicks = draw(st.lists(click, max_size=4))
    return logits, clicks, draw(st.sampled_from([0.5, 1.0, 2.0, 3.5])), draw(st.integers(1, 40))


@given(situations(), st.integers(0, 2**31))
@settings(max_examples=150, deadline=None)
def test_paper_sets_equal_algorithm_1(prompts, situation, seed):
    logits, clicks, radius, k = situation
    found = sample_paper(logits[None, None], prompts(clicks), k, radius, seeded(seed))
    uncertain, wrong = algorithm_1(logits, clicks, radius)
    assert points_of(found, 0, 0) == [at for _, at in sorted(uncertain)[:k]]
    drawn = points_of(found, 0, 1)
    assert len(drawn) == len(set(drawn)) == min(k, len(wrong))
    assert set(drawn) <= wrong


@given(situations(), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_values_describe_the_points(prompts, situation, seed):
    logits, clicks, radius, k = situation
    found = sample_paper(logits[None, None], prompts(clicks), k, radius, seeded(seed))
    z, y, x = found.coordinates[0].unbind(-1)
    valid = found.valid[0]
    assert found.coordinates.dtype == found.label.dtype == torch.int64
    assert torch.equal(found.p_prob[0][valid], logits.sigmoid()[z, y, x][valid])
    assert not found.p_prob[0][~valid].any()
    assert not found.coordinates[0][~valid].any()
    assert not (~valid[:, :-1] & valid[:, 1:]).any()  # padding fills the end
    predicted = (logits > 0).long()[z, y, x]
    assert (found.label[0, 0] == -1).all()
    assert torch.equal(found.label[0, 1][valid[1]], 1 - predicted[1][valid[1]])
    assert (found.label[0, 1][~valid[1]] == -1).all()


@given(situations(), st.integers(0, 2**31))
@settings(max_examples=100, deadline=None)
def test_stratified_points_are_distinct_members(prompts, situation, seed):
    logits, clicks, _, k = situation
    found = sample_stratified(logits[None, None], prompts(clicks), k, seeded(seed))
    uncertain, _ = algorithm_1(logits, [], 0)
    _, wrong = algorithm_1(logits, clicks, REACH_CELLS[1])
    chosen = points_of(found, 0, 0)
    assert len(chosen) == len(set(chosen)) == min(k, len(uncertain))
    assert set(chosen) <= {at for _, at in uncertain}
    assert set(points_of(found, 0, 1)) <= wrong


def line(*p):
    """Logits of a row of cells with these probabilities, (1, 1, 1, 1, n)."""
    return torch.tensor(p).logit().view(1, 1, 1, 1, -1)


def test_uncertain_cells_by_hand(prompts):
    logits = line(0.05, 0.3, 0.5, 0.6, 0.95, 0.1, 0.9)
    two = sample_paper(logits, prompts([]), 2, 1.0, seeded(0))
    assert points_of(two, 0, 0) == [(0, 0, 2), (0, 0, 3)]
    four = sample_paper(logits, prompts([]), 4, 1.0, seeded(0))
    assert points_of(four, 0, 0) == [(0, 0, 2), (0, 0, 3), (0, 0, 1)]
    assert four.valid[0].tolist() == [[True, True, True, False], [False] * 4]
    assert four.p_prob[0, 0].tolist() == pytest.approx([0.5, 0.6, 0.3, 0.0])


def test_ties_follow_memory_order(prompts):
    logits = torch.zeros(1, 1, 4, 4, 4)
    found = sample_paper(logits, prompts([]), 6, 1.0, seeded(0))
    assert points_of(found, 0, 0) == [
        (0, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
        (0, 0, 3),
        (0, 1, 0),
        (0, 1, 1),
    ]


def test_error_cells_by_hand(prompts):
    # mask: . . # # # . .   click + at 0 (r = 2: cells 0, 1), click - at 4 (cells 2, 3, 4)
    logits = line(0.01, 0.01, 0.99, 0.99, 0.99, 0.01, 0.01)
    clicks = [((0, 0, 0), 1), ((0, 0, 4), 0), ((0, 0, 6), -1)]
    found = sample_paper(logits, prompts(clicks), 9, 2.0, seeded(0))
    assert points_of(found, 0, 1) == [(0, 0, x) for x in (0, 4, 1, 3, 2)]  # nearest first
    assert found.label[0, 1].tolist() == [1, 0, 1, 0, 0, -1, -1, -1, -1]


def test_draw_depends_on_the_generator_alone(prompts):
    logits = torch.full((2, 1, 9, 9, 9), -5.0)
    clicks = [((4, 4, 4), 1)]
    both = sample_paper(logits, prompts(clicks, clicks), 10, 4.0, seeded(1, 2))
    alone = sample_paper(logits[1:], prompts(clicks), 10, 4.0, seeded(2))
    assert points_of(both, 1, 1) == points_of(alone, 0, 1)
    assert points_of(both, 0, 1) != points_of(both, 1, 1)


def test_error_cells_at_one_distance_follow_memory_order(prompts):
    logits = torch.full((1, 1, 5, 5, 5), -5.0)
    found = points_of(sample_paper(logits, prompts([((2, 2, 2), 1)]), 20, 2.0, seeded(0)), 0, 1)
    assert found == sorted(found, key=lambda at: (math.dist(at, (2, 2, 2)), at))


def test_every_error_cell_can_be_drawn(prompts):
    logits = torch.full((1, 1, 3, 3, 3), -5.0)
    seen = set()
    for seed in range(60):
        found = sample_paper(logits, prompts([((1, 1, 1), 1)]), 2, 1.0, seeded(seed))
        seen |= set(points_of(found, 0, 1))
    assert len(seen) == 7  # the centre and its six neighbours


def test_blocks_take_turns(prompts):
    # Two blocks of 8 cells: the first certain to 0.5, the second less so.
    logits = line(*[0.5] * 8, *[0.4] * 8)
    found = sample_stratified(logits, prompts([]), 2 * PER_BLOCK, seeded(0))
    assert [x // 8 for _, _, x in points_of(found, 0, 0)] == [0] * PER_BLOCK + [1] * PER_BLOCK
    rest = sample_stratified(logits, prompts([]), 16, seeded(0))
    assert sorted(points_of(rest, 0, 0)) == [(0, 0, x) for x in range(16)]


def test_spread_prefers_cells_near_a_click(prompts):
    logits = line(*[0.4] * 64)
    found = sample_stratified(logits, prompts([((0, 0, 60), 1)]), PER_BLOCK, seeded(0))
    assert sorted(x for _, _, x in points_of(found, 0, 0)) == [58, 59, 60, 61]


def test_radius_fits_the_distance_to_the_border():
    predicted = torch.zeros(24, 24, 24, dtype=torch.bool)
    predicted[10:] = True
    assert fitting_radius(predicted, (6, 12, 12)) == pytest.approx(1.5 * 4)
    assert fitting_radius(predicted, (12, 12, 12)) == pytest.approx(1.5 * 3)  # cell 9 is outside
    assert fitting_radius(predicted, (9, 12, 12)) == REACH_CELLS[0]
    assert fitting_radius(torch.zeros_like(predicted), (12, 12, 12)) == REACH_CELLS[1]
    assert fitting_radius(predicted, (99, 12, 12)) == REACH_CELLS[0]
