"""Bytes by their digest: recent ones in memory, all others on disk.

A session of a hundred clicks holds hundreds of megabytes of states. They are kept once each,
the least recently used beyond the budget only in the journal, or without one in an unnamed
temporary file that vanishes with the process.
"""

from __future__ import annotations

import hashlib
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from segvol_gru.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where bytes lie on disk.

    Attributes:
        file: open for reading.
        offset: of the first byte.
        size: in bytes.
    """

    file: IO[bytes]
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes.

        Raises:
            InputError: the file is shorter than it was.
        """
        self.file.seek(self.offset)
        data = self.file.read(self.size)
        while len(data) < self.size and (more := self.file.read(self.size - len(data))):
            data += more  # unbuffered files give 2 GiB at most at a time
        if len(data) != self.size:
            raise InputError("a file of this session was cut off while in use; restore it.")
        return data


class Blobs:
    """A store of immutable bytes.

    Args:
        budget: bytes kept in memory; the newest blob is kept whatever its size.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0
        self._places: dict[str, Place] = {}
        self._overflow: IO[bytes] | None = None
        self._overflow_end = 0

    def put(self, data: bytes) -> str:
        """Keep some bytes; the same bytes twice are kept once.

        Returns:
            Their name, a digest.

        Raises:
            InputError: the disk has no room for older ones; all bytes but these are kept.
        """
        key = hashlib.blake2b(data, digest_size=16).hexdigest()
        if key not in self._held:
            self._make_room(len(data))
            self._held[key] = data
            self._held_bytes += len(data)
        self._held.move_to_end(key)
        return key

    def get(self, key: str) -> bytes:
        """The bytes of a name that `put` gave."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        data = self._places[key].read()
        with suppress(InputError):  # no room on disk for others: it stays there
            self.put(data)
        return data

    def __contains__(self, key: str) -> bool:
        return key in self._held or key in self._places

    def found_at(self, key: str, place: Place) -> None:
        """Say where on disk the bytes of a name lie."""
        self._places[key] = place

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget all other names."""
        for key in [key for key in self._held if key not in keys]:
            self._held_bytes -= len(self._held.pop(key))
        self._places = {key: place for key, place in self._places.items() if key in keys}

    def close(self) -> None:
        """Forget everything."""
        self.keep_only(())
        if self._overflow is not None:
            self._overflow.close()
            self._overflow, self._overflow_end = None, 0

    def _make_room(self, size: int) -> None:
        """Let the oldest blobs be on disk only, until another fits into the budget."""
        while self._held and self._held_bytes + size > self._budget:
            key, data = next(iter(self._held.items()))
            if key not in self._places:
                self._places[key] = self._spill(data)
            del self._held[key]
            self._held_bytes -= len(data)

    def _spill(self, data: bytes) -> Place:
        try:
            if self._overflow is None:
                self._overflow = tempfile.TemporaryFile(prefix="segvol-gru-", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._overflow.close)
            self._overflow.seek(self._overflow_end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._overflow.write(rest) :]
        except OSError as error:
            raise InputError(
                f"cannot move older states to the temporary folder ({error.strerror}); make room "
                "on its disk and try again."
            ) from None
        place = Place(self._overflow, self._overflow_end, len(data))
        self._overflow_end += len(data)
        return place
