"""The wire of nnInteractive's clients (PyPI nninteractive-client 2.5 and 2.6): Slicer, napari.

    claim ─► set_image ─► set_target_buffer ─► add_* / undo / reset_interactions ... ─► release

A lease is a session of ours. What the client shows is known from what was sent to it, so an
answer is only the box that changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server import nnia
from segvol_gru.interfaces.server.answers import (
    LARGE,
    REFUSALS,
    Problem,
    Served,
    binary,
    body_of,
)
from segvol_gru.interfaces.server.refusals import Gone, Refusal, Unknown
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.wire import BoolArray, Lease, Number, Triple
from segvol_gru.interfaces.wire_arrays import DTYPES
from segvol_gru.interfaces.wire_nninteractive import (
    CAPABILITIES,
    NO_STROKES,
    Bounds,
    Change,
    Dialect,
)
from segvol_gru.volume import Volume

META = "X-Meta"
ENDED: dict[int | str, dict[str, Any]] = {
    410: {"model": Problem, "description": "There is no lease, or it has ended."}
}
router = APIRouter(tags=["nnInteractive clients"], responses=REFUSALS | ENDED)


class Words(BaseModel):
    """A request of a client that may say more, as later releases do."""


class BufferAsk(Words):
    """The client's own buffer."""

    shape: Annotated[list[int], Field(min_length=3, max_length=3)]
    dtype: str


class ZoomAsk(Words):
    """Ours looks wider by itself; the wish is heard and makes no difference."""

    do_autozoom: bool


class PredictAsk(Words):
    """Say what waits; a full refinement is what we do anyway."""

    force_full_refine: bool = False


class PointAsk(Words):
    """A point, array index of the image sent."""

    coordinates: Triple
    include_interaction: bool
    run_prediction: bool = True
    override_capability_checks: bool = False


class BboxAsk(Words):
    """A half-open box."""

    bbox_coords: Annotated[list[tuple[Number, Number]], Field(min_length=3, max_length=3)]
    include_interaction: bool
    run_prediction: bool = True
    override_capability_checks: bool = False


class ImageMeta(Words):
    """What comes with an image."""

    image_properties: dict[str, Any] = Field(default_factory=dict)


async def _lease(
    service: Served, token: Annotated[str | None, Header(alias="X-Lease-Token")] = None
) -> str:
    """The session of a request's lease."""
    if token is None:
        raise Gone(
            "no lease: this address speaks to nninteractive-client 2.5 and later, which claims "
            "one. An older Slicer extension is served at this address with /legacy/NAME added."
        )
    try:
        await service.remaining_s(token, alive=True)
    except Unknown:
        raise Gone("the lease has ended; connect again and send the image again.") from None
    return token


Leased = Annotated[str, Depends(_lease)]


@router.post("/claim")
async def claim(service: Served) -> dict[str, str | float | int]:
    """A lease."""
    return {
        "lease_token": await service.claim("viewer"),
        "idle_timeout_seconds": service.limits.idle_s,
        "liveness_timeout_seconds": service.limits.liveness_s,
        "max_sessions": service.limits.max_sessions,
    }


@router.get("/capabilities")
async def capabilities(service: Served) -> dict[str, Any]:
    """What clients show; tools that we lack are hidden."""
    return {**CAPABILITIES, "license": service.licence}


@router.post("/release")
async def release(
    service: Served, token: Annotated[str | None, Header(alias="X-Lease-Token")] = None
) -> dict[str, bool]:
    """End a session; one that ended before is no mistake."""
    if token is not None:
        await service.release(token)
    return {"released": True}


@router.post("/heartbeat")
async def heartbeat(token: Leased, service: Served) -> Lease:
    """A sign of life."""
    return Lease(
        remaining_seconds=await service.remaining_s(token, alive=True),
        idle_timeout_seconds=service.limits.idle_s,
    )


@router.get("/lease_status")
async def lease_status(
    service: Served, token: Annotated[str, Header(alias="X-Lease-Token")] = ""
) -> Lease:
    """How long the lease lasts; this is no sign of life."""
    try:
        remaining = await service.remaining_s(token, alive=False)
    except Unknown as error:
        raise Gone(str(error)) from None
    return Lease(remaining_seconds=remaining, idle_timeout_seconds=service.limits.idle_s)


@router.post("/set_image", openapi_extra={LARGE: True})
async def set_image(request: Request, token: Leased, service: Served) -> dict[str, tuple[int, ...]]:
    """The image, (1, z, y, x), with its spacing along these axes."""
    meta: ImageMeta = _meta(request, ImageMeta)
    await service.expect(token)
    body, limit = await body_of(request), service.limits.max_upload_bytes

    def read() -> Volume:
        array = nnia.load(body, limit)
        if array.ndim != 4 or len(array) != 1:
            raise InputError(
                f"the image has shape {array.shape}, wanted (1, z, y, x): one channel."
            )
        return Volume(array[0], meta.image_properties.get("spacing") or (1.0, 1.0, 1.0))

    volume = await service.read(read)
    await service.load(token, volume)
    return {"original_image_shape": (1, *volume.shape)}


@router.post("/set_target_buffer")
async def set_target_buffer(ask: BufferAsk, token: Leased, service: Served) -> dict[str, str]:
    """The client has a new, empty buffer."""
    if ask.dtype not in DTYPES or "float" in ask.dtype:
        raise InputError(f"dtype is {ask.dtype!r}, wanted bool or whole numbers such as uint8.")

    def clear(dialect: Dialect) -> None:
        dialect.require_shape(ask.shape)
        dialect.clear_buffer()

    await service.speak(token, clear)
    return {}


@router.post("/set_do_autozoom")
async def set_do_autozoom(ask: ZoomAsk, token: Leased) -> dict[str, str]:
    """Heard; see `ZoomAsk`."""
    return {}


@router.post("/reset_interactions")
async def reset_interactions(token: Leased, service: Served) -> dict[str, str]:
    """Begin another object."""
    await service.speak(token, lambda dialect: dialect.reset())
    return {}


@router.post("/undo")
async def undo(token: Leased, service: Served) -> Response:
    """Take back the last step, as deep as there are steps."""
    return await _predicted(service, token, lambda dialect: dialect.undo())


@router.post("/predict")
async def predict(token: Leased, ask: PredictAsk, service: Served) -> Response:
    """Say all prompts that were only queued."""
    return await _predicted(service, token, lambda dialect: dialect.predict())


@router.post("/add_point_interaction")
async def add_point(token: Leased, ask: PointAsk, service: Served) -> Response:
    """A click."""
    include, run = ask.include_interaction, ask.run_prediction
    return await _predicted(service, token, lambda d: d.point(ask.coordinates, include, run))


@router.post("/add_bbox_interaction")
async def add_bbox(token: Leased, ask: BboxAsk, service: Served) -> Response:
    """A box; one drawn on a slice is given a depth."""
    include, run = ask.include_interaction, ask.run_prediction
    return await _predicted(service, token, lambda d: d.box(ask.bbox_coords, include, run))


@router.post("/add_scribble_interaction")
@router.post("/add_lasso_interaction")
async def add_strokes(token: Leased) -> Response:
    """Hidden by the capabilities; a client that insists learns why."""
    raise InputError(NO_STROKES)


@router.post("/add_initial_seg_interaction", openapi_extra={LARGE: True})
async def add_initial_seg(request: Request, token: Leased, service: Served) -> Response:
    """Go on with a mask; memory and history come back with a mask of ours."""
    await service.expect(token)
    body, limit = await body_of(request), service.limits.max_upload_bytes

    def mask() -> BoolArray:
        return np.asarray(nnia.load(body, limit) != 0)

    array = await service.read(mask)
    return await _predicted(service, token, lambda dialect: dialect.initial(array))


async def _predicted(
    service: Service, token: str, say: Callable[[Dialect], Change | None]
) -> Response:
    """A prediction reply: the box that changed, in the header and in the body."""

    def both(dialect: Dialect) -> tuple[Bounds | None, bool, bytes]:
        change = say(dialect)
        if change is None or change.bbox is None:
            return None, change is not None, b""
        return change.bbox, True, nnia.dump(change.crop)

    bbox, ran, body = await service.speak(token, both)
    shape = [b - a for a, b in bbox] if bbox else [0, 0, 0]
    meta = {"ran_prediction": ran, "bbox": bbox, "dtype": "uint8", "shape": shape}
    return binary(body, {META: json.dumps(meta, separators=(",", ":"))})


def _meta(request: Request, kind: type[Words]) -> Any:
    """The X-Meta header."""
    try:
        return TypeAdapter(kind).validate_json(request.headers.get(META, "{}"))
    except ValidationError as error:
        raise Refusal(
            f"the header {META} is not what was wanted: {error.errors()[0]['msg']}."
        ) from None
