"""Fixtures for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from tiny import tiny_model, tiny_volume

from segvol_gru.pipeline import Model
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

# Tests compare bits with those of programs they start, and sums over two threads round otherwise.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # for the programs that tests start


@pytest.fixture(scope="session")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="session")
def volume() -> Volume:
    return tiny_volume()


@pytest.fixture
def session(volume: Volume, model: Model) -> Iterator[Session]:
    with Session(volume, model, device="cpu") as live:
        yield live
