"""Damage that ITK does not notice: it shows wrong voxels, or writes beyond its own memory.

ITK ignores the checksum of compressed voxels (and MetaImage even a failed decompression), so a
file with one flipped byte gives an image of garbage without a word. Reading the stream once more
costs half a second per 100 million voxels.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from segvol_gru.data.files import MAX_TRAILING
from segvol_gru.errors import InputError

HEAD = 2**16  # bytes in which a header must end
CHUNK = 2**20
OUTPUT = 2**24  # bytes inflated at a time
META = (".mha", ".mhd")
META_AXES = (b"2", b"3", b"4")


def refuse_odd_axes(path: Path) -> None:
    """Refuse a MetaImage that claims more axes than ITK, which writes down all, has room for.

    Raises:
        InputError: it does, or does not say how many.
    """
    if path.suffix.lower() in META and _field(_head(path), rb"NDims\s*=") not in META_AXES:
        raise InputError(
            f"cannot read {path} (no line `NDims = 2`, 3 or 4 in its header); "
            "fetch or export it again."
        )


def refuse_damaged(path: Path, n_bytes: int) -> None:
    """Refuse a .nrrd, .nhdr, .mha or .mhd file whose compressed voxels are damaged.

    Args:
        path: the file.
        n_bytes: that its voxels take by its header.

    Raises:
        InputError: a checksum fails, or the data end early or go on far beyond that.
    """
    head = _head(path)
    if path.suffix.lower() in META:
        compressed = _field(head, rb"CompressedData\s*=").lower() == b"true"
        end = re.search(rb"^ElementDataFile\s*=\s*LOCAL\s*?\n", head, re.MULTILINE)
        data = _field(head, rb"ElementDataFile\s*=")
    else:
        blank = re.search(rb"\r?\n\r?\n", head)
        head = head[: blank.end()] if blank else head
        compressed = _field(head, rb"encoding:") in (b"gzip", b"gz")
        data = _field(head, rb"data ?file:")
        end = blank if not data else None
    if compressed and end:
        _inflate(path, path, end.end(), n_bytes)
    elif compressed and (path.parent / data.decode(errors="replace")).is_file():
        _inflate(path, path.parent / data.decode(errors="replace"), 0, n_bytes)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _field(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"^" + name + rb"[ \t]*([^\r\n]*?)[ \t]*\r?$", head, re.MULTILINE)
    return found[1] if found else b""


def _inflate(path: Path, data: Path, start: int, n_bytes: int) -> None:
    """Read a zlib or gzip stream to its checksum."""
    stream = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
    left = 2 * n_bytes + MAX_TRAILING  # ITK leaves out one of seven values of masked tensors
    try:
        with data.open("rb") as file:
            file.seek(start)
            while not stream.eof and (chunk := file.read(CHUNK)):
                while chunk and not stream.eof:
                    left -= len(stream.decompress(chunk, OUTPUT))
                    if left < 0:
                        raise ValueError(f"it inflates to more than its {n_bytes} bytes of voxels")
                    chunk = stream.unconsumed_tail
    except (zlib.error, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); fetch or export it again.") from None
    if not stream.eof:
        raise InputError(f"cannot read {path} (its data end early); fetch or export it again.")
