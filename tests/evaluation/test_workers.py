"""Work in processes: all of it comes back, and the processes share the cores."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from segvol_gru.evaluation import workers
from segvol_gru.evaluation.workers import THREADS, spread


def make() -> str:
    return os.environ.get(THREADS, "all")


def do(tool: str, piece: int) -> Iterator[tuple[int, str]]:
    yield piece, tool


@pytest.mark.parametrize(("asked", "wanted"), [(None, "3"), ("5", "5")])
def test_processes_share_the_cores_unless_told_otherwise(
    asked: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.os, "cpu_count", lambda: 6)
    monkeypatch.delenv(THREADS, raising=False)
    if asked is not None:
        monkeypatch.setenv(THREADS, asked)
    found = sorted(spread([1, 2, 3], make, do, 2))
    assert found == [(1, wanted), (2, wanted), (3, wanted)]
    assert os.environ.get(THREADS) == asked


def test_one_worker_has_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS, raising=False)
    assert list(spread([4], make, do, 1)) == [(4, "all")]
