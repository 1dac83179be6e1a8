"""What a viewer said without asking for a mask outlives its place, and is answered once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from live import Clock, get, post, serving
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.interfaces.server import nnia
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.session.session import Session

BOX = [[3, 9], [4, 14], [6, 7]]  # half-open, on one slice: (3, 4, 6) to (8, 13, 6)
HERE, AWAY = [6, 9, 8], [1, 1, 1]


class Talk:
    """A viewer that remembers its lease but not what it shows."""

    def __init__(self, address: str) -> None:
        lease = post(f"{address}/claim").json()["lease_token"]
        self.address, self.lease = address, {"X-Lease-Token": lease}
        meta = {"X-Meta": json.dumps({"image_properties": {"spacing": tiny_volume().spacing_mm}})}
        image = nnia.dump(tiny_volume().array[None])
        sent = post(f"{address}/set_image", content=image, headers={**self.lease, **meta})
        assert sent.status_code == 200, sent.text

    def say(self, path: str, **ask: object) -> np.ndarray | None:
        """Say something; the whole mask, or None if nothing was predicted."""
        reply = post(f"{self.address}/{path}", json=ask, headers=self.lease)
        assert reply.status_code == 200, reply.text
        meta = json.loads(reply.headers["X-Meta"])
        if not meta["ran_prediction"]:
            return None
        assert meta["bbox"] == [[0, n] for n in SHAPE]  # it is not known what the viewer shows
        return nnia.load(reply.content, 2**20).astype(bool)

    def box_and_clicks(self) -> None:
        box = {"bbox_coords": BOX, "include_interaction": True, "run_prediction": False}
        assert self.say("add_bbox_interaction", **box) is None
        for at, include in ((HERE, True), (AWAY, False)):
            ask = {"coordinates": at, "include_interaction": include, "run_prediction": False}
            assert self.say("add_point_interaction", **ask) is None


def answer(clicks: int) -> np.ndarray:
    """The mask of the box and some of the clicks."""
    with Session(tiny_volume(), tiny_model(), device="cpu") as session:
        mask = session.box((3, 4, 6), (8, 13, 6))
        for at, positive in ((HERE, True), (AWAY, False))[:clicks]:
            mask = session.click(at, positive)
        return mask


def stored(store: Path) -> list[Path]:
    return list(store.glob("**/*.waiting"))


def test_it_outlives_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        talk = Talk(address)
        talk.box_and_clicks()
    with serving(tmp_path) as address:
        undone = post(f"{address}/undo", headers=talk.lease)  # the last click, which waited
        assert json.loads(undone.headers["X-Meta"])["ran_prediction"]
    with serving(tmp_path) as talk.address:
        np.testing.assert_array_equal(talk.say("predict"), answer(clicks=1))
        assert stored(tmp_path) == []
        assert talk.say("predict") is None


def test_it_outlives_a_place_that_another_viewer_was_given(tmp_path: Path) -> None:
    clock = Clock()
    with serving(tmp_path, Limits(max_sessions=1), clock=clock) as address:
        talk = Talk(address)
        talk.box_and_clicks()
        clock.now += 10_000
        other = Talk(address)
        assert get(f"{address}/lease_status", headers=talk.lease).json()["remaining_seconds"] == 0
        post(f"{address}/release", headers=other.lease)
        np.testing.assert_array_equal(talk.say("predict"), answer(clicks=2))


def test_what_was_answered_before_a_crash_is_not_answered_again(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        talk = Talk(address)
        talk.box_and_clicks()
        (path,) = stored(tmp_path)
        before = path.read_bytes()
        np.testing.assert_array_equal(talk.say("predict"), answer(clicks=2))
    path.write_bytes(before)  # as if killed between the last step and its deletion
    with serving(tmp_path) as talk.address:
        assert talk.say("predict") is None


def test_what_a_killed_server_had_not_come_to_waits_on(tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        talk = Talk(address)
        talk.box_and_clicks()
        (path,) = stored(tmp_path)
        before = path.read_bytes()
        assert post(f"{address}/undo", headers=talk.lease).status_code == 200
        np.testing.assert_array_equal(talk.say("predict"), answer(clicks=1))
    path.write_bytes(before)  # as if killed in the last of the three
    with serving(tmp_path) as talk.address:
        np.testing.assert_array_equal(talk.say("predict"), answer(clicks=2))


@pytest.mark.parametrize("left", [b"", b"{}", b"[1", b"\xff"])
def test_a_session_goes_on_without_what_cannot_be_read(tmp_path: Path, left: bytes) -> None:
    with serving(tmp_path) as address:
        talk = Talk(address)
        talk.box_and_clicks()
        (path,) = stored(tmp_path)
    path.write_bytes(left)
    with serving(tmp_path) as talk.address:
        assert talk.say("predict") is None
        assert stored(tmp_path) == []


@pytest.mark.parametrize("path", ["release", "set_image"])
def test_nothing_of_it_stays_with_a_session_that_ended(tmp_path: Path, path: str) -> None:
    with serving(tmp_path) as address:
        talk = Talk(address)
        talk.box_and_clicks()
        assert stored(tmp_path)
        image = nnia.dump(tiny_volume().array[None])
        assert post(f"{address}/{path}", content=image, headers=talk.lease).status_code == 200
        assert stored(tmp_path) == []
