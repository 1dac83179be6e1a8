"""Session files and journals, byte by byte: a header, the voxels, a stream of records.

    session.json   what the session is about, with the version of the format
    volume.raw     the voxels in C order
    events         one record per command, each complete or not there

    record = "SGRU" | size of the body (uint64) | CRC-32 of the body | CRC-32 of the 16 bytes before
             body = size of the text (uint32) | text, JSON: command, sizes of blobs | blobs

All numbers are little-endian. The text says its own version, so a later release goes on with an
old journal. A blob is written with the first record that names it; snapshots name blobs by
digest. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from segvol_gru.errors import InputError
from segvol_gru.grid import Grid
from segvol_gru.session.log import Command
from segvol_gru.volume import Modality, Volume

VERSION = 1
HEADER, VOXELS, EVENTS = "session.json", "volume.raw", "events"
MARK = b"SGRU"
FRAME = struct.Struct("<4sQI")
CHECKSUM = struct.Struct("<I")
START = FRAME.size + CHECKSUM.size
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Migration:
    """How one version of the format becomes the next.

    Attributes:
        header: old session.json -> new, without its version.
        command: old text of a record -> new.
    """

    header: Callable[[Json], Json]
    command: Callable[[Json], Json]


MIGRATIONS: dict[int, Migration] = {}
"""By the version they start from; a change of the format adds one here."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a session is about.

    Attributes:
        grid: `Grid.to_json` of the volume.
        dtype: of the voxels, in numpy's words, such as '<i2'.
        modality: of the volume.
        window: how intensities were windowed: a name or (lo, hi).
        model: name or folder of the model; None for one that was built in memory.
        corrector: which of its correctors.
        digest: SHA-256 of its weights.
        records: how many records follow; None in a journal, which grows.
    """

    grid: Json
    dtype: str
    modality: Modality | None
    window: str | tuple[float, float]
    model: str | None
    corrector: str
    digest: str
    records: int | None = None
    format: Literal["segvol-gru session"] = "segvol-gru session"
    version: int = VERSION

    def place(self, voxels: NDArray[Any]) -> Volume:
        """The volume of voxels read back."""
        grid = Grid.from_json(self.grid)
        array = voxels.reshape(grid.shape)
        return Volume(array, affine=grid.affine, modality=self.modality, header=grid.header)

    def layout(self) -> tuple[np.dtype[Any], tuple[int, int, int]]:
        """Type and (D, H, W) of the voxels.

        Raises:
            InputError: no type or shape that a volume can have.
        """
        try:
            dtype = np.dtype(self.dtype)
        except (TypeError, ValueError):
            dtype = np.dtype(object)
        shape = Grid.from_json(self.grid).shape
        if dtype.kind not in "biuf" or dtype.itemsize > 8 or min(shape) < 1:
            raise InputError(
                f"voxels are of type {self.dtype!r} and shape {shape}: the session is damaged."
            )
        return dtype, shape


@dataclass(frozen=True, slots=True)
class Record:
    """One command as it was read.

    Attributes:
        command: what was done.
        blobs: new bytes that it names.
        offsets: where each of them starts in the stream.
        end: offset of what follows.
    """

    command: Command
    blobs: tuple[bytes, ...]
    offsets: tuple[int, ...] = field(repr=False)
    end: int


_HEADER: TypeAdapter[Header] = TypeAdapter(Header)
_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="do")])


def dump_header(header: Header) -> bytes:
    """As JSON text."""
    return _HEADER.dump_json(header, indent=1)


def load_header(text: bytes) -> Header:
    """Read a header of this or an earlier version, as of this version.

    Raises:
        InputError: no header of ours, or one of a later version.
    """
    try:
        raw = json.loads(text)
        known = raw["format"] == "segvol-gru session"
        version = int(raw["version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        known, version = False, 0
    if not known:
        raise InputError("this is no session of segvol-gru; give a file that `save` wrote.")
    for step in _steps(version):
        raw = MIGRATIONS[step].header(raw)
    header: Header = _valid(_HEADER, {**raw, "version": VERSION})
    return header


def dump_record(command: Command, blobs: Collection[bytes]) -> tuple[list[bytes], list[int]]:
    """One record.

    Returns:
        Its bytes in pieces, and where in them each blob starts.
    """
    entry = {
        "version": VERSION,
        "command": _COMMAND.dump_python(command, mode="json"),
        "blobs": [len(blob) for blob in blobs],
    }
    text = json.dumps(entry, separators=(",", ":")).encode()
    body = [CHECKSUM.pack(len(text)), text, *blobs]
    crc = 0
    for piece in body:
        crc = zlib.crc32(piece, crc)
    frame = FRAME.pack(MARK, sum(map(len, body)), crc)
    offsets, at = [], START + CHECKSUM.size + len(text)
    for blob in blobs:
        offsets.append(at)
        at += len(blob)
    return [frame, CHECKSUM.pack(zlib.crc32(frame)), *body], offsets


def read_records(stream: IO[bytes], size: int) -> Iterator[Record]:
    """Read records until the end or a torn one: the prompt in flight when the power went.

    Args:
        stream: of records, seekable.
        size: bytes of the stream.

    Raises:
        InputError: a record is damaged, not torn: whole ones follow.
    """
    at = 0
    while (body := _body(stream, at, size)) is not None:
        yield _record(body, at + START)
        at += START + len(body)
    stream.seek(at)
    tail = stream.read()
    following = tail.find(MARK, 1)
    while following > 0:
        if _body(stream, at + following, size) is not None:
            raise InputError(f"events are damaged at byte {at}; restore them from a backup.")
        following = tail.find(MARK, following + 1)


def _body(stream: IO[bytes], at: int, size: int) -> bytes | None:
    """The body of the record at an offset; None if there is no whole record."""
    stream.seek(at)
    start = stream.read(START)
    if len(start) < START or CHECKSUM.unpack_from(start, FRAME.size)[0] != zlib.crc32(start[:-4]):
        return None
    mark, length, crc = FRAME.unpack_from(start)
    if mark != MARK or at + START + length > size:
        return None
    body = stream.read(length)
    return body if len(body) == length and zlib.crc32(body) == crc else None


def _record(body: bytes, at: int) -> Record:
    """Take apart a body that starts at an offset of the stream."""
    try:
        first = CHECKSUM.size + CHECKSUM.unpack_from(body)[0]
        entry = json.loads(body[CHECKSUM.size : first])
        command, version = entry["command"], int(entry["version"])
        sizes = [int(size) for size in entry["blobs"]]
        if min(sizes, default=0) < 0 or first + sum(sizes) != len(body):
            raise ValueError("sizes of blobs")
    except (ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
        raise InputError(f"the session is damaged: a record has no {error}.") from None
    for step in _steps(version):
        command = MIGRATIONS[step].command(command)
    blobs, offsets = [], []
    for size in sizes:
        blobs.append(body[first : first + size])
        offsets.append(at + first)
        first += size
    return Record(_valid(_COMMAND, command), tuple(blobs), tuple(offsets), at + len(body))


def _steps(version: int) -> range:
    """The migrations that lead from a version to ours."""
    if not 1 <= version <= VERSION:
        raise InputError(
            f"the session has format {version}, this release reads 1 to {VERSION}; "
            "open it with a newer release."
        )
    return range(version, VERSION)


def _valid(adapter: TypeAdapter[Any], raw: Mapping[str, Any]) -> Any:
    try:
        return adapter.validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"the session is damaged: {where}: {first['msg']}.") from None
