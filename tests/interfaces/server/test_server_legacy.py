"""The older wire of the Slicer extension, and what clients of the wrong generation are told."""

from __future__ import annotations

import numpy as np
import pytest
from live import post
from old_slicer import OldSlicer
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.interfaces.server.legacy import NO_IMAGE
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

OK = {"status": "ok"}
UNPLACED = Volume(tiny_volume().array, (1.0, 1.0, 1.0))  # that client sends no spacing


@pytest.fixture
def slicer(address: str) -> OldSlicer:
    return OldSlicer(f"{address}/legacy/alice", SHAPE)


def test_prompts_give_the_masks_of_a_session(slicer: OldSlicer) -> None:
    volume = tiny_volume()
    assert slicer.upload_image(volume.array) == OK
    assert slicer.upload_segment(np.zeros(SHAPE, bool)) == OK
    with Session(UNPLACED, tiny_model(), device="cpu") as local:
        first = slicer.box((6, 13, 12), (6, 4, 4))
        np.testing.assert_array_equal(first, local.box((6, 4, 4), (6, 13, 12)))
        np.testing.assert_array_equal(slicer.point((6, 9, 8)), local.click((6, 9, 8)))
        assert slicer.upload_segment(np.zeros(SHAPE, bool)) == OK
        local.add_object("second")
        mask = volume.array > 45
        assert slicer.upload_segment(mask) == OK
        local.start(mask)
        second = slicer.point((1, 1, 1), positive=False)
        np.testing.assert_array_equal(second, local.click((1, 1, 1), positive=False))


def test_corners_outside_the_image_are_cut(slicer: OldSlicer) -> None:
    slicer.upload_image(tiny_volume().array)
    with Session(UNPLACED, tiny_model(), device="cpu") as local:
        mask = slicer.box((6, -20, 4), (6, 40, 12))
        np.testing.assert_array_equal(mask, local.box((6, 0, 4), (6, 17, 12)))


def test_names_do_not_share_an_image(address: str, slicer: OldSlicer) -> None:
    slicer.upload_image(tiny_volume().array)
    bob = OldSlicer(f"{address}/legacy/bob", SHAPE)
    said = bob.post("add_point_interaction", {"voxel_coord": [1, 1, 1], "positive_click": True})
    assert NO_IMAGE in said.json()["message"]


def test_strokes_are_refused_with_a_sentence_that_is_shown(slicer: OldSlicer) -> None:
    said = slicer.post("add_scribble_interaction", {})
    assert said.status_code == 200
    assert "click a point" in said.json()["message"]


@pytest.mark.parametrize(
    "data", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O', }"]
)
def test_a_damaged_image_is_refused(address: str, data: bytes) -> None:
    said = post(f"{address}/legacy/alice/upload_image", files={"file": ("v.npy", data)})
    assert "no usable .npy" in said.json()["message"]


def test_an_array_that_claims_too_much_is_refused(address: str) -> None:
    head = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999, 99999, 99999), }"
    data = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
    said = post(f"{address}/legacy/alice/upload_image", files={"file": ("v.npy", data)})
    assert "no usable .npy" in said.json()["message"]


def test_an_old_client_at_the_new_address_is_told_where_to_go(address: str) -> None:
    said = OldSlicer(address, SHAPE).upload_image(tiny_volume().array)
    assert f"{address}/legacy/YOUR-NAME" in said["message"]
    point = OldSlicer(address, SHAPE).post("add_point_interaction", {"voxel_coord": [1, 1, 1]})
    assert point.status_code == 410
    assert "/legacy/NAME" in point.json()["detail"]


def test_a_new_client_at_the_old_address_is_told_where_to_go(address: str) -> None:
    said = post(f"{address}/legacy/alice/claim")
    assert said.status_code == 409
    assert said.json()["detail"].endswith(f"newer viewers connect to {address}/")
