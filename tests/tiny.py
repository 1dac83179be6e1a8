"""A model and volumes so small that a prompt takes milliseconds."""

from __future__ import annotations

import numpy as np
import torch

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.correct.field import FieldConfig, FieldCorrector
from segvol_gru.pipeline import Model
from segvol_gru.volume import Volume

WIDTHS = (8, 16, 16, 16)
CELLS = 16
SHAPE = (12, 18, 16)


def tiny_model(seed: int = 0) -> Model:
    """Random weights; its masks mean nothing but are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = CompactBase(CompactConfig(widths=WIDTHS, cells=CELLS))
        corrector = FieldCorrector(FieldConfig(widths=WIDTHS, cells=CELLS, memory_width=8))
    for network in (base, corrector):
        network.eval().requires_grad_(False)
        network.to(memory_format=torch.channels_last_3d)  # as `load_model` does
    return Model(base, corrector, f"{seed:064x}")


def tiny_volume(seed: int = 0) -> Volume:
    """A bright ball in noise, (12, 18, 16) voxels of 2 x 1 x 1 mm, 16-bit integers."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:12, :18, :16]
    ball = (2 * (z - 6)) ** 2 + (y - 9) ** 2 + (x - 8) ** 2 < 30
    array = 40 * ball + rng.integers(0, 20, SHAPE)
    return Volume(array.astype(np.int16), spacing=(2.0, 1.0, 1.0))
