"""All sessions of a server process, without a word about HTTP.

Lock order: the lock of one `Place`, then a thread. No thread ever waits for a lock, and nobody
holds two locks. The table of places is touched on the event loop only.

    one worker thread    prompts: networks of all sessions, one at a time
    a few other threads  uploads, files, masks, the index
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.index import Index, Kind, Row, key_of
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.metrics import Metrics
from segvol_gru.interfaces.server.places import Clock, Place
from segvol_gru.interfaces.server.refusals import Full, Unknown, Unopened
from segvol_gru.interfaces.server.shelf import Shelf
from segvol_gru.interfaces.wire_nninteractive import Dialect
from segvol_gru.pipeline import Model
from segvol_gru.session.engine import WindowChoice
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

T = TypeVar("T")
THREADS = 4  # beside the worker: uploads and downloads of a few users at a time
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
        self._index, self._clock = index, clock
        self._places: dict[str, Place] = {}
        self._worker = ThreadPoolExecutor(1, "prompts")
        self._files = ThreadPoolExecutor(THREADS, "files")
        self._running: set[asyncio.Task[Any]] = set()

    # Sessions -----------------------------------------------------------------------------

    async def claim(self, kind: Kind, token: str | None = None) -> str:
        """A place for a session without an image yet.

        Args:
            kind: who will speak to it.
            token: its id; None for a new, unguessable one. A session that has this id is it.

        Raises:
            Full: all places are taken.
        """
        count, _ = await self._off(self._index.totals)
        if count >= self.limits.max_records:
            raise self._full(f"{count} sessions are stored, which is the limit")
        await self._make_room(seats=1, n_bytes=0)
        token = token or secrets.token_urlsafe(TOKEN_BYTES)
        row = Row(key_of(token), kind, None, 0)
        place = self._seat(row)
        async with place.lock:
            await self._off(self._index.add, row)
        return token

    async def read(self, do: Callable[[], T]) -> T:
        """Do something that concerns no session, such as reading an upload, in a thread."""
        return await self._off(do)

    async def load(self, token: str, volume: Volume, window: WindowChoice = "auto") -> None:
        """Give a session its image, in place of the one it had.

        The volume is windowed and its journal is on disk when this returns.

        Args:
            token: the session.
            volume: the image.
            window: see `Session`.

        Raises:
            InputError: the window does not fit it.
            Full: there is no room for it.
        """
        n_bytes, name = volume.array.nbytes, secrets.token_hex(16)
        _, stored = await self._off(self._index.totals)
        if stored + n_bytes > self.limits.max_store_bytes:
            raise self._full("the disk space for sessions is used up")

        async def change(place: Place) -> None:
            before = place.bytes
            await self._make_room(seats=0, n_bytes=n_bytes - before)
            place.bytes = n_bytes
            try:
                fresh = await self._off(self._shelf.begin, volume, window, name)
            except InputError:
                place.bytes = before
                raise
            await self._off(self._index.move, place.key, name, n_bytes)
            old, place.journal = place.journal, name
            if place.session is not None:
                await self._off(place.session.close)
            place.session, place.dialect = fresh, None
            await self._off(self._shelf.discard, old)

        await self._locked(token, change)

    async def prompt(self, token: str, say: Callable[[Session], T]) -> T:
        """Do something with a session that needs the networks, in the worker thread."""
        return await self._with(token, say, self._worker)

    async def ask(self, token: str, look: Callable[[Session], T]) -> T:
        """Do something with a session that needs no network, beside the worker thread."""
        return await self._with(token, look, self._files)

    async def speak(
        self, token: str, say: Callable[[Dialect], T], begin: Callable[[Session], Dialect]
    ) -> T:
        """Say something in nnInteractive's words.

        Args:
            token: the session.
            say: what.
            begin: makes the conversation if the session has none yet.
        """

        async def talk(place: Place) -> T:
            session = await self._opened(place)

            def both() -> T:
                place.dialect = place.dialect or begin(session)
                return say(place.dialect)

            with self.metrics.prompt():
                return await self._off(both, on=self._worker)

        return await self._locked(token, talk)

    async def remaining_s(self, token: str, *, alive: bool) -> float:
        """Seconds until a session gives up its place; 0 if it has none at the moment.

        Args:
            token: the session.
            alive: whether this is a sign of life.

        Raises:
            Unknown: there is no such session.
        """
        place = self._places.get(key_of(token))
        if place is None:
            await self._row(token)
            return 0.0
        if alive:
            place.see()
        return place.remaining_s(self.limits)

    async def release(self, token: str) -> None:
        """End a session and delete it, if there is one."""
        key = key_of(token)
        row = await self._off(self._index.find, key)
        await self._off(self._index.remove, key)  # from here on nobody takes it up again
        place = self._places.get(key)
        if place is not None:
            async with place.lock:
                await self._give_up(place)
            await self._off(self._shelf.discard, place.journal)
        elif row is not None:
            await self._off(self._shelf.discard, row.journal)

    async def has_image(self, token: str) -> bool | None:
        """Whether a session has an image; None if there is no such session."""
        row = await self._off(self._index.find, key_of(token))
        return None if row is None else row.journal is not None

    # Housekeeping -------------------------------------------------------------------------

    async def warm_up(self) -> None:
        """Run the networks once, so that the first user does not wait for their set-up."""
        await self._off(self._shelf.warm_up, on=self._worker)

    @property
    def open_sessions(self) -> int:
        """How many places are taken."""
        return len(self._places)

    @property
    def open_bytes(self) -> int:
        """Bytes of their voxels."""
        return sum(place.bytes for place in self._places.values())

    async def reap(self) -> None:
        """Give up places whose clocks have run out, delete sessions that nobody came back to."""
        await self._give_up_lapsed()
        for row in await self._off(self._index.stale, self.limits.keep_s):
            if row.key not in self._places:
                await self._off(self._index.remove, row.key)
                await self._off(self._shelf.discard, row.journal)
        await self._off(self._shelf.sweep, await self._off(self._index.journals))

    async def close(self) -> None:
        """Close every session; all of them can be taken up again by another service."""
        if self._running:
            await asyncio.wait(self._running)
        for place in list(self._places.values()):
            async with place.lock:
                await self._give_up(place)
        self._worker.shutdown()
        self._files.shutdown()
        self._index.close()

    # How ----------------------------------------------------------------------------------

    async def _with(self, token: str, do: Callable[[Session], T], pool: Executor) -> T:
        async def run(place: Place) -> T:
            session = await self._opened(place)
            if pool is self._worker:
                with self.metrics.prompt():
                    return await self._off(do, session, on=pool)
            return await self._off(do, session, on=pool)

        return await self._locked(token, run)

    async def _locked(self, token: str, run: Callable[[Place], Coroutine[Any, Any, T]]) -> T:
        """Run something under a session's lock, to its end even if the client hangs up."""

        async def to_the_end() -> T:
            while True:
                place = await self._place(token)
                async with place.lock:
                    if place.gone:
                        continue
                    place.act()
                    try:
                        return await run(place)
                    finally:
                        place.act()

        task = asyncio.ensure_future(to_the_end())
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of a client that hung up: nobody else looks at it

    async def _opened(self, place: Place) -> Session:
        """The session of a place whose lock is held."""
        if place.journal is None:
            raise InputError("there is no image yet; upload one first.")
        if place.session is None:
            try:
                place.session = await self._off(self._shelf.resume, place.journal)
            except InputError as error:
                raise Unopened(f"the session cannot be opened: {error}") from None
            await self._off(self._index.touch, place.key)
        return place.session

    async def _off(self, do: Callable[..., T], *args: object, on: Executor | None = None) -> T:
        """Call something in a thread."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(on or self._files, do, *args)
        except InputError as error:  # its sentence goes to users: no folders of this machine
            raise InputError(str(error).replace(str(self._shelf.folder), "the store")) from None

    async def _row(self, token: str) -> Row:
        row = await self._off(self._index.find, key_of(token))
        if row is None:
            raise Unknown("there is no such session; it ended or was never begun.")
        return row

    async def _place(self, token: str) -> Place:
        """The place of a session, taken up again if it had been given up."""
        key = key_of(token)
        if key not in self._places:
            row = await self._row(token)
            await self._make_room(seats=1, n_bytes=row.bytes)
            return self._seat(row)
        return self._places[key]

    def _seat(self, row: Row) -> Place:
        fresh = Place(row.key, row.kind, row.journal, row.bytes, self._clock)
        return self._places.setdefault(row.key, fresh)

    async def _make_room(self, seats: int, n_bytes: int) -> None:
        """Demand room, giving up lapsed places if need be; who awaits nothing more has it."""
        if self._fits(seats, n_bytes):
            return
        await self._give_up_lapsed()
        if not self._fits(seats, n_bytes):
            raise self._full("all places of this server are taken")

    async def _give_up_lapsed(self) -> None:
        for place in list(self._places.values()):
            if place.lapsed(self.limits):  # so its lock is free: nobody waits here
                async with place.lock:
                    await self._give_up(place)

    def _fits(self, seats: int, n_bytes: int) -> bool:
        room = n_bytes <= 0 or self.open_bytes + n_bytes <= self.limits.max_bytes
        return room and len(self._places) + seats <= self.limits.max_sessions

    def _full(self, sentence: str) -> Full:
        wait = self.limits.retry_after_s
        return Full(f"{sentence}; try again in {wait} s or end a session.", wait)

    async def _give_up(self, place: Place) -> None:
        """Close a place whose lock is held; its journal stays."""
        if place.gone:
            return
        place.gone = True
        del self._places[place.key]
        session, place.session, place.dialect = place.session, None, None
        if session is not None:
            await self._off(session.close)
        await self._off(self._index.touch, place.key)
