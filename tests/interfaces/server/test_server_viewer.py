"""The real nninteractive-client 2.6.0 against a live server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import numpy as np
import pytest
from live import post, serving
from nnInteractive.inference.remote import (
    ServerAtCapacityError,
    SessionExpiredError,
    nnInteractiveRemoteInferenceSession,
)
from numpy.typing import NDArray
from tiny import tiny_model, tiny_volume

from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.session.session import Session

Viewer = nnInteractiveRemoteInferenceSession
BOX = [[3, 9], [4, 14], [4, 13]]  # half-open: (3, 4, 4) to (8, 13, 12)
SLICE = [[6, 7], [4, 14], [4, 13]]


def connected(address: str) -> tuple[Viewer, NDArray[np.uint8]]:
    """What the Slicer extension does on "Initialize"."""
    viewer, volume = Viewer(address), tiny_volume()
    viewer.set_do_autozoom(True)
    viewer.set_image(volume.array[None], {"spacing": list(volume.spacing_mm)})
    buffer = np.zeros(volume.shape, np.uint8)
    viewer.set_target_buffer(buffer)
    viewer.reset_interactions()
    return viewer, buffer


@pytest.fixture
def viewer(address: str) -> Iterator[tuple[Viewer, NDArray[np.uint8]]]:
    live, buffer = connected(address)
    yield live, buffer
    live.close()


@pytest.fixture
def local() -> Iterator[Session]:
    with Session(tiny_volume(), tiny_model(), device="cpu") as session:
        yield session


def test_the_client_is_the_release_that_viewers_ship() -> None:
    assert version("nninteractive-client") == "2.6.0"


def test_box_clicks_undo_reset_second_object(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    changed = live.add_bbox_interaction(BOX, include_interaction=True)
    first = local.box((3, 4, 4), (8, 13, 12))
    np.testing.assert_array_equal(buffer, first)
    assert all(0 <= a < b <= n for (a, b), n in zip(changed, buffer.shape, strict=True))
    live.add_point_interaction((6, 9, 8), include_interaction=True)
    np.testing.assert_array_equal(buffer, local.click((6, 9, 8)))
    live.add_point_interaction((1.2, 0.8, 1.0), include_interaction=False)
    np.testing.assert_array_equal(buffer, local.click((1, 1, 1), positive=False))

    assert [live.undo(), live.undo()] == [True, True]
    np.testing.assert_array_equal(buffer, first)
    assert live.undo() is True
    assert not buffer.any()
    assert live.undo() is False

    live.reset_interactions()
    live.add_point_interaction((2, 3, 4), include_interaction=True)
    local.add_object("second")
    np.testing.assert_array_equal(buffer, local.click((2, 3, 4)))


def test_coming_back_to_an_object_revives_its_memory_and_history(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    live.add_bbox_interaction(BOX, include_interaction=True)
    live.add_point_interaction((6, 9, 8), include_interaction=True)
    kept = buffer.copy()
    live.reset_interactions()
    live.add_point_interaction((2, 3, 4), include_interaction=True)
    live.reset_interactions()
    live.add_initial_seg_interaction(kept)
    np.testing.assert_array_equal(buffer, kept)
    live.add_point_interaction((1, 1, 1), include_interaction=False)
    local.box((3, 4, 4), (8, 13, 12))
    local.click((6, 9, 8))
    expected = local.click((1, 1, 1), positive=False)
    np.testing.assert_array_equal(buffer, expected)
    assert [live.undo(), live.undo(), live.undo(), live.undo()] == [True] * 3 + [False]


def test_a_mask_that_was_undone_is_taken_as_it_is_sent(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    live.add_bbox_interaction(BOX, include_interaction=True)
    kept = buffer.copy()
    assert live.undo() is True
    live.add_initial_seg_interaction(kept)
    np.testing.assert_array_equal(buffer, kept)
    live.add_point_interaction((6, 9, 8), include_interaction=True)
    local.start(kept.astype(bool))
    np.testing.assert_array_equal(buffer, local.click((6, 9, 8)))


def test_undo_of_a_mask_from_elsewhere_brings_back_the_mask_before(
    viewer: tuple[Viewer, NDArray[np.uint8]],
) -> None:
    live, buffer = viewer
    live.add_bbox_interaction(BOX, include_interaction=True)
    kept = buffer.copy()
    mask = (tiny_volume().array > 45).astype(np.uint8)
    live.add_initial_seg_interaction(mask)
    np.testing.assert_array_equal(buffer, mask)
    assert live.undo() is True
    np.testing.assert_array_equal(buffer, kept)
    assert [live.undo(), live.undo()] == [True, False]
    assert not buffer.any()


def test_a_mask_from_elsewhere_is_gone_on_with(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    mask = tiny_volume().array > 45
    live.add_initial_seg_interaction(mask.astype(np.uint8))
    live.add_point_interaction((6, 9, 8), include_interaction=True)
    local.start(mask)
    np.testing.assert_array_equal(buffer, local.click((6, 9, 8)))


def test_a_box_on_a_slice_is_given_a_depth_and_may_reach_beyond_the_image(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    live.add_bbox_interaction(SLICE, include_interaction=True)
    np.testing.assert_array_equal(buffer, local.box((6, 4, 4), (6, 13, 12)))
    live.add_bbox_interaction([[-3, 9], [4, 99], [4, 13]], include_interaction=True)
    np.testing.assert_array_equal(buffer, local.box((0, 4, 4), (8, 17, 12)))


def test_queued_prompts_are_all_said_by_predict(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    live.add_bbox_interaction(BOX, include_interaction=True, run_prediction=False)
    live.add_point_interaction((6, 9, 8), include_interaction=True, run_prediction=False)
    assert not buffer.any()
    assert live._predict() is not None
    local.box((3, 4, 4), (8, 13, 12))
    np.testing.assert_array_equal(buffer, local.click((6, 9, 8)))
    assert live._predict() is None


def test_a_point_that_cannot_be_used_leaves_the_queue_as_it_is(
    viewer: tuple[Viewer, NDArray[np.uint8]], local: Session
) -> None:
    live, buffer = viewer
    live.add_point_interaction((6, 9, 8), include_interaction=True, run_prediction=False)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        live.add_point_interaction((11.5, 9, 8), include_interaction=True, run_prediction=False)
    assert refused.value.response.status_code == 400
    assert "(12, 9, 8), outside" in refused.value.response.json()["detail"]
    live.add_point_interaction((6, 5, 8), include_interaction=True, run_prediction=False)
    assert live._predict() is not None
    local.click((6, 9, 8))
    np.testing.assert_array_equal(buffer, local.click((6, 5, 8)))


def test_tools_that_we_lack_are_hidden_and_refused_with_a_sentence(
    viewer: tuple[Viewer, NDArray[np.uint8]],
) -> None:
    live, buffer = viewer
    tools = live.supported_interactions
    assert (tools["points"], tools["bbox2d"], tools["bbox3d"]) == (True, True, True)
    assert (tools["scribble"], tools["lasso"]) == (False, False)
    assert live.supports_undo
    with pytest.raises(httpx.HTTPStatusError) as refused:
        live.add_scribble_interaction(
            np.ones_like(buffer), include_interaction=True, override_capability_checks=True
        )
    assert "click a point" in refused.value.response.json()["detail"]


@pytest.mark.parametrize(
    ("box", "include", "words"),
    [
        ([[3, 3], [4, 14], [4, 13]], True, "no voxel"),
        ([[50, 60], [4, 14], [4, 13]], True, "no voxel"),
        (BOX, False, "to remove, click"),
    ],
)
def test_a_box_that_cannot_be_used_changes_nothing(
    viewer: tuple[Viewer, NDArray[np.uint8]], box: list[list[int]], include: bool, words: str
) -> None:
    live, buffer = viewer
    live.add_point_interaction((6, 9, 8), include_interaction=True)
    before = buffer.copy()
    with pytest.raises(httpx.HTTPStatusError) as refused:
        live.add_bbox_interaction(box, include_interaction=include)
    assert refused.value.response.status_code == 400
    assert words in refused.value.response.json()["detail"]
    np.testing.assert_array_equal(buffer, before)
    assert [live.undo(), live.undo()] == [True, False]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.uint8, np.float32, np.float64, bool])
def test_images_of_any_real_type_are_taken(address: str, dtype: type) -> None:
    array = tiny_volume().array.astype(dtype)
    with Viewer(address) as live:
        live.set_image(array[None])
        buffer = np.zeros(array.shape, np.uint8)
        live.set_target_buffer(buffer)
        live.add_bbox_interaction(BOX, include_interaction=True)
        assert buffer.any()


def test_a_flat_image_is_taken(address: str) -> None:
    array = tiny_volume().array[6:7]
    with Viewer(address) as live:
        live.set_image(array[None])
        buffer = np.zeros(array.shape, np.uint8)
        live.set_target_buffer(buffer)
        live.add_bbox_interaction([[0, 1], [4, 14], [4, 13]], include_interaction=True)
        live.add_point_interaction((0, 9, 8), include_interaction=True)
        assert buffer[0, 9, 8] == 1


def test_a_lease_that_was_released_is_over(address: str) -> None:
    live, _ = connected(address)
    assert live.ping()
    assert 0 < live.lease_status()["remaining_seconds"] <= live.idle_timeout_seconds
    assert live.heartbeat() > 0
    assert live._http.post("/release").json() == {"released": True}
    with pytest.raises(SessionExpiredError):
        live.add_point_interaction((6, 9, 8), include_interaction=True)
    live.close()


@pytest.mark.filterwarnings("ignore:.*socket")  # a refused client leaves its own one open
def test_a_full_server_says_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, Limits(max_sessions=1)) as address:
        live, _ = connected(address)
        with pytest.raises(ServerAtCapacityError):
            Viewer(address)
        gc.collect()
        reply = post(f"{address}/claim")
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "10")
        live.close()
        Viewer(address).close()


def test_a_viewer_goes_on_after_the_server_was_restarted(tmp_path: Path, local: Session) -> None:
    with serving(tmp_path) as address:
        live, buffer = connected(address)
        live.add_bbox_interaction(BOX, include_interaction=True)
    with serving(tmp_path) as address:
        live._http.base_url = httpx.URL(address)
        live.add_point_interaction((6, 9, 8), include_interaction=True)
        local.box((3, 4, 4), (8, 13, 12))
        np.testing.assert_array_equal(buffer, local.click((6, 9, 8)))
        live.close()
