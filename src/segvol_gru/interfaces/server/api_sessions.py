"""Our own API: begin a session with an image, look at it, end it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray
from pydantic import Base64Bytes, BaseModel, Field, ValidationError

from segvol_gru.data.headers import check_header
from segvol_gru.data.io import read_volume
from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader
from segvol_gru.interfaces.server.answers import REFUSALS, TAKES_BYTES, Served, body_of
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.server.uploads import FileFormat, uploaded
from segvol_gru.interfaces.wire import (
    API,
    HEADER_LIMIT,
    Lease,
    Number,
    ObjectInfo,
    SessionInfo,
    Triple,
    said,
)
from segvol_gru.interfaces.wire_arrays import unpack
from segvol_gru.session.engine import WindowChoice
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

WindowName = Literal["auto", "soft-tissue", "lung", "brain", "bone", "percentile", "none"]
Row = Annotated[list[Number], Field(min_length=4, max_length=4)]


class HeaderText(BaseModel):
    """The header of the file that an image was read from; see `FileHeader`."""

    kind: Literal["nifti", "nrrd", "itk"]
    raw: Annotated[Base64Bytes, Field(max_length=HEADER_LIMIT)]


class ImageText(BaseModel):
    """What the text of an image's bytes may say; see `Volume` and `Session`."""

    spacing: Triple | None = None
    affine: Annotated[list[Row], Field(min_length=4, max_length=4)] | None = None
    modality: str | None = None
    window: str | tuple[Number, Number] = "auto"
    header: HeaderText | None = None

    def place(self, array: NDArray[Any]) -> Volume:
        """The volume of (D, H, W) voxels.

        Raises:
            InputError: it is none, or the header is of another image.
        """
        header = FileHeader(self.header.kind, self.header.raw) if self.header else None
        volume = Volume(
            array, self.spacing, affine=self.affine, modality=self.modality, header=header
        )
        check_header(volume.grid)
        return volume


router = APIRouter(prefix=API, tags=["sessions"], responses=REFUSALS)


@router.post("/sessions", status_code=201, openapi_extra=TAKES_BYTES)
async def begin(request: Request, service: Served) -> SessionInfo:
    """Begin a session with an array.

    The body is an array as `segvol_gru.interfaces.wire_arrays` packs it. Its text has `affine`
    (4x4, voxel index (z, y, x) to RAS mm) or `spacing` (mm along z, y, x), and may have
    `modality`, `window` and `header`: {"kind": "nifti", "raw": base64}, under which masks are
    exported in that format.
    """
    await service.expect()
    body = await body_of(request)

    def read() -> tuple[Volume, WindowChoice]:
        array, text = unpack(body, service.limits.max_upload_bytes)
        about = _about(text)
        return about.place(array), about.window

    return await begun(service, *await service.read(read))


@router.post("/sessions/file", status_code=201, openapi_extra=TAKES_BYTES)
async def begin_with_file(
    request: Request,
    service: Served,
    kind: Annotated[FileFormat, Query(alias="format", description="Of the body.")],
    channel: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    frame: Annotated[int | None, Query(alias="time", ge=0, le=2**31)] = None,
    modality: str | None = None,
    window: str = "auto",
) -> SessionInfo:
    """Begin a session with an image file, which is the body."""
    await service.expect()
    body = await body_of(request)

    def read() -> Volume:
        with uploaded(body, kind, "upload") as path:
            return read_volume(
                path,
                channel=channel,
                time=frame,
                modality=modality,
                limit=service.limits.max_upload_bytes,
            )

    volume = await service.read(read)
    return await begun(service, volume, window)


@router.get("/sessions/{session}")
async def look(session: str, service: Served) -> SessionInfo:
    """What is known of a session but its arrays."""
    return await service.ask(session, lambda live: describe(session, live))


@router.delete("/sessions/{session}", status_code=204)
async def end(session: str, service: Served) -> Response:
    """End a session and delete all that was stored of it."""
    await service.remaining_s(session, alive=False)
    await service.release(session)
    return Response(status_code=204)


@router.get("/sessions/{session}/lease")
async def lease(session: str, service: Served) -> Lease:
    """How long an untouched session keeps its place; it can be taken up again later."""
    return Lease(
        remaining_seconds=await service.remaining_s(session, alive=False),
        idle_timeout_seconds=service.limits.idle_s,
    )


def describe(token: str, live: Session) -> SessionInfo:
    """A session as JSON's model."""
    return SessionInfo(
        id=token,
        shape=live.volume.shape,
        objects=[ObjectInfo(name=name, label=label) for name, label in live.labels.items()],
        current=live.current,
        history=[said(prompt) for prompt in live.history],
        cursor=live.cursor,
    )


async def begun(service: Service, volume: Volume, window: WindowChoice) -> SessionInfo:
    """A new session with an image; nothing is left of it if the image is refused."""
    token = await service.claim("api")
    try:
        await service.load(token, volume, window)
    except Exception:
        await service.release(token)
        raise
    return await service.ask(token, lambda live: describe(token, live))


def _about(text: dict[str, Any]) -> ImageText:
    try:
        return ImageText.model_validate(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"the text of the array is not usable: {where}: {first['msg']}.") from None
