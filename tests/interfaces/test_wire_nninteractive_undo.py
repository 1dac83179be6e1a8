"""The queue and the undo of a conversation; over a wire they are in `server/test_server_viewer`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.interfaces import wire_nninteractive
from segvol_gru.interfaces.wire import BoolArray
from segvol_gru.interfaces.wire_nninteractive import Dialect
from segvol_gru.prompts import Box, Click
from segvol_gru.session.session import Session

BOX = [[3, 9], [4, 14], [4, 13]]
HERE, THERE, ELSEWHERE = (6, 9, 8), (6, 5, 8), (2, 3, 4)
OTHER = tiny_volume().array > 45


@pytest.fixture
def session() -> Iterator[Session]:
    with Session(tiny_volume(), tiny_model(), device="cpu") as live:
        yield live


@pytest.fixture
def talk(session: Session) -> Dialect:
    return Dialect(session, np.zeros(SHAPE, np.bool_))


def test_a_point_that_rounds_out_of_the_image_is_refused_when_it_is_said(
    session: Session, talk: Dialect
) -> None:
    talk.point(HERE, True, run=False)
    for at in ((11.5, 9, 8), (6, -0.6, 8), (6, 9), (6, float("nan"), 8)):
        with pytest.raises(InputError, match="coordinates"):
            talk.point(at, True, run=False)
    talk.point((10.5, 5.4, 8), False, run=False)
    assert talk.predict() is not None
    assert session.history == (Click(HERE, True), Click((10, 5, 8), False))


def test_an_initial_mask_that_is_refused_begins_no_object(
    session: Session, talk: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.box(BOX, True, run=True)
    before, name = session.mask, session.current

    def full(mask: BoolArray) -> BoolArray:
        raise InputError("the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(session, "start", full)
        with pytest.raises(InputError, match="full"):
            talk.initial(OTHER)
    assert (session.objects, session.current) == ((name,), name)
    assert np.array_equal(session.mask, before)


@pytest.mark.parametrize("run", [False, True])
def test_if_one_prompt_is_refused_the_mask_and_the_queue_stay(
    session: Session, talk: Dialect, monkeypatch: pytest.MonkeyPatch, run: bool
) -> None:
    talk.box(BOX, True, run=True)
    before, answer = session.mask, session.prompt
    talk.point(HERE, True, run=False)
    talk.point(THERE, True, run=False)

    def full(prompt: Box | Click) -> BoolArray:
        if isinstance(prompt, Click) and prompt.at == (ELSEWHERE if run else THERE):
            raise InputError("the disk is full.")
        return answer(prompt)

    with monkeypatch.context() as patch:
        patch.setattr(session, "prompt", full)
        with pytest.raises(InputError, match="full"):
            talk.point(ELSEWHERE, True, run=True) if run else talk.predict()
    assert session.cursor == 1
    np.testing.assert_array_equal(session.mask, before)

    talk.predict()
    assert session.history[1:] == (Click(HERE, True), Click(THERE, True))
    assert talk.predict() is None


def test_undo_of_an_initial_mask_brings_back_the_object_before_it(
    session: Session, talk: Dialect
) -> None:
    talk.box(BOX, True, run=True)
    talk.point(HERE, True, run=True)
    first, before = session.current, session.mask
    talk.initial(OTHER)
    second = session.current
    talk.point(THERE, True, run=True)
    prompted = session.mask
    talk.initial(before)  # back to the first one, which is revived
    talk.point(ELSEWHERE, False, run=True)

    undone = []
    while talk.undo() is not None:
        undone.append((session.current, session.cursor))
    assert undone == [(first, 2), (second, 2), (second, 1), (first, 2), (first, 1), (first, 0)]

    session.select(second)  # nothing is lost: our own session can redo what was undone
    session.redo()
    np.testing.assert_array_equal(session.redo(), prompted)


def test_undo_stops_where_the_caller_began_another_object(session: Session, talk: Dialect) -> None:
    talk.box(BOX, True, run=True)
    talk.initial(OTHER)
    talk.reset()
    talk.initial(OTHER)
    assert talk.undo() is not None
    assert not session.mask.any()
    assert talk.undo() is None


def test_the_object_before_an_initial_mask_is_not_the_one_that_gives_way(
    session: Session, talk: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire_nninteractive, "MAX_OBJECTS", 2)
    talk.box(BOX, True, run=True)
    first = session.mask
    talk.reset()
    talk.point(HERE, True, run=True)
    talk.initial(first)
    talk.initial(OTHER)
    assert len(session.objects) == 2
    assert talk.undo() is not None
    np.testing.assert_array_equal(session.mask, first)
    assert talk.undo() is not None  # what it was switched from is gone, though its name is not
    assert (session.current, session.cursor) == ("object 1", 0)
    assert talk.undo() is None
