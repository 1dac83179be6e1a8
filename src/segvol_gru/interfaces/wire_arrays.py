"""Arrays as bytes on our own wire: few lines to read in any language, checked on arrival.

    "SGVA" | version = 1 | packing: 0 none, 1 zlib | size of the text (uint32) | text, JSON | voxels

    text = {"dtype": "int16", "shape": [D, H, W], "lo": [z, y, x], "size": [d, h, w], ...}

Only the part that begins at `lo` is sent, in C order; voxels outside it are 0. All numbers are
little-endian. What else the text says is for the two ends to agree on.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.simulate import bounds_of

MARK, VERSION = b"SGVA", 1
START = struct.Struct("<4sBBI")
DTYPES = frozenset(
    [
        "bool",
        "int8",
        "uint8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
)
LEVEL = 1  # masks shrink a hundredfold at any level; images are noise, so they go as they are
TEXT_LIMIT = 2**20
MEDIA = "application/octet-stream"
Json = dict[str, Any]


def pack(array: NDArray[Any], about: Mapping[str, Any] | None = None, *, image: bool) -> bytes:
    """Bytes of an array.

    Args:
        array: (D, H, W), real numbers of a type in `DTYPES`.
        about: what else the text shall say.
        image: True to send every voxel as it is; False to cut and pack what is mostly 0.
    """
    at = (slice(None),) * 3 if image else bounds_of(array != 0) or (slice(0, 0),) * 3
    part = np.ascontiguousarray(array[at])
    part = part.astype(part.dtype.newbyteorder("<"), copy=False)
    text = {
        **(about or {}),
        "dtype": array.dtype.name,
        "shape": array.shape,
        "lo": [s.start or 0 for s in at],
        "size": part.shape,
    }
    words = json.dumps(text, separators=(",", ":")).encode()
    voxels = part.tobytes() if image else zlib.compress(part.tobytes(), LEVEL)
    return START.pack(MARK, VERSION, int(not image), len(words)) + words + voxels


def unpack(data: bytes | bytearray, limit: int) -> tuple[NDArray[Any], Json]:
    """The array that `pack` was given, writeable and aligned, and its text.

    Args:
        data: what came.
        limit: most bytes that the array may take.

    Raises:
        InputError: these are no such bytes, or the array is larger.
    """
    try:
        text, packed, voxels = _split(data)
        dtype = np.dtype(text["dtype"]) if text["dtype"] in DTYPES else None
        shape, lo, size = ([int(n) for n in text[key]] for key in ("shape", "lo", "size"))
        fits = (
            dtype is not None
            and len(shape) == len(lo) == len(size) == 3
            and all(min(a, n) >= 0 and a + n <= w for a, n, w in zip(lo, size, shape, strict=True))
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        fits = False
    if not fits or dtype is None:
        raise InputError("the body is no array; see `segvol_gru.interfaces.wire_arrays`.")
    if math.prod(shape) * dtype.itemsize > limit:
        raise InputError(
            f"the array of shape {shape} is above the limit of {limit} bytes; crop it."
        )
    wanted = math.prod(size) * dtype.itemsize
    if packed:
        voxels = _inflated(voxels, wanted)
    if len(voxels) != wanted:
        raise InputError(f"the array has {len(voxels)} bytes, wanted {wanted}; send it again.")
    little = np.frombuffer(voxels, np.uint8 if dtype == np.bool_ else dtype.newbyteorder("<"))
    if dtype == np.bool_ and little.size and int(little.max()) > 1:
        raise InputError("a bool array has bytes other than 0 and 1; send it again.")
    part = np.require(little.astype(dtype, copy=False).reshape(size), requirements=["A", "W"])
    if size == shape:
        return part, text
    whole = np.zeros(shape, dtype)
    whole[tuple(slice(a, a + n) for a, n in zip(lo, size, strict=True))] = part
    return whole, text


def _split(data: bytes | bytearray) -> tuple[Json, bool, bytes | memoryview]:
    """Text, whether the voxels are packed, voxels."""
    if len(data) < START.size:
        raise ValueError("too short")
    mark, version, packing, length = START.unpack_from(data)
    if mark != MARK or version != VERSION or packing > 1 or length > TEXT_LIMIT:
        raise ValueError("not ours")
    text = json.loads(data[START.size : START.size + length])
    if not isinstance(text, dict):
        raise ValueError("no text")
    return text, bool(packing), memoryview(data)[START.size + length :]


def _inflated(voxels: bytes | memoryview, wanted: int) -> bytes:
    """Inflate, but never more than was said."""
    if not wanted:
        return b""
    try:
        return zlib.decompressobj().decompress(voxels, wanted)
    except zlib.error:
        return b""
