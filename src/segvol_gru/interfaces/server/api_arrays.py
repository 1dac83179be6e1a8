"""Our own API: masks, probabilities, the image, files to take away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from segvol_gru.data.io import write_mask, write_probability
from segvol_gru.interfaces.server.answers import REFUSALS, SENDS_BYTES, Served, binary
from segvol_gru.interfaces.server.uploads import FileFormat
from segvol_gru.interfaces.wire import API, Suggestion, about
from segvol_gru.interfaces.wire_arrays import pack
from segvol_gru.session.session import Session

PATH = f"{API}/sessions/{{session}}"
What = Literal["labels", "mask", "probability"]
arrays = APIRouter(
    prefix=PATH,
    tags=["arrays"],
    responses=REFUSALS | SENDS_BYTES,
    default_response_class=Response,
)
advice = APIRouter(prefix=PATH, tags=["prompts"], responses=REFUSALS)


@arrays.get("/mask")
async def mask(
    session: str,
    service: Served,
    name: Annotated[
        str | None, Query(description="An object; the current one if left out.")
    ] = None,
) -> Response:
    """The mask of an object: packed bool array."""

    def look(live: Session) -> bytes:
        return pack(live.mask if name is None else live.mask_of(name), image=False)

    return binary(await service.ask(session, look))


@arrays.get("/labels")
async def labels(session: str, service: Served) -> Response:
    """All objects in one packed array of unsigned integers."""
    return binary(await service.ask(session, lambda live: pack(live.label_map(), image=False)))


@arrays.get("/probability")
async def probability(session: str, service: Served) -> Response:
    """The current object: packed float32 array, 0 to 1."""
    return binary(await service.ask(session, lambda live: pack(live.probability, image=False)))


@arrays.get("/image")
async def image(session: str, service: Served) -> Response:
    """The volume: packed array whose text has `affine`, `modality` and `header`."""

    def look(live: Session) -> bytes:
        return pack(live.volume.array, about(live.volume), image=True)

    return binary(await service.ask(session, look))


@arrays.get("/export")
async def export(
    session: str,
    service: Served,
    kind: Annotated[FileFormat, Query(alias="format")] = "nii.gz",
    what: What = "labels",
) -> Response:
    """An image file on the volume's grid, under its header where the format is the same."""

    def write(live: Session, path: Path) -> None:
        if what == "probability":
            write_probability(path, live.probability, live.volume)
        else:
            array = live.mask if what == "mask" else live.label_map()
            write_mask(path, array, live.volume)

    return await _file(service, session, f"{what}.{kind}", write)


@arrays.get("/file")
async def file(session: str, service: Served) -> Response:
    """The whole session, volume and history included, for `Session.load`."""
    return await _file(service, session, "case.session", lambda live, path: live.save(path))


@advice.get("/suggest")
async def suggest(session: str, service: Served) -> Suggestion:
    """Where to look next: voxel index (z, y, x) amid the widest band of doubt, or null."""
    return Suggestion(at=await service.ask(session, lambda live: live.suggest()))


async def _file(
    service: Served, token: str, name: str, write: Callable[[Session, Path], None]
) -> Response:
    """A file that is made in a folder of its own and sent under a name of ours."""

    def make(live: Session) -> bytes:
        with tempfile.TemporaryDirectory(prefix="segvol-gru-") as folder:
            path = Path(folder) / name
            write(live, path)
            return path.read_bytes()

    sent = await service.ask(token, make)
    return binary(sent, {"Content-Disposition": f'attachment; filename="{name}"'})
