"""Views: kept answers never change the result, and a click costs only what it touches."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segvol_gru.base.ask import Ask, Crop, tensors
from segvol_gru.base.feedback import Feedback
from segvol_gru.base.plan import Planner
from segvol_gru.base.segvol import SMALL, SegVol
from segvol_gru.base.views import Kept, Views
from segvol_gru.base.zoom import Cancelled, Watch
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region

SHAPE: Index = (28, 100, 150)  # of the crop: several windows of 16 x 64 x 96 each way
BOX = Box((2, 5, 8), (24, 90, 140))
NARROW = Box((8, 20, 30), (14, 60, 90))  # fits one window
CLICKS = (
    Click((3, 10, 12), True),
    Click((22, 85, 130), False),
    Click((12, 50, 70), True),
    Click((23, 15, 135), True),
)


@pytest.fixture(scope="module")
def crop() -> Crop:
    image = torch.rand(SHAPE, generator=torch.Generator().manual_seed(2))
    image[:, :, :60] *= 0.3
    return Crop(image)


def fresh(model: SegVol, crop: Crop, **settings: object) -> Views:
    return Views(model, crop, precision="float32", **settings)  # type: ignore[arg-type]


class Count:
    """Counts views that pass through a module."""

    def __init__(self, module: nn.Module) -> None:
        self.views = 0
        self.handle = module.register_forward_hook(self.add)

    def add(self, _: nn.Module, __: object, out: Tensor | tuple[Tensor, ...]) -> None:
        self.views += len(out[0] if isinstance(out, tuple) else out)

    def taken(self) -> int:
        taken, self.views = self.views, 0
        return taken


def same(a: Field, b: Field) -> None:
    assert a.region == b.region
    torch.testing.assert_close(a.logits, b.logits, atol=2e-5, rtol=1e-4)


voxels = st.tuples(*[st.integers(0, n - 1) for n in SHAPE])
clicks = st.lists(st.builds(Click, voxels, st.booleans()), max_size=4)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([BOX, NARROW]), clicks)
def test_click_by_click_is_the_same_as_all_at_once(
    small_model: SegVol, crop: Crop, box: Box, clicks: list[Click]
) -> None:
    views = fresh(small_model, crop)
    for n in range(len(clicks) + 1):
        stepwise = views.segment(box, clicks[:n])
    same(stepwise, fresh(small_model, crop, batch=3).segment(box, clicks))


@settings(max_examples=6, deadline=None)
@given(clicks)
def test_a_start_without_a_box_is_the_same_too(
    small_model: SegVol, crop: Crop, clicks: list[Click]
) -> None:
    clicks = [Click((12, 50, 70), True), *clicks]
    views = fresh(small_model, crop)
    for n in range(1, len(clicks) + 1):
        stepwise = views.segment(None, clicks[:n])
    same(stepwise, fresh(small_model, crop).segment(None, clicks))


def touched(planner: Planner, mask: Tensor, click: Click) -> int:
    plan = planner.plan(mask)
    return sum(
        all(a <= c < b for a, c, b in zip(view.lo, click.at, view.hi, strict=True))
        for view, _ in plan.windows
    )


@pytest.mark.parametrize("box", [BOX, NARROW])
def test_a_click_costs_the_windows_it_touches(small_model: SegVol, crop: Crop, box: Box) -> None:
    encoded, decoded = Count(small_model.image_encoder), Count(small_model.mask_decoder)
    views = fresh(small_model, crop)
    views.prepare()
    assert encoded.taken() == 1
    mask = first_mask(views, box)
    decoded.taken()
    views.segment(box)
    planner = Planner(crop.whole, SMALL.image, box, (), None)
    windows = len(planner.plan(mask).windows)
    assert windows == (1 if box is NARROW else 8)
    assert (encoded.taken(), decoded.taken()) == (windows, windows)
    given: tuple[Click, ...] = ()
    for click in (Click((10, 40, 60), True), Click((13, 22, 35), False)):
        given = (*given, click)
        planner = Planner(crop.whole, SMALL.image, box, given, None)
        views.segment(box, given)
        assert (encoded.taken(), decoded.taken()) == (0, touched(planner, mask, click))
    views.segment(box, given[:1])  # undo
    views.segment(box, given)  # redo
    assert (encoded.taken(), decoded.taken()) == (0, 0)
    encoded.handle.remove()
    decoded.handle.remove()


def first_mask(views: Views, box: Box) -> Tensor:
    """The zoom-out's answer to the box, on the network's frame."""
    planner = Planner(views.crop.whole, SMALL.image, box, (), None)
    job = (views.crop.whole, planner.opening())
    return views.model.upsample(views._answer([job], Watch())[job])[0, 0] > 0


def test_an_outside_click_gets_its_own_window_and_reaches_the_zoom_out(crop: Crop) -> None:
    mask = torch.zeros(SMALL.image, dtype=torch.bool)
    far = Click((26, 95, 145), True)
    plan = Planner(crop.whole, SMALL.image, NARROW, (far,), None).plan(mask)
    assert plan.coarse.labels == (1,)
    (near, near_ask), (own, own_ask) = plan.windows
    assert near_ask.points == ()
    assert near == Region((4, 9, 13), SMALL.image)
    assert own == Region((12, 36, 54), SMALL.image)
    assert own_ask.points == ((14.0, 59.0, 91.0),)
    assert near_ask.box == (4, 11, 17, 10, 51, 77)


def test_negative_clicks_reach_the_windows_and_empty_windows_are_left_out(crop: Crop) -> None:
    mask = torch.zeros(SMALL.image, dtype=torch.bool)
    mask[1:3, 4:12, 6:12] = True  # one corner of the box
    click = Click((3, 10, 12), False)
    elsewhere = Click((22, 88, 135), False)
    plan = Planner(crop.whole, SMALL.image, BOX, (click, elsewhere), None).plan(mask)
    [(view, ask)] = plan.windows
    assert view == Region((2, 5, 8), SMALL.image)
    assert ask.labels == (0,)
    assert ask.points == ((1.0, 5.0, 4.0),)
    # cells 1..2 of 16 over 28 voxels are voxels 1.75..5.25; the tight box begins at 2
    assert ask.box is not None
    assert (ask.box[0], ask.box[3]) == (0.0, 3.0)


def test_the_zoom_out_sees_the_box_in_its_own_cells() -> None:
    whole = Region((0, 0, 0), (32, 128, 96))
    box = Box((8, 20, 30), (15, 59, 89))
    ask = Planner(whole, SMALL.image, box, (), None).opening()
    # 2 voxels a cell in z and y: voxels 8..15 are cells 4..7
    assert ask == Ask((4.0, 10.0, 30.0, 7.0, 29.0, 89.0))
    thin = Planner(whole, SMALL.image, Box((9, 20, 30), (9, 59, 89)), (), None).opening()
    assert thin.box is not None
    assert thin.box[0] == thin.box[3] == 4.25


def test_the_field_lies_in_the_volume(small_model: SegVol, crop: Crop) -> None:
    moved = Crop(crop.image, (5, 6, 7))

    def shifted(at: Index) -> Index:
        return at[0] + 5, at[1] + 6, at[2] + 7

    box = Box(shifted(NARROW.lo), shifted(NARROW.hi))
    far = [Click(shifted(c.at), c.positive) for c in CLICKS]
    here = fresh(small_model, crop).segment(NARROW, CLICKS)
    there = fresh(small_model, moved).segment(box, far)
    assert there.region == Region(shifted(here.region.lo), here.region.size)
    assert torch.equal(there.logits, here.logits)
    assert not here.logits.is_inference()


def test_a_crop_thinner_than_the_window_is_padded(small_model: SegVol) -> None:
    image = torch.rand(5, 30, 200, generator=torch.Generator().manual_seed(4))
    views = fresh(small_model, Crop(image))
    plan = Planner(views.crop.whole, SMALL.image, Box((1, 3, 20), (3, 20, 180)), (), None).plan(
        torch.zeros(SMALL.image, dtype=torch.bool)
    )
    assert [view.lo for view, _ in plan.windows] == [(-5, -17, x) for x in (20, 68, 85)]
    look = views._look(plan.windows[0][0])
    assert torch.equal(look[5:10, 17:47], image[:, :, 20:116])
    assert float(look.sum()) == pytest.approx(float(image[:, :, 20:116].sum()), rel=1e-5)
    field = views.segment(Box((1, 3, 20), (3, 20, 180)))
    assert field.region.inside((5, 30, 200)) == field.region
    assert field.logits.isfinite().all()


def test_text_is_a_prompt(small_model: SegVol, crop: Crop) -> None:
    vectors = torch.randn(2, 1, SMALL.width, generator=torch.Generator().manual_seed(0))
    views = fresh(small_model, crop)
    first, second = (views.segment(NARROW, text=vector) for vector in vectors)
    assert not torch.allclose(first.logits, second.logits, atol=1e-3)
    views.segment(None, text=vectors[0])


def test_what_says_nothing_is_refused(small_model: SegVol, crop: Crop) -> None:
    views = fresh(small_model, crop)
    for said in ((), (Click((3, 3, 3), False),), (Click((-1, 0, 0), True),)):
        with pytest.raises(InputError, match="positive click on the structure first"):
            views.segment(None, said)


def test_cancel_keeps_what_is_done(small_model: SegVol, crop: Crop) -> None:
    encoded = Count(small_model.image_encoder)
    wanted = fresh(small_model, crop).segment(BOX)
    total = encoded.taken()
    views = fresh(small_model, crop)
    steps: list[tuple[int, int]] = []
    watch = Watch(lambda done, total: steps.append((done, total)), lambda: len(steps) > 4)
    with pytest.raises(Cancelled):
        views.segment(BOX, watch=watch)
    before = encoded.taken()
    assert 0 < before < total
    same(views.segment(BOX), wanted)
    assert encoded.taken() == total - before
    encoded.handle.remove()


def trained() -> Feedback:
    """A feedback path with random weights everywhere."""
    feedback, generator = Feedback(SMALL), torch.Generator().manual_seed(0)
    for value in feedback.parameters():
        nn.init.normal_(value, std=0.2, generator=generator)
    return feedback


def chain(views: Views, given: Sequence[Click]) -> Field:
    for n in range(len(given) + 1):
        field = views.segment(BOX, given[:n])
    return field


def test_untrained_feedback_changes_no_bit(small_model: SegVol, crop: Crop) -> None:
    feedback = Feedback(SMALL)
    official = chain(fresh(small_model, crop), CLICKS)
    assert torch.equal(
        chain(fresh(small_model, crop, feedback=feedback), CLICKS).logits, official.logits
    )


def test_trained_feedback_matters_and_replays(small_model: SegVol, crop: Crop) -> None:
    feedback = trained()
    stepwise = chain(fresh(small_model, crop, feedback=feedback), CLICKS)
    same(stepwise, fresh(small_model, crop, feedback=feedback, batch=1).segment(BOX, CLICKS))
    official = chain(fresh(small_model, crop), CLICKS)
    assert not torch.allclose(stepwise.logits, official.logits, atol=1e-2)


def test_feedback_sees_where_it_was_clicked() -> None:
    feedback = trained()
    logits = torch.zeros(1, 1, *(4 * n for n in SMALL.grid))
    one, other, negative = (
        feedback(logits, torch.tensor([[at]]), torch.tensor([[label]]))
        for at, label in (((2.0, 8, 8), 1), ((13.0, 55, 88), 1), ((2.0, 8, 8), 0))
    )
    padding = feedback(logits, torch.zeros(1, 1, 3), torch.tensor([[-1]]))
    changed = (one - padding).abs().sum((0, 1))
    assert changed[-1, -1, -1] < 1e-3 * changed[0, 0, 0]
    assert not torch.equal(one, other)
    assert not torch.equal(one, negative)


def test_the_oldest_tensor_is_forgotten() -> None:
    kept: Kept[str] = Kept(2)
    for name in "ab":
        kept.put(name, torch.tensor(0))
    kept.get("a")
    kept.put("c", torch.tensor(1))
    assert kept.get("b") is None
    assert kept.get("a") is not None


def test_features_are_the_windows_own_on_their_place(small_model: SegVol, crop: Crop) -> None:
    views = Views(small_model, Crop(crop.image, (3, 4, 5)), precision="float32")
    box = Box((11, 24, 35), (17, 64, 95))  # fits one window
    _, plan = views._plan(box, (), None, Watch())
    [(view, ask)] = plan.windows
    place = Region((view.lo[0] + 3, view.lo[1] + 4, view.lo[2] + 5), view.size)
    cells = (16, 16, 24)  # four for each token
    prompts = tensors([ask], small_model.device)
    with torch.inference_mode():
        expected = small_model.features(views._embed([view]), *prompts)
    found = views.features(box, (), None, place, cells)
    assert found.shape == (1, SMALL.width // 8, *cells)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    beyond = Region((place.lo[0], place.lo[1], place.hi[2] + 4), place.size)
    assert not views.features(box, (), None, beyond, cells).any()
