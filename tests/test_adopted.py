"""Masks of other tools: which come in blocks, and what the base may say within them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segvol_gru.adopted import blocks, decided, is_coarse
from segvol_gru.pipeline import Model, refine, second_opinion, start_from_logits
from segvol_gru.prompts import Click
from segvol_gru.region import Field, Region
from segvol_gru.scan import Scan
from segvol_gru.state import SURE, TAKEN, State, canvas

SIDE = 24
WHOLE = Region((0, 0, 0), (SIDE, SIDE, SIDE))


def ball(centre: float, radius: float, side: int = SIDE) -> Tensor:
    at = torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij"))
    return ((at - centre) ** 2).sum(0) < radius**2


def blown_up(mask: Tensor, times: tuple[int, int, int]) -> Tensor:
    for axis, n in enumerate(times):
        mask = mask.repeat_interleave(n, axis)
    return mask


@given(
    times=st.tuples(*[st.integers(1, 4)] * 3),
    before=st.tuples(*[st.integers(0, 5)] * 3),
    turned=st.permutations(range(3)),
)
@settings(max_examples=30, deadline=None)
def test_blocks_are_found_wherever_they_begin(
    times: tuple[int, int, int], before: tuple[int, int, int], turned: list[int]
) -> None:
    """A ball of 4 cells, each `times` voxels, somewhere in a volume of any order of axes."""
    mask = blown_up(ball(4.5, 4.2, 10), times)
    (z, y, x), (d, h, w) = before, mask.shape
    whole = torch.zeros(z + d + 3, y + h + 1, x + w, dtype=torch.bool)
    whole[z : z + d, y : y + h, x : x + w] = mask
    assert blocks(whole.permute(turned)) == tuple(times[axis] for axis in turned)


def test_what_follows_voxels_has_blocks_of_one() -> None:
    assert blocks(ball(11.3, 8.1)) == (1, 1, 1)
    box = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.bool)
    box[4:16, 4:16, 4:16] = True  # two faces along an axis say nothing
    assert blocks(box) == (1, 1, 1)
    assert blocks(torch.zeros_like(box)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("size", "coarse"), [((1, 1, 1), False), ((1, 1, 4), False), ((1, 3, 3), True)]
)
def test_blocks_along_one_axis_are_thick_slices(size: tuple[int, int, int], coarse: bool) -> None:
    assert is_coarse(size) == coarse


def test_an_opinion_decides_within_a_block_of_the_border() -> None:
    """Half a space with blocks of 4, a blur of 5 cells: overruled by 2 cells, not by more."""
    mask = torch.zeros(1, 1, SIDE, SIDE, SIDE, dtype=torch.bool)
    mask[:, :, 12:] = True
    logits = torch.where(mask, SURE, -SURE)
    for shift in (-6, -1, 0, 1, 6):
        opinion = torch.full_like(logits, -9.0)
        opinion[:, :, 12 + shift :] = 9.0
        found = decided(logits, opinion, WHOLE, (4, 4, 4)) > 0
        wanted = 12 + min(max(shift, -2), 2)
        assert found[0, 0, :, 3, 3].nonzero().min() == wanted


def test_who_sees_something_else_has_no_say() -> None:
    logits = torch.where(ball(6, 5), SURE, -SURE)[None, None]
    opinion = torch.where(ball(16, 6), SURE, -SURE)[None, None]
    assert decided(logits, opinion, WHOLE, (4, 4, 4)) is logits


@dataclass(frozen=True)
class Cells:
    cells: int


class Knowing(nn.Module):
    """A base that knows the ball."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.config = Cells(cells)

    def forward(self, image: Tensor, logits: Tensor, prompts: object) -> Tensor:
        n = self.config.cells
        return torch.where(ball(n * 11.9 / SIDE - 0.5, n * 8.1 / SIDE, n), 6.0, -6.0)[None, None]


@pytest.fixture
def knowing(model: Model) -> Model:
    return replace(model, base=Knowing(model.cells[0]))


@pytest.fixture
def scan() -> Scan:
    noise = np.random.default_rng(0).integers(0, 9, (SIDE,) * 3)
    return Scan(noise.astype(np.float32), (1.0, 1.0, 1.0), (0.0, 9.0))


def taken(model: Model, scan: Scan, mask: Tensor) -> State:
    logits = torch.where(mask, int(SURE), -int(SURE)).to(TAKEN)
    return start_from_logits(model, scan, Field(WHOLE, logits))


def test_only_masks_in_blocks_are_asked_about_and_only_once(knowing: Model, scan: Scan) -> None:
    """The mask comes back as it was given; its first correction begins from what was decided."""
    truth, coarse = ball(11.4, 8.1), blown_up(ball(2.5, 2.1, 6), (4, 4, 4))
    state = taken(knowing, scan, coarse)
    assert torch.equal(canvas(state, scan).logits > 0, coarse)
    asked = second_opinion(knowing, scan, state)

    def wrong(mask: Tensor) -> int:
        return int((mask ^ truth).sum())

    assert wrong(canvas(asked, scan).logits > 0) < 0.8 * wrong(coarse)
    after = refine(knowing, scan, state, Click((11, 11, 11), True))
    assert second_opinion(knowing, scan, after) is after
    fine = taken(knowing, scan, truth)
    assert second_opinion(knowing, scan, fine) is fine
