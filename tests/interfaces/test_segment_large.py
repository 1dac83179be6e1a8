"""`segment --base segvol`: the same prompts through the command and the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import segvol_gru as sg
from segvol_gru.base.segvol import SegVolConfig, random_segvol
from segvol_gru.base.text import save_vectors
from segvol_gru.base.weights import save_segvol
from segvol_gru.data.io import read_mask, read_volume
from segvol_gru.interfaces.cli import app

BOX = "4,5,6,15,17,20"
CORNERS = ((4, 5, 6), (15, 17, 20))
SIZES = SegVolConfig(
    width=16,
    image=(8, 16, 16),
    patch=(2, 4, 4),
    encoder_layers=1,
    encoder_heads=2,
    encoder_hidden=16,
    decoder_layers=1,
    decoder_heads=2,
    decoder_hidden=16,
    iou_hidden=8,
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SegVol shrunk, with random weights large enough that prompts make a difference."""
    network = random_segvol(SIZES, torch.Generator().manual_seed(3))
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "norm" not in name and value.ndim > 1:
                value.mul_(5)
    path = tmp_path_factory.mktemp("segvol") / "segvol.safetensors"
    save_segvol(path, network, "random")
    return path


@pytest.fixture(scope="module")
def words(weights: Path) -> Path:
    row = torch.randn(1, SIZES.width, generator=torch.Generator().manual_seed(1)) * 3
    path = weights.with_name("words.safetensors")
    save_vectors(path, {"liver": row})
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["segment", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("prompts", "text", "compat"),
    [
        (("--box", BOX), None, False),
        (("--click", "9,9,12,+", "--click", "5,6,8,-"), None, False),
        (("--box", BOX, "--click", "9,9,12,+", "--click", "5,6,8,-"), None, False),
        ((), "liver", False),
        (("--box", BOX), "liver", False),
        (("--box", BOX, "--click", "9,9,12,+"), None, True),
    ],
)
def test_the_command_gives_the_sessions_mask(
    tiny_model: Path,
    image: Path,
    tmp_path: Path,
    weights: Path,
    words: Path,
    prompts: tuple[str, ...],
    text: str | None,
    compat: bool,
) -> None:
    out = tmp_path / "mask.nii.gz"
    more = () if text is None else ("--text", text, "--text-source", words)
    more += ("--compat",) if compat else ()
    code, shown, _ = run(
        *(image, *prompts, *more, "--base", "segvol", "--weights", weights),
        *("--model", tiny_model, "--out", out),
    )
    assert code == 0
    model = sg.load_model(
        tiny_model,
        base="segvol",
        weights=weights,
        text=None if text is None else (text, words),
        compat=compat,
    )
    volume = read_volume(image)
    with sg.Session(volume, model) as session:
        mask = session.mask
        if "--box" in prompts:
            mask = session.box(*CORNERS)
        if "9,9,12,+" in prompts:
            mask = session.click((9, 9, 12))
        if "5,6,8,-" in prompts:
            mask = session.click((5, 6, 8), positive=False)
        if not prompts:
            mask = session.find()
    assert mask.any()
    assert np.array_equal(read_mask(out, volume) > 0, mask)
    assert f"{int(mask.sum()):,}" in shown
    assert "SegVol" not in shown  # progress goes to standard error


def test_a_session_file_of_segvol_is_opened_with_its_model(
    tiny_model: Path, image: Path, tmp_path: Path, weights: Path
) -> None:
    saved, out = tmp_path / "s.sgs", tmp_path / "mask.nii.gz"
    code, _, _ = run(
        *(image, "--box", BOX, "--base", "segvol", "--weights", weights, "--model", tiny_model),
        *("--out", out, "--session", saved),
    )
    assert code == 0
    model = sg.load_model(tiny_model, base="segvol", weights=weights)
    with sg.Session.load(saved, model) as session:
        assert np.array_equal(session.mask, read_mask(out, session.volume) > 0)
        assert session.click((9, 9, 12))[9, 9, 12]


def test_a_mask_and_segvol_are_one_beginning_too_many(
    tiny_model: Path, image: Path, tmp_path: Path, weights: Path
) -> None:
    code, _, said = run(
        *(image, "--mask", image, "--base", "segvol", "--weights", weights),
        *("--model", tiny_model, "--out", tmp_path / "mask.nii.gz"),
    )
    assert code == 2
    assert "leave it out" in said
