"""Fixtures for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny import tiny_model, tiny_volume

from segvol_gru.pipeline import Model
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

# Tests compare bits with servers and killed processes of one thread; sums over two round otherwise.
torch.set_num_threads(1)


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
