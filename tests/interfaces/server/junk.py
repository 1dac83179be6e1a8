"""What no client should send."""

from __future__ import annotations

import gzip
import struct

import numpy as np

JUNK = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b"0",
    b"\xff\xfe\x00",
    b'{"\\ud800": 1}',
    b'{"at": [1, 2]}',
    b'{"at": [1e999, 0, 0], "coordinates": [1e999, 0, 0]}',
    b'{"at": [NaN, 0, 0], "voxel_coord": [NaN, 0, 0], "positive_click": true}',
    b'{"at": ["a", {}, null], "lo": "123", "hi": [[1]]}',
    b'{"lo": [0, 0, 0], "hi": [5, 5, 5], "tight": [1, 2, 3]}',
    b'{"lo": [0, 0, 0], "hi": [5, 5, 5], "frame": "scanner"}',
    b'{"name": "\\ud800"}',
    b'{"name": 3, "to": []}',
    b'{"step": 1e300}',
    b'{"step": 99999999999999999999999999}',
    b'{"coordinates": [1, 2, 3], "include_interaction": "perhaps"}',
    b'{"shape": [1, 2], "dtype": "uint8"}',
    b'{"shape": [-1, 9999999999999999999999, 2], "dtype": "uint8"}',
    b'{"shape": [12, 18, 16], "dtype": "\\u0000"}',
    b"[" * 5000,
    b'{"a":' * 5000,
)
"""Bodies of JSON that are no request of ours."""

RAW = (
    b"",
    b"\x00",
    b"SGVA",
    b"SGVA\x01\x01\xff\xff\xff\xff",
    b"SGVA\x01\x00\x02\x00\x00\x00{}",
    b"SGVA\x01\x00" + struct.pack("<I", 12) + b'{"shape": 1}',
    b"NNIA",
    b"NNIA\x01\x01\x04\x05int16" + struct.pack("<4q", 1, 2**40, 2**40, 2**40),
    b"NNIA\x01\x01\x04\x05int16" + struct.pack("<4q", 1, -2, 3, 4),
    b"NNIA\x01\x01\x03\x06object" + struct.pack("<3q", 1, 2, 3),
    b"\x93NUMPY",
    b"\x93NUMPY\x01\x00\x10\x00{'descr': '|O', }",
    b"\x1f\x8b\x08\x00",
    gzip.compress(b"\x93NUMPY"),
    b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\ndata file: /etc/passwd\n\n",
    b"ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
    b"ElementDataFile = /etc/passwd\n",
    b"ObjectType = Image\nNDims = 3\nDimSize = 9999999 9999999 9999999\n"
    b"ElementType = MET_DOUBLE\nElementDataFile = LOCAL\n",
    struct.pack("<i", 348) + bytes(348),
    bytes(2000),
)
"""Bodies of bytes that are no image and no mask."""


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The same with some bytes changed, or cut off, or with more at the end."""
    match rng.integers(3):
        case 0:
            return data[: int(rng.integers(len(data)))]
        case 1:
            return data + rng.bytes(int(rng.integers(1, 50)))
        case _:
            spoilt = bytearray(data)
            for at in rng.integers(len(data), size=int(rng.integers(1, 4))):
                spoilt[at] ^= int(rng.integers(1, 256))
            return bytes(spoilt)
