"""An open session in its place: two clocks and a lock.

A place is held while its viewer gives signs of life (liveness) and its user does something
(idle). What loses its place is not lost: its journal waits on disk, and the next request opens
it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from segvol_gru.interfaces.server.index import Kind
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.wire_nninteractive import Dialect
from segvol_gru.session.session import Session

Clock = Callable[[], float]


@dataclass(slots=True, eq=False)
class Place:
    """One open session. All but `session` and `dialect` is touched on the event loop only.

    Attributes:
        key: of the session, see `index`.
        kind: who speaks to it; only viewers give signs of life.
        journal: name of its folder; None while it has no image.
        bytes: of its voxels.
        clock: seconds.
        lock: held while anything is done with `session`.
        session: None until it is needed.
        dialect: None until a viewer speaks to it.
        gone: set when the place is given up; whoever waited for the lock looks for a new one.
        seen: when the viewer gave its last sign of life.
        acted: when the user did something last.
    """

    key: str
    kind: Kind
    journal: str | None
    bytes: int
    clock: Clock
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    session: Session | None = None
    dialect: Dialect | None = None
    gone: bool = False
    seen: float = 0.0
    acted: float = 0.0

    def __post_init__(self) -> None:
        self.act()

    def see(self) -> None:
        """A sign of life."""
        self.seen = self.clock()

    def act(self) -> None:
        """The user did something, which is a sign of life too."""
        self.seen = self.acted = self.clock()

    def remaining_s(self, limits: Limits) -> float:
        """Seconds until the place is given up for idleness."""
        return max(0.0, limits.idle_s - (self.clock() - self.acted))

    def lapsed(self, limits: Limits) -> bool:
        """Whether the place may be given up: nobody is using it, and one clock has run out."""
        if self.lock.locked():
            return False
        silent = self.kind == "viewer" and self.clock() - self.seen > limits.liveness_s
        return silent or self.remaining_s(limits) == 0.0
