"""Prompts that consist of clicks alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from segvol_gru.prompt_maps import CellPrompts

Clicks = Sequence[tuple[Sequence[float], int]]


def of_clicks(*items: Clicks) -> CellPrompts:
    """One item per argument: a list of ((z, y, x) in cells, label); all of the same length."""
    points = torch.tensor([[at for at, _ in clicks] for clicks in items], dtype=torch.float32)
    labels = torch.tensor([[label for _, label in clicks] for clicks in items], dtype=torch.int64)
    return CellPrompts(
        points=points.reshape(len(items), -1, 3),
        labels=labels,
        box=torch.full((len(items), 6), torch.nan),
        tight=torch.zeros(len(items)),
        cell_mm=torch.ones(len(items), 3),
    )


@pytest.fixture(scope="session")
def prompts() -> Callable[..., CellPrompts]:
    return of_clicks
