"""Eq. 5 in the right frame and unit: which cells change, to what, and with what gradient."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segvol_gru.correct.write_back import EDGE_PROB, replace

SHAPE = (2, 1, 4, 5, 6)


def still(coordinates):
    return torch.zeros(coordinates.shape)


def write(z_logit, coordinates, p_prob, valid=None, offset=None):
    """`replace` for one item and plain lists."""
    at = torch.tensor([coordinates])
    ok = torch.ones(at.shape[:2], dtype=torch.bool) if valid is None else torch.tensor([valid])
    moved = still(at) if offset is None else torch.tensor([offset])
    return replace(z_logit, at, torch.tensor([p_prob]), ok, moved)


def test_adds_and_removes_by_hand():
    z_logit = torch.tensor([-2.0, 3.0, -1.0]).view(1, 1, 1, 1, 3)
    out = write(z_logit, [[0, 0, 0], [0, 0, 1]], [0.9, 0.2])
    assert out.flatten().tolist() == pytest.approx([math.log(9), math.log(0.25), -1.0])
    assert (out > 0).flatten().tolist() == [True, False, False]  # the mask before: F T F


def test_certain_answers_stay_finite():
    out = write(torch.zeros(1, 1, 1, 1, 2), [[0, 0, 0], [0, 0, 1]], [0.0, 1.0])
    limit = math.log((1 - EDGE_PROB) / EDGE_PROB)
    assert out.flatten().tolist() == pytest.approx([-limit, limit], rel=1e-4)


def test_points_on_one_cell_share_it():
    z_logit = torch.zeros(1, 1, 1, 1, 4)
    p = torch.tensor([0.9, 0.9, 0.2]).requires_grad_()
    at = torch.tensor([[[0, 0, 2]] * 3])
    out = replace(z_logit, at, p[None], torch.ones(1, 3, dtype=torch.bool), still(at))
    assert float(out[..., 2].detach()) == pytest.approx((2 * math.log(9) - math.log(4)) / 3)
    out.sum().backward()
    assert p.grad.tolist() == pytest.approx([1 / (3 * 0.09), 1 / (3 * 0.09), 1 / (3 * 0.16)])


def test_offsets_round_to_cells_and_stop_at_the_border():
    z_logit = torch.zeros(1, 1, 1, 1, 6)
    coordinates = [[0, 0, 0], [0, 0, 2], [0, 0, 5]]
    offset = [[0.0, -3.0, -1.4], [0.4, 0.0, 0.8], [0.0, 0.0, 9.0]]
    out = write(z_logit, coordinates, [0.9, 0.8, 0.7], offset=offset)
    assert out.flatten().nonzero().flatten().tolist() == [0, 3, 5]
    assert out.flatten()[[0, 3, 5]].sigmoid().tolist() == pytest.approx([0.9, 0.8, 0.7])


@st.composite
def writes(draw):
    """Arguments of `replace` on two small grids."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    count = draw(st.integers(0, 20))

    def uniform(*shape):
        return torch.rand(*shape, generator=generator)

    z_logit = 8 * uniform(*SHAPE) - 4
    coordinates = (uniform(2, count, 3) * torch.tensor(SHAPE[2:])).long()
    valid = uniform(2, count) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    offset = draw(st.sampled_from([0.0, 2.0])) * (2 * uniform(2, count, 3) - 1)
    return z_logit, coordinates, uniform(2, count), valid, offset


@given(writes(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_exactly_the_asked_cells_are_written(arguments, train):
    z_logit, coordinates, p_prob, valid, offset = arguments
    before = z_logit.clone()
    out = replace(z_logit, coordinates, p_prob, valid, offset.requires_grad_(train))
    assert torch.equal(z_logit, before)
    wanted = {}
    for b in range(2):
        for n in range(p_prob.shape[1]):
            if valid[b, n]:
                place = (coordinates[b, n] + offset[b, n]).round().long().tolist()
                cell = tuple(min(max(c, 0), s - 1) for c, s in zip(place, SHAPE[2:], strict=True))
                p = min(max(float(p_prob[b, n]), EDGE_PROB), 1 - EDGE_PROB)
                wanted.setdefault((b, 0, *cell), []).append(math.log(p / (1 - p)))
    for cell, values in wanted.items():
        assert float(out[cell].detach()) == pytest.approx(sum(values) / len(values), abs=1e-4)
        before[cell] = out[cell]
    assert torch.equal(out, before)  # every other cell, to the last bit


@given(writes())
@settings(max_examples=50, deadline=None)
def test_order_of_the_points_does_not_matter(arguments):
    z_logit, coordinates, p_prob, valid, offset = arguments
    out = replace(z_logit, coordinates, p_prob, valid, offset)
    turned = (t.flip(1) for t in (coordinates, p_prob, valid, offset))
    torch.testing.assert_close(replace(z_logit, *turned), out)


def test_probability_gradient_is_exact():
    generator = torch.Generator().manual_seed(0)
    z_logit = torch.randn(1, 1, 3, 3, 3, generator=generator, dtype=torch.float64)
    coordinates = torch.randint(0, 3, (1, 9, 3), generator=generator)  # some coincide
    p_prob = 0.1 + 0.8 * torch.rand(1, 9, generator=generator, dtype=torch.float64)
    valid = torch.arange(9)[None] < 7
    torch.autograd.gradcheck(
        lambda z, p: replace(z, coordinates, p, valid, still(coordinates)),
        (z_logit.requires_grad_(), p_prob.requires_grad_()),
    )


def offset_gradient(slopes, z_logit, others=(), fraction=0.0):
    """Gradient of one point (0.9 at the middle of a row of 5) where the loss has these slopes."""
    offset = torch.zeros(1, 1 + len(others), 3)
    offset[0, 0, 2] = fraction
    offset.requires_grad_()
    at = torch.tensor([[[2, 2, x] for x in (2, *others)]])
    p, valid = torch.full(at.shape[:2], 0.9), torch.ones(at.shape[:2], dtype=torch.bool)
    out = replace(z_logit.expand(1, 1, 5, 5, 5).contiguous(), at, p, valid, offset)
    (torch.tensor(slopes).expand(1, 1, 5, 5, 5) * out).sum().backward()
    return offset.grad[0, 0].tolist()


@pytest.mark.parametrize("fraction", [0.0, 0.3, -0.45])
def test_offset_gradient_by_hand(fraction):
    # The loss wants background at cell 1, foreground at 2 and 3; mean slope 2. The point would
    # lift each cell from p = 0.5 to 0.9. B-spline derivatives: -(0.5 - f), -2 f, 0.5 + f.
    gradient = offset_gradient([0.0, 1.0, -2.0, -3.0, 0.0], torch.zeros(1), fraction=fraction)
    slope = 2 * 0.4 * (-(0.5 - fraction) + 2 * fraction - (0.5 + fraction))
    assert gradient == pytest.approx([0.0, 0.0, slope], abs=1e-6)


def test_a_point_does_not_leave_a_cell_for_an_equal_one():
    # All wrong cells alike, though the loss has become flat at the one that is written.
    steep = [-5.0, -5.0, -0.1, -5.0, -5.0]
    for fraction in (0.0, 0.3):
        gradient = offset_gradient(steep, torch.full((1,), -4.0), fraction=fraction)
        assert gradient == pytest.approx([0, 0, 0], abs=1e-5)


def test_a_cell_that_another_point_wrote_does_not_attract():
    wanted = [1.0, 1.0, -1.0, -1.0, 1.0]
    z_logit = torch.full((1,), -4.0)
    assert offset_gradient(wanted, z_logit)[2] < offset_gradient(wanted, z_logit, (3,))[2] < 0


def test_a_point_leaves_a_shared_cell_more_easily():
    wanted, z_logit = [1.0, 1.0, -1.0, -1.0, 1.0], torch.full((1,), -4.0)
    alone = offset_gradient(wanted, z_logit, fraction=0.3)[2]
    assert offset_gradient(wanted, z_logit, (2,), fraction=0.3)[2] < alone < 0


def test_padding_gets_no_gradient():
    offset = torch.zeros(1, 2, 3, requires_grad=True)
    p_prob = torch.full((1, 2), 0.7, requires_grad=True)
    valid = torch.tensor([[True, False]])
    z_logit = torch.randn(1, 1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    out = replace(z_logit, torch.ones(1, 2, 3, dtype=torch.int64), p_prob, valid, offset)
    (out**2).sum().backward()
    assert p_prob.grad[0, 0] != 0
    assert p_prob.grad[0, 1] == 0
    assert offset.grad[0, 0].abs().sum() > 0
    assert offset.grad[0, 1].abs().sum() == 0


def test_descent_moves_a_point_to_the_cell_that_needs_it():
    target = torch.zeros(1, 1, 1, 1, 7)
    target[..., 4] = 1
    z_logit = torch.full_like(target, -3.0)
    offset = torch.zeros(1, 1, 3, requires_grad=True)
    at, valid = torch.tensor([[[0, 0, 3]]]), torch.ones(1, 1, dtype=torch.bool)
    losses = []
    for _ in range(20):
        out = replace(z_logit, at, torch.tensor([[0.95]]), valid, offset)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(out, target)
        (gradient,) = torch.autograd.grad(loss, offset)
        with torch.no_grad():
            offset -= 3 * gradient
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 3
    assert float((offset.detach() + at)[..., 2].round()) == 4
