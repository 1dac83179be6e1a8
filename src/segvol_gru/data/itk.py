# mypy: allow-untyped-calls
"""NRRD, MHA and MHD through SimpleITK."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from segvol_gru.data.damage import refuse_damaged, refuse_odd_axes
from segvol_gru.data.files import check_size, pick, whole_file
from segvol_gru.data.nrrd import header_of, mm_per_unit, write_nrrd
from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader, Grid, affine_from_itk, itk_from_affine
from segvol_gru.volume import Volume

META, NRRD = "MetaImageIO", "NrrdImageIO"
WIDTHS = {
    getattr(sitk, f"sitk{vector}{name}"): width
    for vector in ("", "Vector")
    for name, width in (
        *((f"{sign}Int{8 * n}", n) for sign in ("", "U") for n in (1, 2, 4, 8)),
        *(("Float32", 4), ("Float64", 8)),
    )
}
"""Bytes of a value by ITK's number of its type."""
READERS = {".mha": META, ".mhd": META, ".nrrd": NRRD, ".nhdr": NRRD}


def read_itk(
    path: Path,
    channel: int | None,
    time: int | None,
    modality: str | None,
    limit: int | None = None,
) -> Volume:
    """Read one volume of a .nrrd, .nhdr, .mha or .mhd file.

    A file that does not say where it lies (NRRD without `space`) is taken for LPS, as ITK does.

    Raises:
        InputError: the file is not readable, or several volumes and no choice.
    """
    refuse_odd_axes(path)
    reader = sitk.ImageFileReader()
    # By its suffix: left alone, ITK opens other formats too, whatever the file is called.
    reader.SetImageIO(READERS[path.suffix.lower()])
    reader.SetFileName(str(path))
    or_refuse(path, reader.ReadImageInformation)
    size, parts = tuple(reader.GetSize()), reader.GetNumberOfComponents()
    n_bytes = math.prod(size) * parts * WIDTHS.get(reader.GetPixelID(), max(WIDTHS.values()))
    check_size(path, (*size, parts), n_bytes, limit=limit)
    refuse_damaged(path, n_bytes)
    if len(size) not in (2, 3, 4):
        raise InputError(f"{path} has {len(size)} axes, wanted 3 or a series of 3-D: split it.")
    _, _, depth, frames = (*size, 1, 1)[:4]
    frame, part = pick(path, frames, parts, time, channel)
    image = or_refuse(path, reader.Execute)
    array = sitk.GetArrayFromImage(image)
    array = array[..., part] if parts > 1 else array
    array = array[frame] if len(size) == 4 else array
    n = len(size)
    direction, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    keep = min(n, 3)
    direction[:keep, :keep] = np.array(image.GetDirection()).reshape(n, n)[:keep, :keep]
    spacing[:keep] = image.GetSpacing()[:keep]
    origin[:keep] = image.GetOrigin()[:keep]
    header = header_of(path) if path.suffix.lower() in (".nrrd", ".nhdr") else None
    unit = mm_per_unit(header) if header else 1.0
    geometry = direction.ravel().tolist(), (spacing * unit).tolist(), (origin * unit).tolist()
    return Volume(
        array.reshape(depth, *array.shape[-2:]),
        affine=affine_from_itk(*geometry),
        modality=modality,
        header=header or FileHeader("itk", json.dumps(geometry).encode()),
    )


def write_itk(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write a (D, H, W) uint8, uint16 or float32 array with the image's very geometry.

    NRRD keeps the words of an NRRD image's header, its space among them; MHA and MHD the
    direction, spacing and origin to the last bit.
    """
    if grid.header is not None and grid.header.kind == "itk":
        direction, spacing, origin = json.loads(grid.header.raw)
    else:
        direction, spacing, origin = itk_from_affine(grid.affine)
    if path.suffix.lower() == ".nrrd":
        write_nrrd(path, array, grid.header, (direction, spacing, origin))
        return
    image = sitk.GetImageFromArray(array)
    image.SetDirection(direction)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    with whole_file(path) as fresh:
        or_refuse(path, lambda: sitk.WriteImage(image, str(fresh), useCompression=True))


def or_refuse(path: Path, step: Callable[[], Any]) -> Any:
    """Run an ITK step; its many-line exception becomes one sentence."""
    try:
        return step()
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1].strip()
        raise InputError(
            f"cannot read or write {path} ({last}); fetch or export it again."
        ) from None
