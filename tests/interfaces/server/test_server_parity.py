"""The same prompts through every door give the same mask."""

from __future__ import annotations

import numpy as np
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession
from numpy.typing import NDArray
from old_slicer import OldSlicer
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.compat.nninteractive import nnInteractiveInferenceSession
from segvol_gru.interfaces.client import RemoteSession
from segvol_gru.interfaces.wire import SessionLike
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

UNPLACED = Volume(tiny_volume().array, (1.0, 1.0, 1.0))  # the older wire sends no spacing
CLICKS = (((6, 9, 8), True), ((1, 1, 1), False), ((9, 15, 3), True))
Masks = list[NDArray[np.bool_]]


def ours(session: SessionLike) -> Masks:
    first = session.box((6, 4, 4), (6, 13, 12))
    return [first, *(session.click(at, positive) for at, positive in CLICKS)]


def theirs(
    session: nnInteractiveInferenceSession | nnInteractiveRemoteInferenceSession,
) -> Masks:
    session.set_image(UNPLACED.array[None], {"spacing": [1.0, 1.0, 1.0]})
    buffer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(buffer)
    session.add_bbox_interaction([[6, 7], [4, 14], [4, 13]], include_interaction=True)
    masks = [buffer.astype(bool)]
    for at, positive in CLICKS:
        session.add_point_interaction(at, include_interaction=positive)
        masks.append(buffer.astype(bool))
    session.close()
    return masks


def oldest(address: str) -> Masks:
    slicer = OldSlicer(f"{address}/legacy/alice", SHAPE)
    slicer.upload_image(UNPLACED.array)
    first = slicer.box((6, 4, 4), (6, 13, 12))
    return [first, *(slicer.point(at, positive) for at, positive in CLICKS)]


def test_every_door_leads_to_the_same_masks(address: str) -> None:
    with Session(UNPLACED, tiny_model(), device="cpu") as session:
        expected = ours(session)
    assert len({mask.tobytes() for mask in expected}) == len(expected)
    with RemoteSession(UNPLACED, address) as remote:
        doors = {
            "our API": ours(remote),
            "in process, their names": theirs(
                nnInteractiveInferenceSession("cpu", model=tiny_model())
            ),
            "current wire": theirs(nnInteractiveRemoteInferenceSession(address)),
            "older wire": oldest(address),
        }
    for door, masks in doors.items():
        for got, wanted in zip(masks, expected, strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=door)
