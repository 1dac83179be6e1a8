"""Our own API: what a page draws. The image as one kind of file, doubt, masks of the past."""

from __future__ import annotations

from typing import Annotated, Any

import nibabel as nib
import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from segvol_gru.data.io import read_mask
from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.answers import (
    REFUSALS,
    SENDS_BYTES,
    TAKES_BYTES,
    Served,
    binary,
    body_of,
)
from segvol_gru.interfaces.server.uploads import FileFormat, uploaded
from segvol_gru.interfaces.wire import API
from segvol_gru.interfaces.wire_arrays import pack
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

LONGEST = 32767  # voxels of an axis, in the kind of NIfTI that viewers read
SHOWN = {"bool": "uint8", "int8": "int16"} | {
    name: name for name in ("uint8", "int16", "uint16", "int32", "float32")
}  # how voxels are sent; other types as float32
FULL_DOUBT = 255
views = APIRouter(
    prefix=f"{API}/sessions/{{session}}",
    tags=["views"],
    responses=REFUSALS | SENDS_BYTES,
    default_response_class=Response,
)


@views.get("/view")
async def view(session: str, service: Served) -> Response:
    """The volume as a NIfTI file that is not compressed, whatever it came as.

    Its voxel (i, j, k) is the session's (k, j, i).
    """
    return binary(await service.ask(session, lambda live: nifti_of(live.volume)))


@views.get("/doubt")
async def doubt(session: str, service: Served) -> Response:
    """The current object's doubt: packed uint8 array, 255 where the probability is a half."""

    def look(live: Session) -> bytes:
        return pack(doubt_of(live.probability), image=False)

    return binary(await service.ask(session, look))


@views.get("/past")
async def past(
    session: str,
    service: Served,
    step: Annotated[int, Query(ge=0, description="How many entries of the history count.")],
) -> Response:
    """The mask that the current object had or will have at a step; nothing is undone."""
    return binary(await service.ask(session, lambda live: pack(live.mask_at(step), image=False)))


@views.post("/reference", openapi_extra=TAKES_BYTES)
async def reference(
    session: str,
    request: Request,
    service: Served,
    kind: Annotated[FileFormat, Query(alias="format", description="Of the body.")],
) -> Response:
    """Read a mask file on the volume's grid: packed array of unsigned integers. Nothing is kept."""
    await service.expect(session)
    body, limit = await body_of(request), service.limits.max_upload_bytes

    def read(live: Session) -> bytes:
        with uploaded(body, kind, "reference") as path:
            return pack(read_mask(path, live.volume, limit=limit), image=False)

    return binary(await service.ask(session, read))


def doubt_of(p_prob: NDArray[np.float32]) -> NDArray[np.uint8]:
    """4 p (1 - p) as a picture.

    Args:
        p_prob: (D, H, W) probabilities.

    Returns:
        (D, H, W) uint8: 0 where the networks are sure, 255 where they are at a loss.
    """
    shown: NDArray[np.uint8] = np.rint(4 * FULL_DOUBT * p_prob * (1 - p_prob)).astype(np.uint8)
    return shown


def nifti_of(volume: Volume) -> bytes:
    """A volume as the bytes of a NIfTI-1 file.

    Raises:
        InputError: it is too long for that.
    """
    if max(volume.shape) > LONGEST:
        raise InputError(f"the volume has shape {volume.shape}, wanted at most {LONGEST} to show.")
    dtype = SHOWN.get(volume.array.dtype.name, "float32")
    voxels = volume.array.astype(dtype, copy=False).T
    image: Any = nib.Nifti1Image(voxels, volume.grid.affine[:, [2, 1, 0, 3]])  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    sent: bytes = image.to_bytes()
    return sent
