"""The demo of the page: a volume that lies in an installed package, and what to outline in it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from segvol_gru.data.demo import demo_case
from segvol_gru.interfaces.server.answers import Served, binary
from segvol_gru.interfaces.server.api_sessions import begun
from segvol_gru.interfaces.wire import API, SessionInfo
from segvol_gru.interfaces.wire_arrays import pack

# Other programs have files of their own, so the demo is not in the schema.
demo = APIRouter(prefix=f"{API}/demo", include_in_schema=False)
Structure = Annotated[str, Query()]


@demo.post("", status_code=201)
async def begin(service: Served, structure: Structure = "left-thalamus") -> SessionInfo:
    """Begin a session with the demo volume."""
    case = await service.read(lambda: demo_case(structure))
    return await begun(service, case.volume, "auto")


@demo.get("/reference")
async def outline(service: Served, structure: Structure = "left-thalamus") -> Response:
    """A structure of the demo volume: packed bool array."""
    return binary(
        await service.read(lambda: pack(demo_case(structure).reference, image=False)),
    )
