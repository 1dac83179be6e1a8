"""A session on disk while it is alive: every prompt is safe before its mask is shown.

A folder of three files (see `records`). The voxels are written once, the header after them, so a
folder with a header is whole. Every command is one record, flushed to the medium before it
counts. A process killed at any moment leaves at most one torn record at the end, which `open`
cuts off. What was dropped stays in the file until it outweighs the rest; then the rest is
written anew into another file, which takes the first one's place at once.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from segvol_gru.errors import InputError
from segvol_gru.session.blobs import Blobs, Place
from segvol_gru.session.log import Command, Scene, commands_of, keys_of
from segvol_gru.session.records import (
    EVENTS,
    HEADER,
    VOXELS,
    Header,
    dump_header,
    dump_record,
    load_header,
    read_records,
)
from segvol_gru.volume import Volume

try:
    import fcntl
except ImportError:  # Windows: two processes on one journal are not noticed there
    fcntl = None  # type: ignore[assignment]

SPARE = 2**20
"""Dropped bytes that are not worth writing a journal anew."""
PART = ".part"


class Journal:
    """An open journal; `create` or `open` it.

    Args:
        folder: where it lies.

    Raises:
        InputError: another session has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = (folder / HEADER).open("r+b")  # the one that is never written anew
        weakref.finalize(self, self._lock.close)
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InputError(
                f"journal {folder} is in use by another session; close that one first."
            ) from None
        self._places: dict[str, Place] = {}  # of all blobs that were written
        self._end = 0
        self._due = SPARE
        self._file = (folder / EVENTS).open("r+b", buffering=0)
        weakref.finalize(self, self._file.close)
        (folder / f"{EVENTS}{PART}").unlink(missing_ok=True)  # of a process killed in `tidy`

    @classmethod
    def create(cls, folder: Path, header: Header, volume: Volume) -> Journal:
        """Start a journal in a new or empty folder.

        Raises:
            InputError: the folder holds a session already or cannot be written.
        """
        if (folder / HEADER).exists():
            raise InputError(
                f"{folder} holds a session already; go on with it by Session.resume or give "
                "another folder."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / VOXELS, slabs(volume))
            _write(folder / EVENTS, ())
            aside = folder / f"{HEADER}{PART}"
            _write(aside, (dump_header(header),))
            aside.replace(folder / HEADER)
            _flush_folder(folder)
        except OSError as error:
            raise InputError(
                f"cannot write a journal into {folder} ({error.strerror}); give a folder on a "
                "disk with room that you may write to."
            ) from None
        return cls(folder)

    @classmethod
    def open(cls, folder: Path, blobs: Blobs) -> tuple[Journal, Header, Volume, list[Command]]:
        """Open a journal to go on with it.

        Args:
            folder: where it lies.
            blobs: is told where the stored bytes lie.

        Returns:
            The journal, what it is about, its volume (mapped, read as it is needed) and all
            commands so far.

        Raises:
            InputError: no journal, damaged, of a later format, or in use.
        """
        try:
            header = load_header((folder / HEADER).read_bytes())
        except OSError:
            raise InputError(f"{folder} holds no session; give the folder of a journal.") from None
        dtype, shape = header.layout()
        try:
            voxels = np.memmap(folder / VOXELS, dtype=dtype, mode="r", shape=shape)
            journal = cls(folder)
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(f"the journal in {folder} is damaged ({error}).") from None
        try:
            return journal, header, header.place(np.asarray(voxels)), journal._replay(blobs)
        except InputError:
            journal.close()
            raise

    def append(self, command: Command, blobs: Blobs) -> None:
        """Write one command, and return when it is on the medium.

        Raises:
            InputError: it cannot be written; the journal is as it was.
        """
        try:
            end, places = _add(self._file, self._end, command, blobs, self._places)
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(self._end)
            raise InputError(
                f"cannot write the journal in {self.folder} ({error.strerror}); make room on its "
                "disk and repeat the prompt."
            ) from None
        self._end = end
        self._learn(places, blobs)

    def tidy(self, scene: Scene, blobs: Blobs) -> None:
        """Write the journal anew if more of it was dropped than counts.

        A process killed meanwhile leaves the old file or the new one, and they say the same.
        Where no new one can be written (a full disk, Windows) the old one goes on.

        Args:
            scene: what all commands so far add up to.
            blobs: the bytes that it names; is told where they lie now.
        """
        if self._end < self._due:
            return
        commands = commands_of(scene)
        keys = {key for command in commands for key in keys_of(command)}
        live = sum(self._places[key].size for key in keys)
        if self._end > 2 * live + SPARE:
            with suppress(OSError, InputError):
                self._write_anew(commands, blobs)
            live = self._end  # not sooner again than there is twice as much
        self._due = 2 * live + SPARE

    def close(self) -> None:
        """Let go of the files."""
        self._file.close()
        self._lock.close()

    def _write_anew(self, commands: Sequence[Command], blobs: Blobs) -> None:
        aside, end = self.folder / f"{EVENTS}{PART}", 0
        places: dict[str, Place] = {}
        fresh = aside.open("w+b", buffering=0)
        try:
            for command in commands:
                end, more = _add(fresh, end, command, blobs, places)
                places |= more
            os.fsync(fresh.fileno())
            aside.replace(self.folder / EVENTS)
        except BaseException:
            fresh.close()
            aside.unlink(missing_ok=True)
            raise
        self._file.close()
        self._file, self._end, self._places = fresh, end, {}
        weakref.finalize(self, fresh.close)
        self._learn(places, blobs)
        _flush_folder(self.folder)

    def _replay(self, blobs: Blobs) -> list[Command]:
        commands = []
        for record in read_records(self._file, self._file.seek(0, os.SEEK_END)):
            for blob, offset in zip(record.blobs, record.offsets, strict=True):
                place = Place(self._file, offset, len(blob))
                self._learn({blobs.put(blob): place}, blobs)
            self._end = record.end
            commands.append(record.command)
        self._file.truncate(self._end)
        os.fsync(self._file.fileno())
        return commands

    def _learn(self, places: Mapping[str, Place], blobs: Blobs) -> None:
        self._places.update(places)
        for key, place in places.items():
            blobs.found_at(key, place)


def slabs(volume: Volume) -> Iterator[memoryview]:
    """The voxels in C order, one slice of the first axis at a time, not copied if they lie so."""
    for slab in volume.array:
        yield np.ascontiguousarray(slab).data.cast("B")


def _add(
    file: IO[bytes], end: int, command: Command, blobs: Blobs, written: Collection[str]
) -> tuple[int, dict[str, Place]]:
    """Write a record, with the blobs that it names and no other did, at the end of a file.

    Returns:
        Where it ends, and where its blobs lie.
    """
    fresh = {key: blobs.get(key) for key in keys_of(command) if key not in written}
    pieces, offsets = dump_record(command, list(fresh.values()))
    file.seek(end)
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[file.write(rest) :]
    lengths = zip(fresh.items(), offsets, strict=True)
    places = {key: Place(file, end + offset, len(blob)) for (key, blob), offset in lengths}
    return end + sum(map(len, pieces)), places


def _write(path: Path, pieces: Iterator[memoryview] | Sequence[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make names durable; where folders cannot be opened (Windows) there is nothing to do."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
