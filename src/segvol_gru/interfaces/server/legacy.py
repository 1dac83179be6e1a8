"""The older wire, "0.x", of SlicerNNInteractive before June 2026, under `/legacy/NAME`.

It knows no sessions, so the name in the address is one: whoever gives the same name shares it.
Every answer is the whole mask. What went wrong is said with status 200, the only one whose
sentence that extension shows; it sends an image again when it hears `NO_IMAGE`.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from numpy.typing import NDArray
from pydantic import BaseModel

from segvol_gru.data.npz import DAMAGED
from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.answers import LARGE, REFUSALS, Served, binary
from segvol_gru.interfaces.server.refusals import Refusal
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.wire import Triple
from segvol_gru.interfaces.wire_nninteractive import NO_STROKES, Dialect
from segvol_gru.volume import Volume

NO_IMAGE = "No image uploaded"
OLD_CLIENT = (
    "This address speaks to newer viewers. Set the server address of this extension to "
    "{base}legacy/YOUR-NAME, or update the extension."
)
NEW_CLIENT = (
    "This address speaks to SlicerNNInteractive before version 1.0. Take /legacy/NAME out of "
    "the server address: newer viewers connect to {base}"
)
NEWER_PATHS = ("claim", "capabilities", "healthz", "set_image", "heartbeat", "lease_status")
GZIP = 31  # zlib's window bits for a gzip header
Name = Annotated[str, Path(max_length=100)]
router = APIRouter(tags=["older Slicer extension"], responses=REFUSALS)


class OldPoint(BaseModel):
    """A click: array index."""

    voxel_coord: Triple
    positive_click: bool


class OldBox(BaseModel):
    """A box: two opposite corners, both inclusive."""

    outer_point_one: Triple
    outer_point_two: Triple
    positive_click: bool


@router.get("/legacy/{name}")
async def greet(name: Name) -> PlainTextResponse:
    """What "Test connection" looks at."""
    return PlainTextResponse("segvol-gru speaks the older wire of SlicerNNInteractive here.")


@router.post("/legacy/{name}/upload_image", openapi_extra={LARGE: True})
async def upload_image(name: Name, file: UploadFile, service: Served) -> Response:
    """The image: `.npy`."""

    async def load() -> Response:
        data, limit = await file.read(), service.limits.max_upload_bytes
        volume = await service.read(lambda: Volume(read_npy(data, limit), (1.0, 1.0, 1.0)))
        token = _token(name)
        if await service.has_image(token) is None:
            await service.claim("legacy", token)
        await service.load(token, volume)
        return JSONResponse({"status": "ok"})

    return await _said(load)


@router.post("/legacy/{name}/upload_segment", openapi_extra={LARGE: True})
async def upload_segment(name: Name, file: UploadFile, service: Served) -> Response:
    """A mask, gzipped `.npy`: an empty one resets, another one is gone on with."""
    data, limit = await file.read(), service.limits.max_upload_bytes

    def take(dialect: Dialect) -> None:
        dialect.initial(read_npy(_inflated(data, limit), limit) != 0)

    async def load() -> Response:
        await _speak(service, name, take)
        return JSONResponse({"status": "ok"})

    return await _said(load)


@router.post("/legacy/{name}/add_point_interaction")
async def add_point(name: Name, ask: OldPoint, service: Served) -> Response:
    """A click."""
    return await _prompted(
        service, name, lambda dialect: dialect.point(ask.voxel_coord, ask.positive_click, run=True)
    )


@router.post("/legacy/{name}/add_bbox_interaction")
async def add_bbox(name: Name, ask: OldBox, service: Served) -> Response:
    """A box drawn on a slice, which is given a depth."""
    corners = zip(ask.outer_point_one, ask.outer_point_two, strict=True)
    bbox = [(min(pair), max(pair) + 1) for pair in corners]
    return await _prompted(
        service, name, lambda dialect: dialect.box(bbox, ask.positive_click, run=True)
    )


@router.post("/legacy/{name}/add_scribble_interaction")
@router.post("/legacy/{name}/add_lasso_interaction")
async def add_strokes(name: Name) -> Response:
    """That extension cannot hide its tools, so it is told."""
    return _failed(NO_STROKES)


@router.post("/upload_image")
@router.post("/upload_segment")
async def old_client(request: Request) -> Response:
    """An older extension at the address for newer ones; uploading is the first thing it does."""
    return _failed(OLD_CLIENT.format(base=request.base_url))


@router.api_route("/legacy/{name}/{path}", methods=["GET", "POST"], include_in_schema=False)
async def new_client(name: Name, path: str, request: Request) -> Response:
    """A newer viewer at the address for older ones."""
    if path not in NEWER_PATHS:
        return JSONResponse({"detail": "There is nothing at this address."}, 404)
    return JSONResponse({"detail": NEW_CLIENT.format(base=request.base_url)}, 409)


def read_npy(data: bytes, limit: int) -> NDArray[Any]:
    """An array from the bytes of a `.npy` file.

    Raises:
        InputError: they are none, hold objects or take more than `limit` bytes.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        first = version == (1, 0)
        head = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = head(stream)
        count = math.prod(shape)
        if dtype.kind not in "biuf" or min(shape, default=0) < 0 or count * dtype.itemsize > limit:
            raise ValueError(f"{dtype} of shape {shape}")
        array = np.frombuffer(data, dtype, count, stream.tell())
        return array.reshape(shape, order="F" if by_columns else "C")
    except (*DAMAGED, TypeError, OverflowError) as error:
        raise InputError(f"the file is no usable .npy array ({error}); send it again.") from None


def _inflated(data: bytes, limit: int) -> bytes:
    try:
        return zlib.decompressobj(GZIP).decompress(data, limit)
    except zlib.error as error:
        raise InputError(f"the file is not gzipped ({error}); send it again.") from None


def _token(name: str) -> str:
    return f"legacy:{name}"


async def _speak(service: Service, name: str, say: Callable[[Dialect], object]) -> bytes:
    """Say something; the whole mask after it, as that extension reads it."""
    token = _token(name)
    if not await service.has_image(token):
        raise InputError(NO_IMAGE)

    def both(dialect: Dialect) -> bytes:
        say(dialect)
        return gzip.compress(np.packbits(dialect.mask).tobytes(), compresslevel=1)

    return await service.speak(token, both)


async def _prompted(service: Service, name: str, say: Callable[[Dialect], object]) -> Response:
    async def answer() -> Response:
        return binary(await _speak(service, name, say), {"Content-Encoding": "gzip"})

    return await _said(answer)


async def _said(do: Callable[[], Awaitable[Response]]) -> Response:
    """An answer, or the sentence why there is none."""
    try:
        return await do()
    except (InputError, Refusal) as error:
        return _failed(str(error))


def _failed(sentence: str) -> Response:
    return JSONResponse({"status": "error", "message": sentence})
