"""The method on one screen: states are values, layers add up, clicks are obeyed."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from segvol_gru.pipeline import (
    Model,
    beyond_guess,
    refine,
    retold,
    start,
    start_from_click,
    start_from_logits,
)
from segvol_gru.prompts import Box, Click
from segvol_gru.region import Field, Region, to_cells
from segvol_gru.scan import Scan
from segvol_gru.state import OUTSIDE, SURE, State, canvas, on_cells, segmented

BOX = Box((3, 5, 4), (8, 12, 11))


@pytest.fixture
def scan() -> Scan:
    values = np.random.default_rng(0).integers(0, 255, (14, 30, 28)).astype(np.int16)
    return Scan(values, (2.0, 1.0, 1.0), (0.0, 255.0))


def bits(state: State) -> list[bytes]:
    tensors = [state.logits, state.memory, *(layer.logits for layer in state.layers)]
    return [t.numpy().tobytes() for t in tensors]


def test_refining_leaves_the_old_state_as_it_was(model: Model, scan: Scan) -> None:
    first = start(model, scan, BOX)
    before = bits(first)
    refine(model, scan, first, Click((5, 8, 8), False))
    assert bits(first) == before


def test_the_same_prompts_give_the_same_bits(model: Model, scan: Scan) -> None:
    clicks = [Click((5, 8, 8), True), Click((12, 25, 25), True), Click((0, 0, 0), False)]

    def play() -> State:
        state = start(model, scan, BOX)
        for click in clicks:
            state = refine(model, scan, state, click)
        return state

    assert bits(play()) == bits(play())


@pytest.mark.parametrize("positive", [True, False])
def test_every_click_is_obeyed_at_its_voxel(model: Model, scan: Scan, positive: bool) -> None:
    state = start(model, scan, BOX)
    clicks = [Click((5, 8, 8), positive), Click((13, 29, 27), not positive)]
    for click in clicks:
        state = refine(model, scan, state, click)
    field = canvas(state, scan)
    for click in clicks:
        at = tuple(a - o for a, o in zip(click.at, field.region.lo, strict=True))
        assert bool(field.logits[at] > 0) == click.positive


def test_a_far_click_widens_the_view_and_keeps_what_was_seen(model: Model, scan: Scan) -> None:
    state = start(model, scan, BOX)
    wider = refine(model, scan, state, Click((13, 29, 27), False))
    assert wider.region.union(state.region) == wider.region
    assert wider.region != state.region
    assert len(wider.layers) == 2
    assert wider.layers[0] is state.layers[0]


def test_a_click_beyond_a_guessed_side_asks_for_more_beyond_it(model: Model, scan: Scan) -> None:
    """Inside the guess nothing changes, and beyond it the base only adds."""
    lifted = Box((5, 5, 4), (8, 12, 11), (False, False, False))
    first = start(model, scan, lifted)
    click = Click((12, 8, 8), True)
    after = beyond_guess(model, scan, first, click)
    assert after.box == Box((5, 5, 4), (12, 12, 11), (False, False, False))
    asked = start(model, scan, after.box)
    assert after.region == asked.region.union(first.region)
    change = after.logits - on_cells(first.layers, after.region, model.cells)
    inside = torch.ones(model.cells, dtype=torch.bool)
    for axis, n in enumerate(model.cells):
        centre = (torch.arange(n) + 0.5) * after.region.size[axis] / n - 0.5
        centre += after.region.lo[axis]
        held = (centre > lifted.lo[axis] - 0.5) & (centre < lifted.hi[axis] + 0.5)
        inside &= held.reshape([-1 if a == axis else 1 for a in range(3)])
    assert 0 < int(inside.sum()) < inside.numel()
    assert not change[0, 0, inside].any()
    assert bool((change >= 0).all())
    assert bool((change > 0).any())
    assert refine(model, scan, first, click).box == after.box
    assert first.box == lifted


@pytest.mark.parametrize(
    ("box", "click"),
    [
        (Box((5, 5, 4), (8, 12, 11)), Click((12, 8, 8), True)),
        (Box((5, 5, 4), (8, 12, 11), (False, False, False)), Click((12, 8, 8), False)),
        (Box((5, 5, 4), (8, 12, 11), (False, False, False)), Click((6, 8, 8), True)),
    ],
    ids=["a drawn side", "background", "inside"],
)
def test_other_clicks_leave_the_first_answer(
    model: Model, scan: Scan, box: Box, click: Click
) -> None:
    first = start(model, scan, box)
    assert beyond_guess(model, scan, first, click) is first


@pytest.mark.parametrize("flat", [False, True])
def test_the_mask_is_the_sign_of_the_canvas(model: Model, scan: Scan, flat: bool) -> None:
    """Where the image has no detail, its voxels average to what the networks see."""
    if flat:
        scan = Scan(np.zeros(scan.shape), scan.spacing_mm, scan.clip)
    state = start(model, scan, BOX)
    for click in (Click((5, 8, 8), False), Click((13, 29, 27), True)):
        state = refine(model, scan, state, click)
    field, mask = canvas(state, scan), segmented(state, scan)
    assert mask.region == field.region
    assert torch.equal(mask.logits, field.logits > 0)
    cells = to_cells(field.logits[state.region.slices(field.region.lo)], model.cells)
    seen = on_cells(state.layers, state.region, model.cells)[0, 0]
    assert torch.allclose(seen, cells, atol=1e-4, rtol=1e-4) == flat


def test_clicks_in_one_view_share_a_layer(model: Model, scan: Scan) -> None:
    state = start(model, scan, BOX)
    state = refine(model, scan, state, Click((5, 8, 8), True))
    region = state.region
    after = refine(model, scan, state, Click((6, 9, 8), False))
    assert after.region == region
    assert len(after.layers) == len(state.layers)


def test_layers_add_up_on_the_voxels(model: Model) -> None:
    """A first field of 1 on 2x2x2 voxels and a residual of 5 on a larger window."""
    first = Field(Region((1, 1, 1), (2, 2, 2)), torch.ones(2, 2, 2))
    change = Field(Region((0, 0, 0), (4, 4, 4)), torch.full((1, 1, 1), 5.0))
    blank = torch.zeros(1, 1, 16, 16, 16)
    state = State((first, change), change.region, blank, torch.zeros(1, 0), None, ())
    scan = Scan(np.zeros((4, 4, 4)), (1.0, 1.0, 1.0), (0.0, 1.0))
    whole = canvas(state, scan)
    assert whole.region == change.region
    assert whole.logits[1, 1, 1] == 6
    assert whole.logits[0, 0, 0] == OUTSIDE + 5


def test_anothers_mask_comes_back_untouched(model: Model, scan: Scan) -> None:
    region = Region((2, 3, 4), (9, 20, 18))
    mask = torch.zeros(region.size, dtype=torch.bool)
    mask[3:6, 4:15, 5:9] = True
    field = Field(region, torch.where(mask, SURE, -SURE))
    state = start_from_logits(model, scan, field)
    assert torch.equal(canvas(state, scan).logits > 0, mask)


def test_a_start_from_a_click_holds_the_click(model: Model, scan: Scan) -> None:
    state = start_from_click(model, scan, Click((7, 15, 14), True))
    field = canvas(state, scan)
    at = tuple(a - o for a, o in zip((7, 15, 14), field.region.lo, strict=True))
    assert field.logits[at] > 0
    assert state.logits.shape[2:] == model.cells
    assert state.layers[0].region == state.region


def test_a_negative_first_click_segments_nothing(model: Model, scan: Scan) -> None:
    state = start_from_click(model, scan, Click((7, 15, 14), False))
    assert not bool((canvas(state, scan).logits > 0).any())


class Blind:
    """A reader that finds nothing."""

    def segment(self, box: Box | None, clicks: Sequence[Click]) -> Field:
        return Field(Region((0, 0, 0), (14, 90, 90)), torch.full((14, 90, 90), OUTSIDE))

    def features(self, *_: object) -> torch.Tensor:
        raise AssertionError("the corrector takes none")


def test_a_blind_reader_is_helped_from_where_the_positive_click_is(model: Model) -> None:
    """Earlier negative clicks, told first, do not widen the view."""
    values = np.random.default_rng(0).integers(0, 255, (14, 90, 90)).astype(np.int16)
    scan = Scan(values, (2.0, 1.0, 1.0), (0.0, 255.0), reader=Blind())
    click, early = Click((7, 70, 70), True), Click((7, 5, 5), False)
    plain = start_from_click(model, scan, click)
    told = retold(model, scan, plain, (early, click))
    later = Click((7, 72, 70), True)
    one, other = (refine(model, scan, state, later) for state in (plain, told))
    assert one.layers[0].region == other.layers[0].region
    assert other.clicks == (early, click, later)
