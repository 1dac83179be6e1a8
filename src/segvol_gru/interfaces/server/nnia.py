"""nnInteractive's array bytes ("NNIA", version 1), read with care and written.

Source: format as spoken by PyPI nninteractive-client 2.6.0.

    "NNIA" | version = 1 | codec | axes | length of the type's name | name | axes x int64
    chunks (uint32) | per chunk: bytes unpacked, bytes packed (uint64 each), a Blosc2 chunk
"""

from __future__ import annotations

import math
import struct
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.refusals import TooLarge
from segvol_gru.interfaces.wire_arrays import DTYPES

MARK, VERSION, ZSTD = b"NNIA", 1, 1
START = struct.Struct("<4sBBBB")
COUNT, CHUNK = struct.Struct("<I"), struct.Struct("<QQ")
CHUNK_BYTES = 2**30
MAX_AXES = 4


def dump(array: NDArray[Any]) -> bytes:
    """Bytes of an array of any shape."""
    array = np.ascontiguousarray(array)
    name = array.dtype.name.encode()
    raw = array.reshape(-1).view(np.uint8).data
    starts = range(0, len(raw), CHUNK_BYTES)
    parts = [
        START.pack(MARK, VERSION, ZSTD, array.ndim, len(name)),
        name,
        struct.pack(f"<{array.ndim}q", *array.shape),
        COUNT.pack(len(starts)),
    ]
    for start in starts:
        piece = raw[start : start + CHUNK_BYTES]
        packed = blosc2.compress2(
            piece,
            typesize=array.itemsize,
            codec=blosc2.Codec.ZSTD,
            clevel=1,
            filters=[blosc2.Filter.NOFILTER],
            nthreads=1,
        )
        parts += [CHUNK.pack(len(piece), len(packed)), packed]
    return b"".join(parts)


def load(data: bytes | bytearray, limit: int) -> NDArray[Any]:
    """The array of some bytes.

    Args:
        data: what came.
        limit: most bytes that it may take in memory.

    Raises:
        InputError: these are no such bytes.
        TooLarge: it takes more.
    """
    try:
        return _load(memoryview(data), limit)
    except (struct.error, ValueError, RuntimeError, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the body is no NNIA array ({error}); send it again.") from None


def _load(data: memoryview, limit: int) -> NDArray[Any]:
    mark, version, _, axes, length = START.unpack_from(data)
    name = bytes(data[START.size : START.size + length]).decode("ascii")
    if mark != MARK or version != VERSION or axes > MAX_AXES or name not in DTYPES:
        raise InputError(
            f"the body is {mark!r} version {version} of {axes} axes of {name!r}; wanted NNIA "
            "version 1, at most 4 axes of real numbers: use nninteractive-client 2.5 or 2.6."
        )
    at = START.size + length
    shape = struct.unpack_from(f"<{axes}q", data, at)
    at += 8 * axes
    dtype = np.dtype(name)
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    total = math.prod(shape) * dtype.itemsize
    if total > limit:
        raise TooLarge(f"the array of shape {shape} is above the limit of {limit} bytes; crop it.")
    out, filled = np.empty(total, np.uint8), 0
    (chunks,) = COUNT.unpack_from(data, at)
    at += COUNT.size
    for _ in range(chunks):
        plain, packed = CHUNK.unpack_from(data, at)
        at += CHUNK.size
        piece = bytes(data[at : at + packed])
        at += packed
        if len(piece) != packed or packed < blosc2.MIN_HEADER_LENGTH or filled + plain > total:
            raise ValueError("a chunk is cut off or too long")
        if blosc2.get_cbuffer_sizes(piece)[:2] != (plain, packed):
            raise ValueError("a chunk is not as long as it says")
        blosc2.decompress2(piece, dst=out[filled : filled + plain])
        filled += plain
    if filled != total:
        raise ValueError(f"{filled} bytes came, wanted {total}")
    if dtype == np.bool_ and total and int(out.max()) > 1:
        raise ValueError("a bool array has bytes other than 0 and 1")
    return out.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
