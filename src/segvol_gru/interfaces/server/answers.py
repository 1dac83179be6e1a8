"""What routes share: the service, bodies, bytes, and refusals as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from segvol_gru.interfaces.server.refusals import Refusal
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.wire_arrays import MEDIA


class Problem(BaseModel):
    """Why a request was refused, in one sentence for the user."""

    detail: str


def service_of(request: Request) -> Service:
    """The service of the app that got the request."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]


def refusal(error: Refusal) -> Response:
    """The answer to a refused request."""
    return problem(error.status, str(error), dict(error.headers))


def problem(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """A sentence as an answer."""
    return JSONResponse(Problem(detail=sentence).model_dump(), status, headers)


def binary(data: bytes, headers: dict[str, str] | None = None, media: str = MEDIA) -> Response:
    """Bytes as an answer."""
    return Response(data, media_type=media, headers=headers)


async def body_of(request: Request) -> bytearray:
    """The whole body; its size is the guard's business."""
    whole = bytearray()
    async for piece in request.stream():
        whole += piece
    return whole


KEYED = [Depends(HTTPBearer(auto_error=False, description="What `serve --api-key` was given."))]
"""What a route asks for where there is a key: it says so, the guard has checked it before."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "It cannot be used; the sentence says what to mend.",
        401: "The API key is missing or wrong.",
        403: "Another host or page.",
        404: "There is no such session.",
        409: "The session is open elsewhere or damaged.",
        413: "Too many bytes.",
        422: "The request does not have this form.",
        503: "No place now, or the index of sessions does not answer; see Retry-After.",
    }.items()
}
BYTES: dict[str, Any] = {MEDIA: {"schema": {"type": "string", "format": "binary"}}}
SENDS_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": BYTES, "description": "See `segvol_gru.interfaces.wire_arrays`."},
}
LARGE = "x-large-body"  # in the description of a route; the guard lets no other have an upload
TAKES_BYTES = {LARGE: True, "requestBody": {"required": True, "content": BYTES}}
