"""Which sessions have a place in this process, and who gives way when there is none left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from segvol_gru.interfaces.server.index import Index, Row, key_of
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.places import Clock, Place
from segvol_gru.interfaces.server.refusals import Full, Unknown, Unreachable
from segvol_gru.interfaces.server.threads import Threads

T = TypeVar("T")
UNKNOWN = "there is no such session; it ended or was never begun."


class Seats:
    """The table of places. Touched on the event loop only.

    Args:
        index: notes when a session was used.
        limits: caps.
        threads: where sessions are closed.
        clock: seconds.
    """

    def __init__(self, index: Index, limits: Limits, threads: Threads, clock: Clock) -> None:
        self._index, self._limits, self._threads = index, limits, threads
        self._clock, self._noted = clock, clock()
        self._places: dict[str, Place] = {}
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._places.values()))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    @property
    def bytes(self) -> int:
        """Voxels of all places."""
        return sum(place.bytes for place in self._places.values())

    def find(self, key: str) -> Place | None:
        """The place of a session, if it has one."""
        return self._places.get(key)

    def seat(self, row: Row) -> Place:
        """A place for a session; the one that it has if it has one."""
        fresh = Place(row.key, row.kind, row.journal, row.bytes, self._clock)
        return self._places.setdefault(row.key, fresh)

    async def row(self, token: str) -> Row:
        """What the index knows of a session.

        Raises:
            Unknown: nothing.
        """
        row = await self._threads.beside(self._index.find, key_of(token))
        if row is None:
            raise Unknown(UNKNOWN)
        return row

    async def look_again(self, place: Place) -> None:
        """Learn what another server did to a session that nobody has open here.

        Raises:
            Unknown: ended it.
        """
        row = await self._threads.beside(self._index.find, place.key)
        if row is None:
            await self.give_up(place)
            raise Unknown(UNKNOWN)
        place.journal, place.bytes = row.journal, row.bytes

    async def hold(self, token: str, run: Callable[[Place], Coroutine[Any, Any, T]]) -> T:
        """Run something under a session's lock, to its end even if the client hangs up."""

        async def to_the_end() -> T:
            while True:
                place = await self.place(token)
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

    async def make_seat(self, key: str, n_bytes: int) -> None:
        """Demand room for one more place, unless the session has got its own meanwhile.

        Args:
            key: of the session.
            n_bytes: of its voxels.

        Raises:
            Full: there is none.
        """
        await self._make_room(lambda: key in self or self._fits(1, n_bytes))

    async def make_room(self, n_bytes: int) -> None:
        """Demand room for more voxels in a place that there is.

        Raises:
            Full: there is none.
        """
        await self._make_room(lambda: self._fits(0, n_bytes))

    async def give_up_lapsed(self) -> None:
        """Give up places whose clocks have run out."""
        for place in self:
            if place.lapsed(self._limits):  # so its lock is free: nobody waits here
                async with place.lock:
                    await self.give_up(place)

    async def note_use(self) -> None:
        """Tell other servers that the sessions here are used, lest they delete them as stale."""
        now = self._clock()
        if now - self._noted > self._limits.keep_s / 10:
            self._noted = now
            await self._threads.beside(self._index.touch, *self._places)

    async def give_up(self, place: Place) -> None:
        """Close a place whose lock is held; its journal stays."""
        if place.gone:
            return
        place.gone = True
        del self._places[place.key]
        session, place.session, place.dialect = place.session, None, None
        if session is not None:
            await self._threads.beside(session.close)
        with suppress(Unreachable):  # closed it is all the same
            await self._threads.beside(self._index.touch, place.key)

    async def close(self) -> None:
        """Give up all places, after what is being done."""
        if self._running:
            await asyncio.wait(self._running)
        for place in self:
            async with place.lock:
                await self.give_up(place)

    def full(self, sentence: str) -> Full:
        """A refusal that says when to come back."""
        wait = self._limits.retry_after_s
        return Full(f"{sentence}; try again in {wait} s or end a session.", wait)

    async def _make_room(self, fits: Callable[[], bool]) -> None:
        """Give up lapsed places if need be; who awaits nothing more has the room."""
        if fits():
            return
        await self.give_up_lapsed()
        if not fits():
            raise self.full("all places of this server are taken")

    def _fits(self, seats: int, n_bytes: int) -> bool:
        room = n_bytes <= 0 or self.bytes + n_bytes <= self._limits.max_bytes
        return room and len(self) + seats <= self._limits.max_sessions

    async def place(self, token: str) -> Place:
        """The place of a session, taken up again if it had been given up.

        Raises:
            Unknown: there is no such session.
            Full: no place.
        """
        place = self.find(key_of(token))
        if place is None:
            row = await self.row(token)
            await self.make_seat(row.key, row.bytes)
            place = self.seat(row)
        return place

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of a client that hung up: nobody else looks at it
