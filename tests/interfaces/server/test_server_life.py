"""What a server does beside the requests, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.types import Message
from tiny import tiny_model, tiny_volume

from segvol_gru.interfaces.server import app as app_module
from segvol_gru.interfaces.server import service as service_module
from segvol_gru.interfaces.server.app import make_app
from segvol_gru.interfaces.server.index import Index
from segvol_gru.interfaces.server.service import Service


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(app_module, "REAP_S", 0.01)
    return Service(tiny_model(), tmp_path / "journals", Index(f"sqlite:///{tmp_path / 'index.db'}"))


@asynccontextmanager
async def alive(service: Service) -> AsyncIterator[None]:
    """From the start of the application to its end, as uvicorn says them."""
    said: asyncio.Queue[Message] = asyncio.Queue()
    heard: asyncio.Queue[Message] = asyncio.Queue()
    app = make_app(service)
    task = asyncio.create_task(app({"type": "lifespan"}, said.get, heard.put))
    await said.put({"type": "lifespan.startup"})
    assert (await heard.get())["type"] == "lifespan.startup.complete"
    yield
    await said.put({"type": "lifespan.shutdown"})
    assert (await heard.get())["type"] == "lifespan.shutdown.complete"
    await task


def test_a_round_of_housekeeping_that_fails_is_not_the_last(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def play() -> None:
        rounds, enough = 0, asyncio.Event()

        async def reap() -> None:
            nonlocal rounds
            rounds += 1
            if rounds == 1:
                raise FileNotFoundError("journals")
            enough.set()

        monkeypatch.setattr(service, "reap", reap)
        async with alive(service):
            await asyncio.wait_for(enough.wait(), 20)

    asyncio.run(play())
    assert "FileNotFoundError: journals" in caplog.text


def test_memory_goes_back_to_the_system(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        loop, given = asyncio.get_running_loop(), asyncio.Event()
        give = lambda: loop.call_soon_threadsafe(given.set)  # noqa: E731
        monkeypatch.setattr(service_module, "give_memory_back", give)
        async with alive(service):
            await asyncio.wait_for(given.wait(), 20)

    asyncio.run(play())


@pytest.mark.parametrize("failing", ["reap", "warm_up"])
def test_whatever_failed_the_sessions_are_closed_at_the_end(
    service: Service,
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def play() -> None:
        failed = asyncio.Event()

        async def fail() -> None:
            failed.set()
            raise RuntimeError("no such luck")

        monkeypatch.setattr(service, failing, fail)
        async with alive(service):
            token = await service.claim("api")
            await service.load(token, tiny_volume())
            await asyncio.wait_for(failed.wait(), 20)
        assert service.open_sessions == 0

    asyncio.run(play())
    assert "RuntimeError: no such luck" in caplog.text
