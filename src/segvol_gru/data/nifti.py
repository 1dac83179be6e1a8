# mypy: allow-untyped-calls
"""NIfTI-1 and NIfTI-2: voxels scaled as the header says, masks under the image's own header."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from segvol_gru.data.files import MAX_TRAILING, check_size, pick, whole_file
from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader, Grid, affine_from_ijk
from segvol_gru.volume import Volume

MM_PER_UNIT = {1: 1e3, 3: 1e-3}  # metres, microns; every other code is taken for mm
UNREADABLE = (
    HeaderDataError,
    WrapStructError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    zlib.error,
)
NIFTI2_SIZES = (540, 0x1C020000)  # the header size that starts a file, in either byte order
CHUNK = 2**20
MAX_OFFSET = 2**28  # extensions of more bytes are damage
GZIP_LEVEL = 3
"""Masks shrink a hundredfold at any level; higher ones only cost time."""


def read_nifti(
    path: Path,
    channel: int | None,
    time: int | None,
    modality: str | None,
    limit: int | None = None,
) -> Volume:
    """Read one volume of a .nii or .nii.gz file.

    The world is the sform where its code is set, else the qform, else nibabel's centred default;
    units of metres or microns become mm. Scaled integers stay integers where slope and intercept
    are whole; other scaled values become float32 (float64 from 32- and 64-bit data). A plane or
    line counts as a volume with axes of one voxel.

    Raises:
        InputError: the file is no readable NIfTI, or several volumes and no choice.
    """
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
            raw, header, array = _read(path, stream, limit)
        shape = array.shape
        x, y, z, frames, channels = (*shape, 1, 1, 1, 1, 1)[:5]
        if math.prod(shape[5:]) != 1:
            raise InputError(f"{path} has shape {shape}, wanted at most five axes: split it.")
        colours = array.dtype.names or ()
        frame, part = pick(path, frames, channels * max(len(colours), 1), time, channel)
        array = array.reshape((x, y, z, frames, channels), order="F")
        array = array[..., frame, part // max(len(colours), 1)]
        array = array[colours[part % len(colours)]] if colours else array
        if array.nbytes < math.prod(shape) * header.get_data_dtype().itemsize:
            array = array.copy(order="F")  # let go of the other frames
        voxels = _scaled(array, *header.get_slope_inter())
        affine = _affine_of(header)
    except InputError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read {path} as NIfTI ({reason}); fetch or export the file again."
        ) from None
    return Volume(voxels.T, affine=affine, modality=modality, header=FileHeader("nifti", raw))


def grid_of(header: FileHeader) -> Grid:
    """Where a NIfTI header says that the voxels of one frame lie.

    Raises:
        HeaderDataError, WrapStructError, ValueError: the bytes are no such header.
    """
    fields = _header_from(header.raw, check=True)
    x, y, z = (*(int(n) for n in fields.get_data_shape()), 1, 1, 1)[:3]
    return Grid((z, y, x), _affine_of(fields))


def write_nifti(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write a (D, H, W) uint8, uint16 or float32 array under the image's header.

    Of a NIfTI image every byte of the header is kept but data type, scaling, display range,
    intent, number of axes and offset; other images get sform and, unless sheared, qform.
    """
    if grid.header is not None and grid.header.kind == "nifti":
        header = _header_from(grid.header.raw)
    else:
        header = _new_header(grid)
    header.set_data_dtype(array.dtype)
    fields = header.structarr
    axes = min(int(fields["dim"][0]), 3)
    fields["dim"][0] = axes
    fields["dim"][axes + 1 :] = 1
    for name in ("scl_inter", "cal_max", "cal_min", "intent_code"):
        fields[name] = 0
    fields["intent_p1"] = fields["intent_p2"] = fields["intent_p3"] = 0
    fields["intent_name"] = b""
    fields["scl_slope"] = 1
    fields["magic"] = header.single_magic
    fields["vox_offset"] = header.single_vox_offset
    values = np.ascontiguousarray(array, dtype=header.get_data_dtype())
    no_extensions = bytes(header.single_vox_offset - len(header.binaryblock))
    with whole_file(path) as fresh, fresh.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # Name and time are left out, so that equal masks give equal files.
            with gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as stream:
                stream.write(header.binaryblock + no_extensions)
                stream.write(values.data)
        else:
            file.write(header.binaryblock + no_extensions)
            file.write(values.data)


def _read(
    path: Path, stream: io.BufferedIOBase, limit: int | None
) -> tuple[bytes, Any, NDArray[Any]]:
    """Header as it is, header as nibabel mends it, and the array as it is stored.

    Nibabel's own reader stops before a gzip file's checksum, so it would take damaged voxels.
    """
    raw = stream.read(nib.Nifti1Header.sizeof_hdr)
    if int.from_bytes(raw[:4], "little") in NIFTI2_SIZES:
        raw += stream.read(nib.Nifti2Header.sizeof_hdr - len(raw))
    header = _header_from(raw, check=True)
    shape = tuple(int(n) for n in header.get_data_shape())
    dtype = header.get_data_dtype()
    n_bytes = math.prod(shape) * dtype.itemsize
    check_size(path, shape, n_bytes, path.stat().st_size, limit)
    offset = header.get_data_offset()
    if not len(raw) <= offset <= MAX_OFFSET:
        raise ValueError(f"the voxels start at byte {offset}")
    stream.read(offset - len(raw))
    data = bytearray(n_bytes)
    view = memoryview(data)
    while view and (count := stream.readinto(view)):
        view = view[count:]
    if view:
        raise EOFError(f"{len(view)} of {len(data)} bytes are missing")
    trailing = 0
    while more := stream.read(CHUNK):
        trailing += len(more)
        if trailing > MAX_TRAILING:
            raise ValueError(f"more than {MAX_TRAILING} bytes follow the voxels")
    return raw, header, np.ndarray(shape, dtype, data, order="F")


def _affine_of(header: Any) -> NDArray[np.float64]:
    ijk = np.array(header.get_best_affine(), dtype=np.float64)
    ijk[:3] *= MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine_from_ijk(ijk)


def _scaled(raw: NDArray[Any], slope: float | None, inter: float | None) -> NDArray[Any]:
    """Values as the header means them; no slope means as they are."""
    slope, inter = (1.0, 0.0) if slope is None or inter is None else (slope, inter)
    if (slope, inter) == (1.0, 0.0) or raw.dtype.kind not in "iuf":
        return raw
    if raw.dtype.kind in "iu" and slope.is_integer() and inter.is_integer():
        ends = [int(end) * int(slope) + int(inter) for end in (raw.min(), raw.max())]
        numbers = (*ends, int(slope), int(inter), -1)
        whole = np.result_type(*(np.min_scalar_type(number) for number in numbers))
        if whole.kind == "i":
            exact: NDArray[Any] = raw.astype(whole)
            exact *= whole.type(int(slope))
            exact += whole.type(int(inter))
            return exact
    real = np.result_type(raw.dtype, np.float32)
    scaled: NDArray[Any] = raw.astype(real)
    with np.errstate(over="raise"):  # a slope as large is damage
        scaled *= real.type(slope)
        scaled += real.type(inter)
    return scaled


def _header_from(raw: bytes, check: bool = False) -> Any:
    kind = nib.Nifti1Header if len(raw) == nib.Nifti1Header.sizeof_hdr else nib.Nifti2Header
    return kind(raw, check=check)


def _new_header(grid: Grid) -> Any:
    """A header for an image that came from elsewhere."""
    header = nib.Nifti2Header() if max(grid.shape) > np.iinfo(np.int16).max else nib.Nifti1Header()
    ijk = affine_from_ijk(grid.affine)
    header.set_data_shape(grid.shape[::-1])
    header.set_zooms(grid.spacing_mm[::-1])
    header.set_xyzt_units("mm")
    header.set_sform(ijk, code="scanner")
    unit = ijk[:3, :3] / np.linalg.norm(ijk[:3, :3], axis=0)
    if np.allclose(unit.T @ unit, np.eye(3), atol=1e-4):  # a qform cannot say shear
        header.set_qform(ijk, code="scanner")
    return header
