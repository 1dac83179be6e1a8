"""A network can learn one case by heart, and then segments it."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch.utils.data import Dataset, default_collate

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.correct.field import FieldConfig, FieldCorrector
from segvol_gru.training.config import LoopConfig
from segvol_gru.training.draw import Example, ExampleConfig
from segvol_gru.training.examples import Examples
from segvol_gru.training.loop import fit
from segvol_gru.training.program import Turn
from segvol_gru.training.rounds import Rounds, RoundsConfig, start_field_from_base

CELLS, WIDTHS, BLOCKS = 32, (16, 24, 24, 24), (1, 1, 1, 1)
BOX_ONLY = ExampleConfig(cells=CELLS, synthetic_share=1.0, starts=(1, 0, 0, 0))


class OneCase(Dataset[Example]):
    """The same phantom at every index; only the clicks differ."""

    def __init__(self) -> None:
        self.example = Examples([], BOX_ONLY, seed=11, length=1)[0]

    def __getitem__(self, index: int) -> Example:
        return {**self.example, "index": torch.tensor(index)}


def learn(model: Rounds, steps: int, out: Path) -> Rounds:
    config = LoopConfig(steps=steps, batch=1, lr=4e-3, warmup=5, ema=0.9)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return cast(Rounds, fit(model, OneCase(), config, out, fabric, workers=0).networks)


def dice_of(model: Rounds) -> tuple[float, ...]:
    with torch.no_grad():
        batch = default_collate([OneCase()[10**6]])
        return model(batch, Turn(0, 1, np.random.default_rng(0))).dice


@pytest.mark.slow
def test_one_phantom_is_learnt_by_heart(tmp_path: Path) -> None:
    """The base from its box, then the corrector from corrupted masks and a click."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        base = CompactBase(CompactConfig(WIDTHS, BLOCKS, 1, 8, CELLS))
        field = FieldCorrector(FieldConfig(WIDTHS, BLOCKS, 1, 8, 8, CELLS))
    alone = learn(Rounds(base, None, RoundsConfig(reprompt_share=0)), 260, tmp_path / "base")
    assert dice_of(alone)[0] >= 0.98
    start_field_from_base(field, alone.base)
    rounds = RoundsConfig(weights=(0, 1), corrupted_share=1.0, base_share=0.0)
    both = learn(Rounds(alone.base.requires_grad_(True), field, rounds), 160, tmp_path / "field")
    box, corrupted_then_clicked = dice_of(both)
    assert min(box, corrupted_then_clicked) >= 0.98
