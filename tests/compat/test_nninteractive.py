"""The adapter, and that one set of prompts gives one mask through every door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_volume

from segvol_gru.compat.nninteractive import nnInteractiveInferenceSession
from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire_nninteractive import CAPABILITIES
from segvol_gru.pretrained import model_folder, save_network
from segvol_gru.session.session import Session

BOX = [[3, 9], [4, 14], [4, 13]]


@pytest.fixture
def adapter() -> Iterator[nnInteractiveInferenceSession]:
    session = nnInteractiveInferenceSession(
        torch.device("cpu"), model=tiny_model(), torch_n_threads=8
    )
    session.set_image(tiny_volume().array[None], {"spacing": tiny_volume().spacing_mm})
    yield session
    session.close()


@pytest.mark.parametrize(
    "buffer", [np.zeros((12, 18, 16), np.uint8), torch.zeros((12, 18, 16), dtype=torch.uint8)]
)
def test_results_are_pasted_into_the_callers_buffer(
    adapter: nnInteractiveInferenceSession, buffer: np.ndarray | torch.Tensor
) -> None:
    with Session(tiny_volume(), tiny_model(), device="cpu") as local:
        adapter.set_target_buffer(buffer)
        changed = adapter.add_bbox_interaction(BOX, include_interaction=True)
        first = local.box((3, 4, 4), (8, 13, 12))
        np.testing.assert_array_equal(np.asarray(buffer), first)
        assert changed is not None
        z, y, x = (slice(*pair) for pair in changed)
        outside = first.copy()
        outside[z, y, x] = False
        assert not outside.any()
        adapter.add_point_interaction((6, 9, 8), include_interaction=True)
        np.testing.assert_array_equal(np.asarray(buffer), local.click((6, 9, 8)))
        kept = np.asarray(buffer).copy()
        adapter.reset_interactions()
        assert not np.asarray(buffer).any()
        adapter.add_initial_seg_interaction(kept)
        np.testing.assert_array_equal(np.asarray(buffer), kept)
        assert [adapter.undo(), adapter.undo(), adapter.undo()] == [True, True, False]
        assert not np.asarray(buffer).any()


def test_queued_prompts_wait(adapter: nnInteractiveInferenceSession) -> None:
    buffer = np.zeros((12, 18, 16), np.uint8)
    adapter.set_target_buffer(buffer)
    adapter.add_bbox_interaction(BOX, include_interaction=True, run_prediction=False)
    assert not buffer.any()
    assert adapter._predict() is not None
    assert adapter.inner.history


def test_undo_of_an_initial_mask_brings_back_the_mask_before(
    adapter: nnInteractiveInferenceSession,
) -> None:
    buffer = np.zeros((12, 18, 16), np.uint8)
    adapter.set_target_buffer(buffer)
    adapter.add_bbox_interaction(BOX, include_interaction=True)
    kept = buffer.copy()
    adapter.add_initial_seg_interaction(tiny_volume().array > 45)
    assert adapter.undo()
    np.testing.assert_array_equal(buffer, kept)


def test_attributes_that_guis_read(adapter: nnInteractiveInferenceSession) -> None:
    for name in ("channel_mapping", "num_interaction_channels", "interaction_decay"):
        assert getattr(adapter, name) == CAPABILITIES[name]
    adapter.set_target_buffer(np.zeros((12, 18, 16), np.uint8))
    assert adapter._last_paste_bbox is None
    changed = adapter.add_bbox_interaction(BOX, include_interaction=True)
    assert adapter._last_paste_bbox == changed is not None
    assert adapter.add_point_interaction((6, 9, 8), True, run_prediction=False) is None
    assert adapter._last_paste_bbox is None
    assert [adapter.undo(), adapter.undo()] == [True, True]
    assert adapter._last_paste_bbox == changed
    assert adapter.undo() is False
    assert adapter._last_paste_bbox is None


def test_the_licence_is_that_of_the_weights(
    adapter: nnInteractiveInferenceSession, tmp_path: Path
) -> None:
    text = (model_folder("default") / "LICENSE").read_text(encoding="utf-8")
    shown = nnInteractiveInferenceSession("cpu").license
    assert shown == "CC BY-SA 4.0"
    assert f"({shown})" in text
    assert adapter.license == "!!MISSING!!"  # a model from memory has no card
    for card, licence in (("Licence of the weights: none.\n", "none"), ("", "!!MISSING!!")):
        base = tiny_model().base
        save_network(tmp_path / "base.safetensors", base, base.config.to_dict(), card)
        adapter.initialize_from_trained_model_folder(tmp_path)
        assert adapter.license == licence


def test_what_cannot_be_done_is_said(adapter: nnInteractiveInferenceSession) -> None:
    with pytest.raises(InputError, match="no target buffer"):
        adapter.undo()
    with pytest.raises(InputError, match="the image's"):
        adapter.set_target_buffer(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(InputError, match="click a point"):
        adapter.add_lasso_interaction(np.zeros((2, 2, 2)), include_interaction=True)
    with pytest.raises(InputError, match="one channel"):
        adapter.set_image(np.zeros((3, 4, 4, 4)))
    with pytest.raises(InputError, match="no image yet"):
        nnInteractiveInferenceSession("cpu").set_target_buffer(np.zeros((2, 2, 2)))
    adapter.set_target_buffer(np.zeros((12, 18, 16), np.uint8))
    with pytest.raises(InputError, match="outside the volume"):
        adapter.add_point_interaction((99, 1, 1), include_interaction=True)


def test_queued_prompts_wait_for_the_buffer_too(adapter: nnInteractiveInferenceSession) -> None:
    adapter.set_target_buffer(np.zeros((12, 18, 16), np.uint8))
    adapter.add_bbox_interaction(BOX, include_interaction=True, run_prediction=False)
    buffer = np.zeros((12, 18, 16), np.uint8)
    adapter.set_target_buffer(buffer)
    assert adapter._predict() is not None
    with Session(tiny_volume(), tiny_model(), device="cpu") as local:
        np.testing.assert_array_equal(buffer, local.box((3, 4, 4), (8, 13, 12)))
