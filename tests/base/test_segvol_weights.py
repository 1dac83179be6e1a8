"""Released forms in, one file out; damaged and hostile files refused with nothing run."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from segvol_gru.base.authors import authors_blocks
from segvol_gru.base.segvol import SMALL, SegVol, random_segvol
from segvol_gru.base.weights import POSITION_IDS, import_checkpoint, load_segvol, save_segvol
from segvol_gru.errors import InputError

State = dict[str, Tensor]


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def with_optimizer_state(state: State) -> dict[str, Any]:
    """The released form (a): DataParallel's prefix, optimizer and scheduler state."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "model": prefixed("module.", state),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "scheduler": {"last_epoch": 3, "base_lrs": [1e-4]},
    }


def with_optimizer_objects(state: State) -> dict[str, Any]:
    """As (a), but with the objects themselves and a numpy number."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "model": prefixed("module.", state),
        "optimizer": optimizer,
        "loss": np.float64(0.5),
    }


def flat(state: State) -> dict[str, Any]:
    """The released form (b), with the buffer of old transformers versions."""
    return prefixed("model.", state | {POSITION_IDS: torch.arange(77)[None]})


def segfm(state: State) -> dict[str, Any]:
    """The released form (c)."""
    return {
        "model_state_dict": prefixed("model.", state),
        "optimizer_state_dict": {"state": {}, "param_groups": []},
        "epoch": 2000,
        "loss": 0.2232,
    }


def authors(state: State) -> dict[str, Any]:
    """The authors' form (d); their blocks are one zero repeated, to keep the file small."""
    gru = {
        key: torch.zeros(1).expand(value.shape)
        for key, value in authors_blocks().state_dict().items()
    }
    return segfm(state | gru)


FORMS: dict[str, Callable[[State], dict[str, Any]]] = {
    "SegVol_v1.pth": with_optimizer_state,
    "objects.pth": with_optimizer_objects,
    "pytorch_model.bin": flat,
    "epoch_2000_loss_0.2232.pth": segfm,
    "authors.pth": authors,
}


@pytest.fixture(scope="module")
def model() -> SegVol:
    return random_segvol(SMALL, torch.Generator().manual_seed(5), text=True)


@torch.inference_mode()
def answer(model: SegVol) -> list[Tensor]:
    image = torch.rand(1, 1, *SMALL.image, generator=torch.Generator().manual_seed(0))
    text = None
    if model.text_encoder is not None:
        text = model.text_encoder(torch.tensor([[62, 3, 4, 63]]))
    points = (torch.tensor([[[3.0, 20, 30], [4, 40, 50]]]), torch.tensor([[1, 0]]))
    boxes = torch.tensor([[1.0, 5, 6, 12, 50, 80]])
    embedding = model.encode(image)
    return [embedding, model.decode(embedding, points, boxes, text)]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("text", [True, False])
def test_every_released_form_loads_to_the_same_answers(
    name: str, text: bool, model: SegVol, tmp_path: Path
) -> None:
    state = {k: v for k, v in model.state_dict().items() if text or "text_encoder" not in k}
    path, out = tmp_path / name, tmp_path / "out.safetensors"
    torch.save(FORMS[name](state), path)
    found = import_checkpoint(path, out, SMALL)
    assert found.tensors == len(state)
    assert found.text == text
    assert ("GRU" in found.form) == (name == "authors.pth")
    assert len(found.dropped) == {"authors.pth": 30, "pytorch_model.bin": 1}.get(name, 0)
    again = load_segvol(out)
    buffer = model.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    assert found.parameters == sum(v.numel() for v in state.values()) - buffer.numel()
    assert again.config == SMALL
    wanted = answer(load_reference(state))
    assert all(torch.equal(a, b) for a, b in zip(answer(again), wanted, strict=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "out.safetensors"])


def load_reference(state: State) -> SegVol:
    reference = SegVol(SMALL, text=any("text_encoder" in key for key in state))
    reference.load_state_dict(state, strict=True)
    return reference.eval()


def test_safetensors_of_others_are_imported_too(model: SegVol, tmp_path: Path) -> None:
    path, out = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    save_file(prefixed("model.", model.state_dict()), path)
    assert import_checkpoint(path, out, SMALL).tensors == len(model.state_dict())
    assert load_file(out).keys() == model.state_dict().keys()


def test_half_precision_becomes_float32(model: SegVol, tmp_path: Path) -> None:
    path, out = tmp_path / "half.bin", tmp_path / "out.safetensors"
    torch.save({k: v.half() for k, v in model.state_dict().items()}, path)
    import_checkpoint(path, out, SMALL)
    assert {value.dtype for value in load_file(out).values()} == {torch.float32}


def test_others_may_read_what_was_written(model: SegVol, tmp_path: Path) -> None:
    source, plain = tmp_path / "source.bin", tmp_path / "plain"
    torch.save(model.state_dict(), source)
    plain.touch()
    import_checkpoint(source, tmp_path / "imported.safetensors", SMALL)
    save_segvol(tmp_path / "saved.safetensors", model, "random")
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {plain.stat().st_mode}
    assert len(list(tmp_path.iterdir())) == 4


def test_a_place_that_takes_no_file_is_told_before_reading(tmp_path: Path) -> None:
    absent, place = tmp_path / "absent.pth", tmp_path / "nowhere" / "out.safetensors"
    with pytest.raises(InputError, match="existing, writable folder"):
        import_checkpoint(absent, place, SMALL)
    with pytest.raises(InputError, match="is a folder"):
        import_checkpoint(absent, tmp_path, SMALL)
    assert not list(tmp_path.iterdir())


def test_our_file_can_leave_the_text_tower_out(model: SegVol, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    save_segvol(path, model, "random")
    assert load_segvol(path).text_encoder is not None
    assert load_segvol(path, text=False).text_encoder is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile's own
def test_a_compiled_network_answers_the_same(model: SegVol, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    save_segvol(path, model, "random")
    for ours, plain in zip(answer(load_segvol(path, compiled=True)), answer(model), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)


def broken(state: State) -> State:
    changed = dict(state)
    for key in list(state)[:5]:
        del changed[key]
    changed["extra.weight"] = torch.zeros(1)
    changed["mask_decoder.iou_token.weight"] = torch.zeros(2, SMALL.width)
    return changed


def test_wrong_keys_are_named(model: SegVol, tmp_path: Path) -> None:
    path, out = tmp_path / "wrong.bin", tmp_path / "out.safetensors"
    torch.save(broken(model.state_dict()), path)
    with pytest.raises(InputError) as caught:
        import_checkpoint(path, out, SMALL)
    said = str(caught.value)
    first = list(model.state_dict())[:3]
    assert f"missing: {', '.join(first)} and 2 more" in said
    assert "unexpected: extra.weight" in said
    assert "mis-shaped: mask_decoder.iou_token.weight (2, 48) instead of (1, 48)" in said
    assert not out.exists()


def test_a_checkpoint_of_other_sizes_is_told_apart(model: SegVol, tmp_path: Path) -> None:
    path = tmp_path / "small.bin"
    torch.save(model.state_dict(), path)
    with pytest.raises(InputError, match=r"mis-shaped.*instead of"):
        import_checkpoint(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_off_is_refused(
    kept: float, legacy: bool, model: SegVol, tmp_path: Path
) -> None:
    path, out = tmp_path / "cut.pth", tmp_path / "out.safetensors"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    with pytest.raises(InputError, match=r"cut off|damaged"):
        import_checkpoint(path, out, SMALL)
    assert not out.exists()


def test_a_cut_off_safetensors_file_is_refused(model: SegVol, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_segvol(path, model, "random")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="download it again"):
        import_checkpoint(path, tmp_path / "out.safetensors", SMALL)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_segvol(path)


class Hostile:
    """Makes a folder when unpickled by an unsafe reader."""

    def __init__(self, marker: Path, call: Callable[..., Any] = os.mkdir) -> None:
        self.marker, self.call = marker, call

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return self.call, (str(self.marker),)


def as_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def as_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def as_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle])
@pytest.mark.parametrize("call", [os.mkdir, eval, exec])
@pytest.mark.parametrize("place", ["optimizer", "model", "alone"])
def test_a_file_that_wants_to_run_code_is_refused(
    write: Callable[[object, Path], None],
    call: Callable[..., Any],
    place: str,
    model: SegVol,
    tmp_path: Path,
) -> None:
    marker, path, out = tmp_path / "ran", tmp_path / "evil.pth", tmp_path / "out.safetensors"
    text = marker if call is os.mkdir else Path(f"__import__('os').mkdir({str(marker)!r})")
    hostile = Hostile(text, call)
    states = {
        "optimizer": with_optimizer_state(model.state_dict()) | {"optimizer": hostile},
        "model": {"model": model.state_dict() | {"x": hostile}},
        "alone": hostile,
    }
    write(states[place], path)
    with pytest.raises(InputError, match=r"nothing in it was run"):
        import_checkpoint(path, out, SMALL)
    assert not marker.exists()
    assert not out.exists()


def test_the_hostile_file_would_run_in_an_unsafe_reader(tmp_path: Path) -> None:
    """Without this the test above could pass for a file that does nothing."""
    path = tmp_path / "evil.pth"
    as_zip(Hostile(tmp_path / "ran"), path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_the_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    as_zip({"model": Hostile(tmp_path / "ran")}, path)
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.mkdir, which weights never need"):
        import_checkpoint(path, tmp_path / "out.safetensors", SMALL)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1, 2], "wanted a dict"),
        ({1: torch.zeros(1)}, "wanted a dict"),
        ({}, "no state dict"),
        ({"model": {"epoch": 3}}, "no state dict"),
        (torch.zeros(3), "wanted a dict"),
    ],
)
def test_other_content_is_refused(value: object, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save(value, path)
    with pytest.raises(InputError, match=said):
        import_checkpoint(path, tmp_path / "out.safetensors", SMALL)


def test_numbers_that_are_not_finite_are_refused(model: SegVol, tmp_path: Path) -> None:
    path = tmp_path / "nan.bin"
    state = {key: value.clone() for key, value in model.state_dict().items()}
    state["mask_decoder.iou_token.weight"][0, 0] = torch.nan
    torch.save(state, path)
    with pytest.raises(InputError, match=r"not finite \(mask_decoder.iou_token.weight\)"):
        import_checkpoint(path, tmp_path / "out.safetensors", SMALL)


def test_what_is_not_our_file_is_refused(model: SegVol, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(model.state_dict(), path)
    with pytest.raises(InputError, match="segvol-gru weights import"):
        load_segvol(path)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_segvol(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="there is no file"):
        import_checkpoint(tmp_path / "absent.pth", tmp_path / "out.safetensors")
