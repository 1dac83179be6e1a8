"""Weights on disk: the same network, the same file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny import tiny_model

from segvol_gru.pretrained import read_card, save_network


def test_a_network_written_twice_is_the_same_file(tmp_path: Path) -> None:
    """The library shuffles what a header says anew at every call."""
    base = tiny_model().base
    path, written = tmp_path / "base.safetensors", set()
    for _ in range(8):
        save_network(path, base, base.config.to_dict(), "# card: naïve\n")
        written.add(path.read_bytes())
    assert len(written) == 1
    assert read_card(path) == "# card: naïve\n"
    tensors = load_file(path)
    for name, value in base.state_dict().items():
        assert torch.equal(tensors[name], value.half()), name
