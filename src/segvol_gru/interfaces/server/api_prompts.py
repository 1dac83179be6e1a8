"""Our own API: what a user says to a session. Every answer to a prompt is the mask after it."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from segvol_gru.interfaces.server.answers import (
    REFUSALS,
    SENDS_BYTES,
    TAKES_BYTES,
    Served,
    binary,
    body_of,
)
from segvol_gru.interfaces.server.api_sessions import describe
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.wire import (
    API,
    BoolArray,
    BoxAsk,
    ClickAsk,
    NameAsk,
    RenameAsk,
    SessionInfo,
    StepAsk,
)
from segvol_gru.interfaces.wire_arrays import pack, unpack
from segvol_gru.prompts import Box, check_index
from segvol_gru.session.session import Session

PATH = f"{API}/sessions/{{session}}"
prompts = APIRouter(
    prefix=PATH,
    tags=["prompts"],
    responses=REFUSALS | SENDS_BYTES,
    default_response_class=Response,
)
objects = APIRouter(prefix=f"{PATH}/objects", tags=["objects"], responses=REFUSALS)


@prompts.post("/box")
async def box(session: str, ask: BoxAsk, service: Served) -> Response:
    """Start the current object anew from a box."""

    def say(live: Session) -> BoolArray:
        if ask.tight is None:
            return live.box(ask.lo, ask.hi, frame=ask.frame, lift=ask.lift)
        lo, hi = (check_index(corner, live.volume.shape, "box") for corner in (ask.lo, ask.hi))
        return live.prompt(Box(lo, hi, ask.tight))

    return await _prompted(service, session, say)


@prompts.post("/click")
async def click(session: str, ask: ClickAsk, service: Served) -> Response:
    """Correct the current object, or start it."""
    return await _prompted(
        service, session, lambda live: live.click(ask.at, ask.positive, frame=ask.frame)
    )


@prompts.post("/start", openapi_extra=TAKES_BYTES)
async def start(session: str, request: Request, service: Served) -> Response:
    """Start the current object anew from a mask of another tool: a packed bool array."""
    await service.expect(session)
    body, limit = await body_of(request), service.limits.max_upload_bytes
    return await _prompted(service, session, lambda live: live.start(unpack(body, limit)[0]))


@prompts.post("/undo")
async def undo(session: str, service: Served) -> Response:
    """Take back the last step of the current object."""
    return await _shown(service, session, lambda live: live.undo())


@prompts.post("/redo")
async def redo(session: str, service: Served) -> Response:
    """Do again what was undone last."""
    return await _shown(service, session, lambda live: live.redo())


@prompts.post("/reset")
async def reset(session: str, service: Served) -> Response:
    """Empty the current object; this can be undone."""
    return await _shown(service, session, lambda live: live.reset())


@prompts.post("/jump")
async def jump(session: str, ask: StepAsk, service: Served) -> Response:
    """Undo or redo until the first `step` entries of the history count."""
    return await _shown(service, session, lambda live: live.jump(ask.step))


@objects.post("")
async def add(session: str, ask: NameAsk, service: Served) -> SessionInfo:
    """Add an object and select it."""
    return await _changed(service, session, lambda live: live.add_object(ask.name))


@objects.post("/select")
async def select(session: str, ask: NameAsk, service: Served) -> SessionInfo:
    """Let prompts go to another object."""
    return await _changed(service, session, lambda live: live.select(ask.name))


@objects.post("/rename")
async def rename(session: str, ask: RenameAsk, service: Served) -> SessionInfo:
    """Call an object something else."""
    return await _changed(service, session, lambda live: live.rename_object(ask.name, ask.to))


@objects.post("/remove")
async def remove(session: str, ask: NameAsk, service: Served) -> SessionInfo:
    """Remove an object and its history; this cannot be undone."""
    return await _changed(service, session, lambda live: live.remove_object(ask.name))


async def _prompted(service: Service, token: str, say: Callable[[Session], BoolArray]) -> Response:
    """Something that the networks answer."""
    return binary(await service.prompt(token, lambda live: pack(say(live), image=False)))


async def _shown(service: Service, token: str, move: Callable[[Session], BoolArray]) -> Response:
    """Something that is known already."""
    return binary(await service.ask(token, lambda live: pack(move(live), image=False)))


async def _changed(service: Service, token: str, change: Callable[[Session], None]) -> SessionInfo:
    def both(live: Session) -> SessionInfo:
        change(live)
        return describe(token, live)

    return await service.ask(token, both)
