"""nnInteractive's words as prompts of a session in process."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import SHAPE, tiny_volume

from segvol_gru.interfaces.wire_nninteractive import Bounds, Dialect
from segvol_gru.pipeline import Model
from segvol_gru.prompts import Box
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

SLICE = Box.lifted((6, 4, 4), (6, 13, 12), SHAPE, (2.0, 1.0, 1.0))
FIRST = Box.lifted((0, 4, 4), (0, 13, 12), SHAPE, (2.0, 1.0, 1.0))
HERE, SENT = (6, 9, 8), [[3, 9], [4, 14], [4, 13]]


@pytest.mark.parametrize("run", [True, False])
@pytest.mark.parametrize(
    ("sent", "taken"),
    [
        ([[3, 9], [4, 14], [4, 13]], Box((3, 4, 4), (8, 13, 12))),
        ([[6, 7], [4, 14], [4, 13]], SLICE),
        ([[6.2, 6.9], [4, 14], [4, 13]], SLICE),
        ([[0, 1], [4, 14], [4, 13]], FIRST),
        ([[-9, 1], [4, 14], [4, 13]], Box((0, 4, 4), (0, 13, 12))),
        ([[11, 30], [4, 14], [4, 13]], Box((11, 4, 4), (11, 13, 12))),
        ([[6, 7], [9, 10], [4, 13]], Box((6, 9, 4), (6, 9, 12))),
    ],
)
def test_a_box_is_flat_if_it_was_drawn_so(
    session: Session, sent: Bounds, taken: Box, run: bool
) -> None:
    dialect = Dialect(session, np.zeros(SHAPE, np.bool_))
    dialect.box(sent, True, run)
    dialect.predict()
    assert session.history == (taken,)


def test_in_an_image_of_one_slice_a_line_is_flat_and_a_rectangle_is_not(model: Model) -> None:
    flat = Volume(tiny_volume().array[6:7], spacing=(2, 1, 1))
    with Session(flat, model) as session:
        dialect = Dialect(session, None)
        for sent in ([[0, 1], [4, 14], [4, 13]], [[0, 1], [9, 10], [4, 13]]):
            dialect.box(sent, True, run=True)
        rectangle, line = session.history
    assert rectangle == Box((0, 4, 4), (0, 13, 12))
    assert line == Box.lifted((0, 9, 4), (0, 9, 12), flat.shape, flat.spacing_mm)


def test_an_object_of_which_others_said_something_stays(session: Session) -> None:
    dialect = Dialect(session, None)
    dialect.box(SENT, True, run=True)
    first = session.mask
    dialect.reset()
    dialect.point(HERE, True, run=True)
    session.rename_object(session.current, "renamed")
    dialect.initial(first)
    dialect.reset()
    session.click(HERE)  # not in this conversation
    dialect.initial(first)
    dialect.reset()
    blank = session.current
    dialect.initial(first)
    assert blank not in session.objects
    assert session.objects == ("object 1", "renamed", "object 3")


def test_of_two_objects_with_one_mask_each_is_taken_up_again(session: Session) -> None:
    dialect = Dialect(session, None)
    dialect.box(SENT, True, run=True)
    first = session.mask
    dialect.reset()
    dialect.box(SENT, True, run=True)
    dialect.point(HERE, False, run=True)
    dialect.initial(first)
    assert (session.current, session.cursor) == ("object 1", 1)
