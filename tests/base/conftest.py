from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from segvol_gru.base.segvol import SMALL, SegVol, random_segvol

SHARED = Path(__file__).resolve().parents[3] / "shared"

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with specifications and golden vectors of the reference."""
    if not SHARED.is_dir():
        pytest.skip("the golden files (../shared) are not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def network(shared: Path) -> Arrays:
    with np.load(shared / "goldens" / "segvol" / "network.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def pipeline(shared: Path) -> Arrays:
    with np.load(shared / "goldens" / "segvol" / "pipeline.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def golden_model(shared: Path) -> SegVol:
    model = SegVol(SMALL)
    path = shared / "goldens" / "segvol" / "state_dict.pt"
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return model.eval()


@pytest.fixture(scope="session")
def small_model() -> SegVol:
    """Random weights, large enough that prompts make a difference."""
    model = random_segvol(SMALL, torch.Generator().manual_seed(3))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" not in name and value.ndim > 1:
                value.mul_(5)
    return model
