"""Two servers on one store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from live import Clock, begun, running
from tiny import tiny_volume

from segvol_gru.interfaces.server.refusals import Unknown, Unopened


def test_an_image_for_a_session_that_ended_elsewhere_leaves_no_journal(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as one, running(tmp_path) as other:
            token = await begun(one)
            await other.release(token)
            with pytest.raises(Unknown):
                await one.load(token, tiny_volume(1))
        assert list((tmp_path / "journals").iterdir()) == []

    asyncio.run(play())


def test_what_another_server_did_to_a_session_is_noticed(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path, max_sessions=1) as one, running(tmp_path) as other:
            token = await one.claim("api")
            await other.load(token, tiny_volume(1))
            with pytest.raises(Unopened, match="in use"):
                await one.ask(token, lambda session: session.cursor)
            assert one.open_sessions == 0  # it holds no place that it cannot use
            other_array = tiny_volume(1).array
        async with running(tmp_path) as one:
            array = await one.ask(token, lambda session: session.volume.array)
            np.testing.assert_array_equal(array, other_array)

    asyncio.run(play())


def test_a_session_that_another_server_ended_is_unknown(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as one, running(tmp_path) as other:
            token = await one.claim("api")
            await other.release(token)
            with pytest.raises(Unknown):
                await one.ask(token, lambda session: session.cursor)
            assert one.open_sessions == 0

    asyncio.run(play())


def test_a_session_in_use_is_not_stale_for_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        clock = Clock()
        monkeypatch.setattr(time, "time", clock)
        async with running(tmp_path, clock, keep_s=30) as one, running(tmp_path) as other:
            await begun(one)
            clock.now = 25.0
            await one.reap()
            clock.now = 50.0
            assert other._index.stale(30) == []
            assert len(other._index.stale(20)) == 1

    asyncio.run(play())


def test_an_image_that_another_server_has_replaced_leaves_no_journal(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as one, running(tmp_path) as other:
            token = await one.claim("api")
            await other.load(token, tiny_volume(1))
            await one.load(token, tiny_volume(2))
            await one.release(token)
            assert not any((tmp_path / "journals").iterdir())

    asyncio.run(play())
