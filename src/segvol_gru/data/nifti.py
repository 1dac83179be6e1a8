# mypy: allow-untyped-calls
"""NIfTI-1 and NIfTI-2: voxels scaled as the header says, masks under the image's own header."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import Opener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from segvol_gru.data.files import check_size, pick, whole_file
from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader, Grid, affine_from_ijk
from segvol_gru.volume import Volume

MM_PER_UNIT = {1: 1e3, 3: 1e-3}  # metres, microns; every other code is taken for mm
UNREADABLE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error)
GZIP_LEVEL = 3
"""Masks shrink a hundredfold at any level; higher ones only cost time."""


def read_nifti(path: Path, channel: int | None, time: int | None, modality: str | None) -> Volume:
    """Read one volume of a .nii or .nii.gz file.

    The world is the sform where its code is set, else the qform, else nibabel's centred default;
    units of metres or microns become mm. Scaled integers stay integers where slope and intercept
    are whole; other scaled values become float32 (float64 from 32- and 64-bit data). A plane or
    line counts as a volume with axes of one voxel.

    Raises:
        InputError: the file is no readable NIfTI, or several volumes and no choice.
    """
    try:
        image: Any = nib.load(path, mmap=False)
        header = image.header
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
        check_size(path, shape, _product(shape) * dtype.itemsize, path.stat().st_size)
        x, y, z, frames, channels = (*shape, 1, 1, 1, 1, 1)[:5]
        if _product(shape[5:]) != 1:
            raise InputError(f"{path} has shape {shape}, wanted at most five axes: split it.")
        colours = dtype.names or ()
        frame, part = pick(path, frames, channels * max(len(colours), 1), time, channel)
        voxels = _scaled(image.dataobj, len(shape), frame, part, colours)
        ijk = np.array(image.affine, dtype=np.float64)
        ijk[:3] *= MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
        with Opener(str(path)) as stream:
            raw = stream.read(len(header.binaryblock))  # nibabel's copy has been "corrected"
    except InputError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"cannot read {path} as NIfTI ({reason}); fetch or export the file again."
        ) from None
    volume = voxels.reshape((x, y, z), order="F").T
    return Volume(
        volume, affine=affine_from_ijk(ijk), modality=modality, header=FileHeader("nifti", raw)
    )


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


def _scaled(
    data: Any, n_axes: int, frame: int, part: int, colours: tuple[str, ...]
) -> NDArray[Any]:
    """The chosen volume in file order, with slope and intercept applied."""
    raw: NDArray[Any] = np.asarray(data.get_unscaled())
    if n_axes > 3:
        raw = raw.reshape(*raw.shape[:3], *(*raw.shape[3:], 1)[:2])
        raw = raw[..., frame, part // max(len(colours), 1)]
    if colours:
        raw = raw[colours[part % len(colours)]]
    slope, inter = float(data.slope), float(data.inter)
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
    scaled *= real.type(slope)
    scaled += real.type(inter)
    return scaled


def _header_from(raw: bytes) -> Any:
    kind = nib.Nifti1Header if len(raw) == nib.Nifti1Header().sizeof_hdr else nib.Nifti2Header
    return kind(raw, check=False)


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


def _product(numbers: tuple[int, ...]) -> int:
    return int(np.prod(numbers, dtype=np.float64)) if numbers else 1
