"""A session on a server, used like one in this process; needs no PyTorch.

    with RemoteSession(volume, "http://127.0.0.1:1527") as session:
        mask = session.box((z, y, x), (z, y, x))
        mask = session.click((z, y, x), positive=False)

The server keeps a session for days after its last use, also across its own restarts:
`RemoteSession.join(url, id)` goes on with one from anywhere.
"""

from __future__ import annotations

import urllib.parse
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.data.files import whole_file
from segvol_gru.data.preprocess import window_of_pair
from segvol_gru.errors import InputError
from segvol_gru.interfaces.connection import Connection, ServerError
from segvol_gru.interfaces.wire import (
    API,
    BoolArray,
    BoxAsk,
    ClickAsk,
    NameAsk,
    RenameAsk,
    SessionInfo,
    StepAsk,
    Suggestion,
    about,
    heard,
)
from segvol_gru.interfaces.wire_arrays import pack
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.session.asked import (
    Frame,
    Point,
    asked_box,
    asked_click,
    asked_mask,
    asked_name,
    asked_step,
    asked_value,
    asked_volume,
)
from segvol_gru.volume import Volume

__all__ = ["RemoteSession", "ServerError"]


class RemoteSession:
    """Like `segvol_gru.Session`, whose documentation holds for every method here.

    Args:
        volume: the image; it is sent once.
        server: address of the server, as `segvol-gru serve` prints it.
        api_key: if the server wants one; by default from the environment.
        window: how intensities are windowed.

    Raises:
        InputError: the server refuses the volume or the window, or its address is none.
        ServerError: it has no place or cannot be reached.
    """

    def __init__(
        self,
        volume: Volume,
        server: str,
        *,
        api_key: str | None = None,
        window: str | tuple[float, float] = "auto",
    ) -> None:
        text = {**about(asked_volume(volume)), "window": _asked_window(window)}
        self._server = Connection(server, api_key)
        try:
            sent = pack(volume.array, text, image=True)
            info = self._server.model(SessionInfo, "POST", f"{API}/sessions", sent)
            self._set_up(info, volume)
        except BaseException:
            self._server.close()
            raise

    def _set_up(self, info: SessionInfo, volume: Volume) -> None:
        self.id, self.volume = info.id, volume
        self._path = _path(self.id)

    @classmethod
    def join(cls, server: str, session: str, *, api_key: str | None = None) -> Self:
        """Go on with a session that somebody began.

        Args:
            server: address of the server.
            session: its `id`.
            api_key: if the server wants one.

        Raises:
            InputError: the address or the id is none.
            ServerError: there is no such session.
        """
        path = _path(session)
        self = cls.__new__(cls)
        self._server = Connection(server, api_key)
        try:
            info = self._server.model(SessionInfo, "GET", path)
            self._set_up(info, self._server.volume(f"{path}/image"))
        except BaseException:
            self._server.close()
            raise
        return self

    def end(self) -> None:
        """Delete the session on the server, and close."""
        self._server.send("DELETE", self._path)
        self.close()

    def close(self) -> None:
        """Let go of the connection; the session stays on the server, see `join`."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a user says ---------------------------------------------------------------------

    def box(self, lo: Point, hi: Point, *, frame: Frame = "voxel", lift: bool = True) -> BoolArray:
        """See `Session.box`."""
        return self.prompt(asked_box(self.volume, lo, hi, frame, lift))

    def click(self, at: Point, positive: bool = True, *, frame: Frame = "voxel") -> BoolArray:
        """See `Session.click`."""
        return self.prompt(asked_click(self.volume, at, positive, frame))

    def prompt(self, prompt: Box | Click) -> BoolArray:
        """See `Session.prompt`."""
        asked = asked_value(self.volume, prompt)
        if isinstance(asked, Click):
            click = ClickAsk(at=asked.at, positive=asked.positive)
            return self._array("POST", "/click", click.model_dump())
        box = BoxAsk(lo=asked.lo, hi=asked.hi, tight=asked.tight)
        return self._array("POST", "/box", box.model_dump())

    def start(self, mask: ArrayLike) -> BoolArray:
        """See `Session.start`."""
        array, _ = asked_mask(self.volume, mask)
        return self._array("POST", "/start", pack(array, image=False))

    def reset(self) -> BoolArray:
        """See `Session.reset`."""
        return self._array("POST", "/reset")

    def undo(self) -> BoolArray:
        """See `Session.undo`."""
        return self._array("POST", "/undo")

    def redo(self) -> BoolArray:
        """See `Session.redo`."""
        return self._array("POST", "/redo")

    def jump(self, step: int) -> BoolArray:
        """See `Session.jump`."""
        return self._array("POST", "/jump", StepAsk(step=asked_step(step)).model_dump())

    # What is known ------------------------------------------------------------------------

    @property
    def objects(self) -> tuple[str, ...]:
        """See `Session.objects`."""
        return tuple(entry.name for entry in self._info().objects)

    @property
    def labels(self) -> dict[str, int]:
        """See `Session.labels`."""
        return {entry.name: entry.label for entry in self._info().objects}

    @property
    def current(self) -> str:
        """See `Session.current`."""
        return self._info().current

    @property
    def history(self) -> tuple[object, ...]:
        """See `Session.history`; a mask of another tool is a `wire.Seed`."""
        return tuple(heard(entry) for entry in self._info().history)

    @property
    def cursor(self) -> int:
        """See `Session.cursor`."""
        return self._info().cursor

    @property
    def can_undo(self) -> bool:
        """See `Session.can_undo`."""
        return self.cursor > 0

    @property
    def can_redo(self) -> bool:
        """See `Session.can_redo`."""
        info = self._info()
        return info.cursor < len(info.history)

    @property
    def mask(self) -> BoolArray:
        """See `Session.mask`."""
        return self._array("GET", "/mask")

    def mask_of(self, name: str) -> BoolArray:
        """See `Session.mask_of`."""
        return self._array("GET", f"/mask?name={urllib.parse.quote(asked_name(name), safe='')}")

    def mask_at(self, step: int) -> BoolArray:
        """See `Session.mask_at`."""
        return self._array("GET", f"/past?step={asked_step(step)}")

    def label_map(self) -> NDArray[Any]:
        """See `Session.label_map`."""
        return self._array("GET", "/labels")

    @property
    def probability(self) -> NDArray[np.float32]:
        """See `Session.probability`."""
        return self._array("GET", "/probability")

    def suggest(self) -> Index | None:
        """See `Session.suggest`."""
        return self._server.model(Suggestion, "GET", f"{self._path}/suggest").at

    def add_object(self, name: str) -> None:
        """See `Session.add_object`."""
        self._named("", NameAsk(name=asked_name(name)))

    def select(self, name: str) -> None:
        """See `Session.select`."""
        self._named("/select", NameAsk(name=asked_name(name)))

    def rename_object(self, name: str, to: str) -> None:
        """See `Session.rename_object`."""
        self._named("/rename", RenameAsk(name=asked_name(name), to=asked_name(to)))

    def remove_object(self, name: str) -> None:
        """See `Session.remove_object`."""
        self._named("/remove", NameAsk(name=asked_name(name)))

    def save(self, path: str | PathLike[str]) -> None:
        """See `Session.save`: the server makes the file, this machine keeps it."""
        whole = self._server.send("GET", f"{self._path}/file")
        with whole_file(Path(path)) as fresh:
            fresh.write_bytes(whole)

    # How ----------------------------------------------------------------------------------

    def _info(self) -> SessionInfo:
        return self._server.model(SessionInfo, "GET", self._path)

    def _named(self, path: str, ask: NameAsk) -> None:
        self._server.send("POST", f"{self._path}/objects{path}", ask.model_dump())

    def _array(self, method: str, path: str, body: object = None) -> NDArray[Any]:
        return self._server.array(method, f"{self._path}{path}", body)[0]


def _asked_window(window: str | tuple[float, float]) -> str | tuple[float, float]:
    """A name of a window, which the server knows, or two intensities."""
    if isinstance(window, str):
        return window
    given = window_of_pair(window)
    return given.lo, given.hi


def _path(session: str) -> str:
    if not isinstance(session, str) or not session.isprintable():
        raise InputError(f"session is {session!r}, wanted the id of one.")
    return f"{API}/sessions/{urllib.parse.quote(session, safe='')}"
