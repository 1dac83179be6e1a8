"""A live server on loopback over a tiny model, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from tiny import tiny_model, tiny_volume

from segvol_gru.interfaces.server.app import make_app
from segvol_gru.interfaces.server.guard import Gate
from segvol_gru.interfaces.server.index import Index
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.service import Service

WAIT_S = 60.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def serving(
    store: Path,
    limits: Limits | None = None,
    gate: Gate | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[str]:
    """A server on a store, in a thread of this process; yields its address."""
    store.mkdir(parents=True, exist_ok=True)
    index = Index(f"sqlite:///{store / 'index.db'}")
    service = Service(tiny_model(), store / "journals", index, limits, clock=clock)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as `serve` does
    config = uvicorn.Config(make_app(service, gate), access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        assert not thread.is_alive()


@asynccontextmanager
async def running(store: Path, clock: Clock | None = None, **limits: Any) -> AsyncIterator[Service]:
    """A service on a store, without HTTP."""
    store.mkdir(exist_ok=True)
    index = Index(f"sqlite:///{store / 'index.db'}")
    model, clock = tiny_model(), clock or time.monotonic
    service = Service(model, store / "journals", index, Limits(**limits), clock=clock)
    yield service
    await service.close()


async def begun(service: Service, seed: int = 0) -> str:
    """A session with an image."""
    token = await service.claim("api")
    await service.load(token, tiny_volume(seed))
    return token


def until(ready: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def get(address: str, **request: Any) -> httpx.Response:
    """As httpx, but patient: tests run on busy machines."""
    return httpx.get(address, timeout=WAIT_S, **request)


def post(address: str, **request: Any) -> httpx.Response:
    """The same."""
    return httpx.post(address, timeout=WAIT_S, **request)
