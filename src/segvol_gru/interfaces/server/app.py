"""`make_app(service)`: everything a server answers, as one ASGI application without globals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server import (
    api_arrays,
    api_demo,
    api_prompts,
    api_sessions,
    api_view,
    legacy,
    viewer,
)
from segvol_gru.interfaces.server.answers import KEYED, REFUSALS, Served, problem, refusal
from segvol_gru.interfaces.server.guard import Gate, Guard
from segvol_gru.interfaces.server.page import page_routes, read_page
from segvol_gru.interfaces.server.refusals import Refusal
from segvol_gru.interfaces.server.service import Service

REAP_S = 5.0
LOG = logging.getLogger(__name__)


def make_app(service: Service, gate: Gate | None = None) -> ASGIApp:
    """The application of a service.

    Args:
        service: its sessions; closed when the application is shut down.
        gate: who is let in; by default whoever addresses this machine by its loopback name.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_tried(service.warm_up)), asyncio.create_task(_reap(service))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.close()

    gate = gate or Gate()
    keyed = KEYED if gate.api_key is not None else []
    app = FastAPI(
        title="segvol-gru",
        version=version("segvol-gru"),
        description="Sessions of interactive segmentation. Arrays are (z, y, x).",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.add_exception_handler(InputError, _refuse_input)
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_form)
    app.include_router(_own_routes(keyed))
    app.include_router(page_routes(read_page()))
    for router in (
        api_sessions.router,
        api_prompts.prompts,
        api_prompts.objects,
        api_arrays.arrays,
        api_arrays.advice,
        api_view.views,
        api_demo.demo,
        viewer.router,
        legacy.router,
    ):
        app.include_router(router, dependencies=keyed)
    return Guard(app, gate, service.metrics)


def _own_routes(keyed: Sequence[Depends]) -> APIRouter:
    """What is asked about the server itself.

    Args:
        keyed: what a route that wants the key depends on.
    """
    router = APIRouter(responses=REFUSALS)
    router.add_api_route("/health", _health, tags=["server"])
    router.add_api_route("/healthz", _health, tags=["nnInteractive clients"])
    router.add_api_route(
        "/metrics",
        _metrics,
        tags=["server"],
        response_class=PlainTextResponse,
        dependencies=keyed,
    )
    return router


async def _reap(service: Service) -> None:
    """Look at the clocks now and then, for as long as the server runs."""
    while True:
        await asyncio.sleep(min(REAP_S, service.limits.liveness_s))
        await _tried(service.reap)


async def _tried(do: Callable[[], Awaitable[None]]) -> None:
    """Do something that nobody asked for; what goes wrong is logged and does no more harm."""
    try:
        await do()
    except Exception:
        LOG.exception("the server goes on, but something failed beside the requests")


async def _health(service: Served) -> dict[str, bool | int | str]:
    """Whether the server answers."""
    return {"ok": True, "version": version("segvol-gru"), "sessions": service.open_sessions}


async def _metrics(service: Served) -> PlainTextResponse:
    """Numbers for Prometheus."""
    gauges = {"sessions_open": service.open_sessions, "sessions_bytes": service.open_bytes}
    return PlainTextResponse(service.metrics.text(gauges), media_type="text/plain; version=0.0.4")


def _refuse_input(_: Request, error: Exception) -> Response:
    return problem(400, str(error))


def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refusal(error)


def _refuse_form(_: Request, error: Exception) -> Response:
    """One sentence; the values that came are not repeated, JSON may not hold them."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem(422, f"{where}: {first['msg']}.")
