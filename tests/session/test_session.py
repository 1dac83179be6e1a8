from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model, refine, start
from segvol_gru.prompts import Box, Click
from segvol_gru.scan import Scan
from segvol_gru.session.session import Session
from segvol_gru.session.snapshot import thaw
from segvol_gru.state import State, canvas
from segvol_gru.volume import Volume

LO, HI = (3, 4, 4), (8, 13, 12)


def ball() -> np.ndarray:
    return tiny_volume().array > 30


def test_the_session_does_what_the_pipeline_does(
    session: Session, volume: Volume, model: Model
) -> None:
    window = session._engine.fixed
    assert window is not None
    scan = Scan(volume.array, volume.spacing_mm, window)
    state = start(model, scan, Box(LO, HI))
    state = refine(model, scan, state, Click((6, 9, 8), True))
    whole = canvas(state, scan)
    session.box(LO, HI)
    mask = session.click((6, 9, 8))
    assert mask.dtype == np.bool_
    assert mask.shape == SHAPE
    assert np.array_equal(mask[whole.region.slices()], (whole.logits > 0).numpy())
    assert mask.sum() == int((whole.logits > 0).sum()) > 0
    p_prob = session.probability
    assert p_prob.dtype == np.float32
    assert np.array_equal(p_prob[whole.region.slices()], whole.logits.sigmoid().numpy())


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(), places=st.lists(st.tuples(*(st.integers(0, n - 1) for n in SHAPE)), min_size=3)
)
def test_negative_clicks_before_the_first_positive_one_count(
    data: st.DataObject, places: list[tuple[int, int, int]]
) -> None:
    """Whatever a network says; of two clicks at one place the later one counts."""
    session = Session(tiny_volume(), tiny_model(data.draw(st.integers(0, 2))), device="cpu")
    signs = [False, *(data.draw(st.booleans()) for _ in places[1:])]
    told = {}
    for at, positive in zip(places, signs, strict=True):
        told[at] = positive
        mask = session.click(at, positive)
        assert mask[at] == positive
        if any(signs[: len(told)]):
            assert [bool(mask[at]) for at in told] == list(told.values())


def test_nothing_said_is_nothing_segmented(session: Session) -> None:
    assert not session.mask.any()
    assert not session.probability.any()
    assert not session.label_map().any()
    assert session.suggest() is None
    assert session.history == ()


def test_a_returned_mask_is_the_users_to_change(session: Session) -> None:
    mask = session.box(LO, HI)
    kept = mask.copy()
    mask[:] = True
    session.mask[:] = True
    assert np.array_equal(session.mask, kept)


@pytest.mark.parametrize("positive", [True, False])
def test_every_click_is_obeyed(session: Session, positive: bool) -> None:
    session.box(LO, HI)
    at = tuple(int(v) for v in np.argwhere(session.mask != positive)[0])
    assert session.click(at, positive)[at] == positive
    assert session.undo()[at] != positive
    assert session.redo()[at] == positive


def test_a_session_may_begin_with_a_click(session: Session) -> None:
    mask = session.click((6, 9, 8))
    assert mask[6, 9, 8]
    assert not session.click((1, 1, 1), positive=False)[1, 1, 1]


def test_background_clicks_come_first_if_the_user_likes(session: Session) -> None:
    assert not session.click((1, 1, 1), positive=False).any()
    assert not session.click((10, 16, 14), positive=False).any()
    mask = session.click((6, 9, 8))
    assert mask[6, 9, 8]
    assert not mask[1, 1, 1]
    assert not mask[10, 16, 14]
    assert not session.jump(2).any()


def test_another_tools_mask_comes_back_to_the_voxel_and_is_corrected(session: Session) -> None:
    given = ball()
    given[0, 0, 0] = True  # ragged, with a voxel far away
    assert np.array_equal(session.start(given), given)
    assert np.array_equal(session.mask, given)
    assert not session.click((6, 9, 8), positive=False)[6, 9, 8]
    assert np.array_equal(session.undo(), given)
    assert session.history[0].voxels == given.sum()


def test_a_box_drawn_on_a_slice_gets_a_depth_unless_taken_at_its_word(session: Session) -> None:
    session.box((6, 4, 4), (6, 13, 12))
    lifted = Box.lifted((6, 4, 4), (6, 13, 12), SHAPE, (2.0, 1.0, 1.0))
    assert session.history[-1] == lifted
    session.box((6, 4, 4), (6, 13, 12), lift=False)
    assert session.history[-1] == Box((6, 4, 4), (6, 13, 12))
    session.box((6, 4, 4), (6, 4, 4))
    assert session.history[-1] == Box((6, 4, 4), (6, 4, 4))


def test_in_a_volume_of_one_slice_every_box_is_tight(model: Model) -> None:
    flat = Volume(tiny_volume().array[6:7], spacing=(2, 1, 1))
    with Session(flat, model) as session:
        session.box((0, 4, 4), (0, 13, 12))
        assert session.history == (Box((0, 4, 4), (0, 13, 12)),)


def test_a_competition_box_is_a_prompt(session: Session) -> None:
    record = {
        "z_min": 3,
        "z_max": 8,
        "z_mid": 5,
        "z_mid_y_min": 4,
        "z_mid_y_max": 13,
        "z_mid_x_min": 4,
        "z_mid_x_max": 12,
    }
    box = Box.from_challenge(record, SHAPE)
    session.prompt(box)
    assert session.history == (box,)
    assert session.history[0].tight == (True, False, False)


def test_millimetres_name_the_same_voxels(model: Model) -> None:
    affine = np.array([[0, -1.0, 0, 40], [0, 0, 1.0, -7], [-2.0, 0, 0, 3], [0, 0, 0, 1]])
    turned = Volume(tiny_volume().array, affine=affine)
    with Session(turned, model) as by_voxel, Session(turned, model) as by_mm:
        corners = turned.to_world([LO, HI])
        masks = by_voxel.box(LO, HI), by_mm.box(corners[1], corners[0], frame="ras")
        assert np.array_equal(*masks)
        at = turned.to_world((2, 3, 4)) + 0.3
        masks = by_voxel.click((2, 3, 4), False), by_mm.click(at, False, frame="ras")
        assert np.array_equal(*masks)
        assert by_voxel.history == by_mm.history


def test_reset_can_be_undone(session: Session) -> None:
    mask = session.box(LO, HI)
    assert not session.reset().any()
    assert session.cursor == 2
    session.reset()
    assert session.cursor == 2  # nothing to empty
    assert np.array_equal(session.undo(), mask)
    session.redo()
    assert session.click((6, 9, 8))[6, 9, 8]
    assert np.array_equal(session.jump(1), mask)


def test_a_new_prompt_drops_what_was_undone(session: Session) -> None:
    session.box(LO, HI)
    session.click((6, 9, 8))
    session.click((6, 9, 9))
    session.jump(1)
    assert session.can_redo
    session.click((2, 2, 2), False)
    assert not session.can_redo
    assert session.history[1:] == (Click((2, 2, 2), False),)
    with pytest.raises(InputError, match="no step to redo"):
        session.redo()


def test_objects_have_their_own_history(session: Session) -> None:
    first = session.box(LO, HI)
    session.add_object("vessel")
    assert not session.mask.any()
    second = session.click((2, 2, 2))
    session.click((2, 3, 3))
    session.select("object 1")
    assert np.array_equal(session.mask, first)
    assert not session.undo().any()
    session.redo()
    session.select("vessel")
    assert np.array_equal(session.undo(), second)
    assert np.array_equal(session.mask_of("object 1"), first)
    session.rename_object("vessel", "vein")
    assert session.objects == ("object 1", "vein")
    assert session.current == "vein"
    session.remove_object("object 1")
    assert session.labels == {"vein": 2}
    session.add_object("object 1")
    assert session.labels["object 1"] == 3


def test_where_objects_overlap_the_surest_has_the_voxel(session: Session) -> None:
    session.start(ball())
    session.add_object("rival")
    session.box(LO, HI)
    both, labels = session.mask & session.mask_of("object 1"), session.label_map()
    assert labels.dtype == np.uint8
    assert both.any()
    surer = session.probability > 1 / (1 + np.exp(-4.0))  # the seed's logit is 4
    assert np.array_equal(labels[both] == 2, surer[both])
    assert np.array_equal(labels > 0, session.mask | session.mask_of("object 1"))


def test_a_suggestion_lies_in_doubt_and_apart_from_clicks(session: Session) -> None:
    session.box(LO, HI)
    at = session.suggest()
    assert at is not None
    assert 0.05 < session.probability[at] < 0.95
    session.click(at)
    again = session.suggest()
    assert again is None or again != at


def test_auto_looks_into_the_box_of_every_object(model: Model) -> None:
    hu = np.full((40, 40, 40), -1000, dtype=np.int16)
    hu[:20] = -800  # lung
    hu[20:] = 40  # soft tissue
    hu[0, 0, 0], hu[0, 0, 1] = -1024, 1500
    with Session(Volume(hu, spacing=(1, 1, 1), modality="CT"), model) as session:
        session.box((4, 8, 8), (14, 30, 30))
        session.add_object("liver")
        session.box((24, 8, 8), (34, 30, 30))
        tracks = session._ledger.scene.tracks
        clips = [track.result.clip for track in tracks if track.result is not None]
    assert clips == [(-910.0, 590.0), (-160.0, 240.0)]
    with Session(Volume(hu, spacing=(1, 1, 1)), model, window="bone") as session:
        session.click((24, 8, 8))
        assert session._current.result is not None
        assert session._current.result.clip == (-500.0, 1300.0)


def test_showing_a_state_does_not_change_it(model: Model) -> None:
    """One cell per voxel: what is rendered must not be the state's own memory."""
    scan = Scan(np.arange(16**3, dtype=np.int16).reshape(16, 16, 16), (1, 1, 1), (0, 4096))
    state = start(model, scan, Box((0, 0, 0), (15, 15, 15)))
    state = refine(model, scan, state, Click((8, 8, 8), True))
    (layer,) = state.layers
    assert layer.region.size == layer.logits.shape == (16, 16, 16)
    kept = layer.logits.clone()
    with torch.inference_mode():
        canvas(state, scan).logits.add_(1)
    assert torch.equal(layer.logits, kept)


def test_going_back_restores_the_memory_too(session: Session) -> None:
    session.box(LO, HI)
    for x in range(6, 10):
        session.click((6, 9, x))
    kept = session._current.result
    session.jump(0)
    session.jump(4)
    session.click((6, 9, 9))
    assert session._current.result == kept
    before, after = (e.result for e in session._current.events[1:3])
    assert before is not None
    assert after is not None
    assert before.memory != after.memory


def test_live_and_restored_states_lie_alike_in_memory(session: Session) -> None:
    """Convolutions choose their algorithm, and so their rounding, by strides."""
    for prompt in (Box(LO, HI), Click((6, 9, 8), True)):
        session.prompt(prompt)
        assert session._live is not None
        result, live = session._live
        back = thaw(result, session._ledger.blobs)
        for one, other in zip(tensors(live.state), tensors(back.state), strict=True):
            assert torch.equal(one, other)
            assert one.stride() == other.stride()


def tensors(state: State) -> list[torch.Tensor]:
    return [*(layer.logits for layer in state.layers), state.logits, state.memory]


REFUSED: dict[str, Callable[[Session], object]] = {
    "box outside": lambda s: s.box((0, 0, 0), (99, 5, 5)),
    "box swapped": lambda s: s.box(HI, LO),
    "corner of two": lambda s: s.box((1, 2), HI),
    "corner is no point": lambda s: s.box(5, HI),
    "click outside": lambda s: s.click((-1, 0, 0)),
    "click not finite": lambda s: s.click((float("nan"), 0, 0)),
    "click of words": lambda s: s.click("abc"),
    "click with a word": lambda s: s.click((1, 1, 1), "no"),
    "unknown frame": lambda s: s.click((1, 1, 1), frame="lps"),
    "mm outside": lambda s: s.click((500, 0, 0), frame="ras"),
    "mask empty": lambda s: s.start(np.zeros(SHAPE, dtype=bool)),
    "mask of labels": lambda s: s.start(np.ones(SHAPE, dtype=np.uint8)),
    "mask of another shape": lambda s: s.start(np.ones((2, 2, 2), dtype=bool)),
    "prompt of another kind": lambda s: s.prompt("box"),
    "value outside": lambda s: s.prompt(Click((99, 0, 0), True)),
    "jump too far": lambda s: s.jump(9),
    "jump back too far": lambda s: s.jump(-1),
    "jump between": lambda s: s.jump(0.5),
    "select unknown": lambda s: s.select("spleen"),
    "name taken": lambda s: s.add_object("object 1"),
    "name empty": lambda s: s.add_object(" "),
    "rename unknown": lambda s: s.rename_object("spleen", "x"),
    "rename to a taken name": lambda s: s.rename_object("second", "object 1"),
    "remove unknown": lambda s: s.remove_object("spleen"),
    "redo nothing": lambda s: s.redo(),
    "save nowhere": lambda s: s.save("no/such/folder/a.session"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_nothing(session: Session, name: str) -> None:
    session.box(LO, HI)
    session.add_object("second")
    session.click((6, 9, 8))
    scene, p_prob = session._ledger.scene, session.probability
    with pytest.raises(InputError) as caught:
        REFUSED[name](session)
    assert str(caught.value).endswith(".")
    assert session._ledger.scene == scene
    assert np.array_equal(session.probability, p_prob)


def test_the_only_object_stays(session: Session) -> None:
    with pytest.raises(InputError, match="only object"):
        session.remove_object("object 1")
    with pytest.raises(InputError, match="no step to undo"):
        session.undo()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"device": "mps"}, "not on this machine"),
        ({"window": "liver"}, "window is 'liver'"),
        ({"model": "no-such-folder"}, "no folder"),
        ({"volume": np.zeros((2, 2, 2))}, "wanted Volume"),
    ],
)
def test_an_unusable_session_is_refused(
    volume: Volume, model: Model, keywords: dict[str, object], message: str
) -> None:
    if keywords.get("device") == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(InputError, match=message):
        Session(**{"volume": volume, "model": model, **keywords})  # type: ignore[arg-type]


def test_another_model_goes_on_from_the_same_mask(volume: Volume, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with Session(volume, tiny_model(1)) as session:
        mask = session.box(LO, HI)
        session.click((6, 9, 8))
        session.undo()
        session.save(tmp_path / "a.session")
    with Session.load(tmp_path / "a.session", tiny_model(2)) as session:
        assert np.array_equal(session.mask, mask)
        assert session.click((1, 1, 1))[1, 1, 1]
        result = session._current.result
        assert result is not None
        assert result.digest == tiny_model(2).digest
        assert result.clicks == (Click((1, 1, 1), True),)
        assert np.array_equal(session.undo(), mask)
