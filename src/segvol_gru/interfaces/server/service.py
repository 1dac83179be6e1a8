"""All sessions of a server process, without a word about HTTP.

Lock order: the lock of one `Place`, then a thread. No thread ever waits for a lock, and nobody
holds two locks. The table of places is touched on the event loop only.

    Service ─► Seats    who has a place in this process
            ─► Threads  one for prompts, a few for files
            ─► Shelf    journals on disk
            ─► Index    which sessions there are
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.index import Index, Kind, Row, key_of
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.metrics import Metrics
from segvol_gru.interfaces.server.places import Clock, Place
from segvol_gru.interfaces.server.refusals import Unknown, Unopened, Unreachable
from segvol_gru.interfaces.server.seats import UNKNOWN, Seats
from segvol_gru.interfaces.server.shelf import Shelf
from segvol_gru.interfaces.server.threads import Threads
from segvol_gru.interfaces.server.waiting import keep, kept
from segvol_gru.interfaces.wire_nninteractive import Dialect
from segvol_gru.memory import give_memory_back
from segvol_gru.pipeline import Model
from segvol_gru.session.engine import WindowChoice
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

T = TypeVar("T")
TOKEN_BYTES = 24


class Service:
    """Sessions of many users over one model.

    Args:
        model: on its device.
        store: folder of the journals; made if it is missing.
        index: which sessions there are; closed with the service.
        limits: caps.
        licence: of the weights, shown to users.
        clock: seconds; tests bring their own.
    """

    def __init__(
        self,
        model: Model,
        store: Path,
        index: Index,
        limits: Limits | None = None,
        licence: str = "unknown",
        clock: Clock = time.monotonic,
    ) -> None:
        self.limits = limits or Limits()
        self.licence = licence
        self.metrics = Metrics()
        self._shelf = Shelf(store, model, self.limits.undo_memory_mb)
        self._index, self._threads = index, Threads(store)
        self._seats = Seats(index, self.limits, self._threads, clock)

    # Sessions -----------------------------------------------------------------------------

    async def claim(self, kind: Kind, token: str | None = None) -> str:
        """A place for a session without an image yet.

        Args:
            kind: who will speak to it.
            token: its id; None for a new, unguessable one. A session that has this id is it.

        Raises:
            Full: all places are taken.
        """
        token = token or secrets.token_urlsafe(TOKEN_BYTES)
        row = Row(key_of(token), kind, None, 0)
        await self._make_seat(row.key)
        place = self._seats.seat(row)
        async with place.lock:
            await self._threads.beside(self._index.add, row)
        return token

    async def expect(self, token: str | None = None) -> None:
        """Demand a place before an upload is read; others may be quicker to take it.

        Args:
            token: the session that it is for; None for one that is yet to begin.

        Raises:
            Unknown: there is no such session.
            Full: all places are taken.
        """
        if token is None:
            await self._make_seat("")
        else:
            await self._seats.place(token)

    async def read(self, do: Callable[[], T]) -> T:
        """Do something that concerns no session, such as reading an upload, in a thread."""
        return await self._threads.beside(do)

    async def load(self, token: str, volume: Volume, window: WindowChoice = "auto") -> None:
        """Give a session its image, in place of the one it had.

        The volume is windowed and its journal is on disk when this returns.

        Args:
            token: the session.
            volume: the image.
            window: see `Session`.

        Raises:
            InputError: the window does not fit it.
            Unknown: the session was ended elsewhere.
            Full: there is no room for it.
        """
        n_bytes, name = volume.array.nbytes, secrets.token_hex(16)
        stored = await self._threads.beside(self._shelf.bytes)
        if stored + n_bytes > self.limits.max_store_bytes:
            raise self._seats.full("the disk space for sessions is used up")

        async def change(place: Place) -> None:
            if place.session is None:
                await self._seats.look_again(place)
            before = place.bytes
            await self._seats.make_room(n_bytes - before)
            place.bytes = n_bytes
            try:
                fresh = await self._threads.beside(self._shelf.begin, volume, window, name)
                await self._threads.beside(self._shelf.loosen, place.journal)
                if not await self._threads.beside(self._index.move, place.key, name, n_bytes):
                    raise Unknown(UNKNOWN)  # another server ended it
            except Exception as error:
                place.bytes = before
                await self._threads.beside(self._shelf.discard, name)
                ended = isinstance(error, Unknown)
                let = self._shelf.discard if ended else self._shelf.keep
                await self._threads.beside(let, place.journal)
                raise
            old, place.journal = place.journal, name
            if place.session is not None:
                await self._threads.beside(place.session.close)
            place.session, place.dialect = fresh, None
            await self._threads.beside(self._shelf.keep, name)
            await self._threads.beside(self._shelf.discard, old)

        await self._seats.hold(token, change)

    async def prompt(self, token: str, say: Callable[[Session], T]) -> T:
        """Do something with a session that needs the networks, in the worker thread."""

        async def run(place: Place) -> T:
            session = await self._opened(place)
            with self.metrics.prompt():
                return await self._threads.network(say, session)

        return await self._seats.hold(token, run)

    async def ask(self, token: str, look: Callable[[Session], T]) -> T:
        """Do something with a session that needs no network, beside the worker thread."""

        async def run(place: Place) -> T:
            return await self._threads.beside(look, await self._opened(place))

        return await self._seats.hold(token, run)

    async def speak(self, token: str, say: Callable[[Dialect], T]) -> T:
        """Say something in nnInteractive's words.

        A conversation that a restart or a rest cut off goes on with what waited in it; what its
        viewer shows is not known any more.

        Args:
            token: the session.
            say: what.
        """

        async def talk(place: Place) -> T:
            session = await self._opened(place)
            assert place.journal is not None
            waiting = self._shelf.waiting(place.journal)

            def both() -> T:
                if place.dialect is None:
                    place.dialect = Dialect(session, None, kept(waiting, session))
                try:
                    return say(place.dialect)
                finally:
                    keep(waiting, session, place.dialect.waiting)

            with self.metrics.prompt():
                return await self._threads.network(both)

        return await self._seats.hold(token, talk)

    async def remaining_s(self, token: str, *, alive: bool) -> float:
        """Seconds until a session gives up its place; 0 if it has none at the moment.

        Args:
            token: the session.
            alive: whether this is a sign of life.

        Raises:
            Unknown: there is no such session.
        """
        place = self._seats.find(key_of(token))
        if place is None:
            await self._seats.row(token)
            return 0.0
        if alive:
            place.see()
        return place.remaining_s(self.limits)

    async def release(self, token: str) -> None:
        """End a session and delete it, if there is one."""
        key = key_of(token)
        row = await self._threads.beside(self._index.find, key)
        journal = None if row is None else row.journal
        await self._threads.beside(self._shelf.loosen, journal)
        try:
            await self._threads.beside(self._index.remove, key)  # nobody takes it up any more
        except Exception:
            await self._threads.beside(self._shelf.keep, journal)
            raise
        place = self._seats.find(key)
        if place is not None:
            async with place.lock:
                await self._seats.give_up(place)
            await self._threads.beside(self._shelf.discard, place.journal)
        elif row is not None:
            await self._threads.beside(self._shelf.discard, row.journal)

    async def has_image(self, token: str) -> bool | None:
        """Whether a session has an image; None if there is no such session."""
        place = self._seats.find(key_of(token))
        if place is not None and place.session is not None:
            return True
        row = await self._threads.beside(self._index.find, key_of(token))
        return None if row is None else row.journal is not None

    # Housekeeping -------------------------------------------------------------------------

    async def warm_up(self) -> None:
        """Run the networks once, so that the first user does not wait for their set-up."""
        await self._threads.network(self._shelf.warm_up)

    @property
    def open_sessions(self) -> int:
        """How many places are taken."""
        return len(self._seats)

    @property
    def open_bytes(self) -> int:
        """Bytes of their voxels."""
        return self._seats.bytes

    async def reap(self) -> None:
        """Give up places whose clocks have run out, delete sessions that nobody came back to.

        Memory that requests side by side once needed goes back to the system.
        """
        with suppress(Unreachable):  # the next time will do
            await self._reap()
        await self._threads.beside(give_memory_back)

    async def _reap(self) -> None:
        await self._seats.give_up_lapsed()
        await self._seats.note_use()
        for row in await self._threads.beside(self._index.stale, self.limits.keep_s):
            if row.key not in self._seats:
                await self._threads.beside(self._shelf.loosen, row.journal)
                await self._threads.beside(self._index.remove, row.key)
                await self._threads.beside(self._shelf.discard, row.journal)
        known = await self._threads.beside(self._index.journals)
        await self._threads.beside(self._shelf.sweep, known)

    async def close(self) -> None:
        """Close every session; all of them can be taken up again by another service."""
        await self._seats.close()
        self._threads.close()
        self._index.close()

    async def _make_seat(self, key: str) -> None:
        """Demand room for a session without an image."""
        count = await self._threads.beside(self._index.count)
        if count >= self.limits.max_records:
            raise self._seats.full(f"{count} sessions are stored, which is the limit")
        await self._seats.make_seat(key, n_bytes=0)

    async def _opened(self, place: Place) -> Session:
        """The session of a place whose lock is held."""
        if place.session is None:
            await self._seats.look_again(place)
        if place.journal is None:
            raise InputError("there is no image yet; upload one first.")
        if place.session is None:
            try:
                place.session = await self._threads.beside(self._shelf.resume, place.journal)
            except InputError as error:
                await self._seats.give_up(place)
                raise Unopened(f"the session cannot be opened: {error}") from None
            await self._threads.beside(self._index.touch, place.key)
        return place.session
