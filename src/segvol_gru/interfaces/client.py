"""A session on a server, used like one in this process; needs no PyTorch.

    with RemoteSession(volume, "http://127.0.0.1:1527") as session:
        mask = session.box((z, y, x), (z, y, x))
        mask = session.click((z, y, x), positive=False)

The server keeps a session for days after its last use, also across its own restarts:
`RemoteSession.join(url, id)` goes on with one from anywhere.
"""

from __future__ import annotations

import os
import urllib.parse
from os import PathLike
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError
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
    heard,
)
from segvol_gru.interfaces.wire_arrays import MEDIA, pack, unpack
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.session.asked import (
    Frame,
    Point,
    asked_box,
    asked_click,
    asked_mask,
    asked_value,
)
from segvol_gru.volume import Volume

TIMEOUT = httpx.Timeout(10.0, read=600.0, write=600.0)
"""Seconds; a CPU that serves several users may take a while for a large volume."""
KEY_VARIABLE = "SEGVOL_GRU_API_KEY"
LARGEST = 2**36  # bytes of an array that a server may claim to send
CLOSED = "the session is closed; begin or join one."


class ServerError(RuntimeError):
    """The server has no place, does not know the session, or cannot be reached."""


class RemoteSession:
    """Like `segvol_gru.Session`, whose documentation holds for every method here.

    Args:
        volume: the image; it is sent once.
        server: address of the server, as `segvol-gru serve` prints it.
        api_key: if the server wants one; by default from the environment.
        window: how intensities are windowed.

    Raises:
        InputError: the server refuses the volume or the window.
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
        self._http = _connection(server, api_key)
        about = {
            "affine": volume.affine.tolist(),
            "modality": volume.modality,
            "window": window,
        }
        try:
            sent = pack(volume.array, about, image=True)
            reply = self._send("POST", f"{API}/sessions", sent)
        except BaseException:
            self._http.close()
            raise
        self._set_up(reply, volume)

    def _set_up(self, reply: httpx.Response, volume: Volume) -> None:
        self.id = SessionInfo.model_validate_json(reply.content).id
        self.volume = volume
        self._path = _path(self.id)

    @classmethod
    def join(cls, server: str, session: str, *, api_key: str | None = None) -> Self:
        """Go on with a session that somebody began.

        Args:
            server: address of the server.
            session: its `id`.
            api_key: if the server wants one.

        Raises:
            ServerError: there is no such session.
        """
        self = cls.__new__(cls)
        self._http = _connection(server, api_key)
        try:
            reply = self._send("GET", _path(session))
            array, text = unpack(self._send("GET", f"{_path(session)}/image").content, LARGEST)
        except BaseException:
            self._http.close()
            raise
        volume = Volume(array, affine=text["affine"], modality=text["modality"])
        self._set_up(reply, volume)
        return self

    def end(self) -> None:
        """Delete the session on the server, and close."""
        self._send("DELETE", self._path)
        self.close()

    def close(self) -> None:
        """Let go of the connection; the session stays on the server, see `join`."""
        self._http.close()

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
            return self._mask("POST", "/click", click.model_dump())
        box = BoxAsk(lo=asked.lo, hi=asked.hi, tight=asked.tight)
        return self._mask("POST", "/box", box.model_dump())

    def start(self, mask: ArrayLike) -> BoolArray:
        """See `Session.start`."""
        array, _ = asked_mask(self.volume, mask)
        return self._mask("POST", "/start", pack(array, image=False))

    def reset(self) -> BoolArray:
        """See `Session.reset`."""
        return self._mask("POST", "/reset")

    def undo(self) -> BoolArray:
        """See `Session.undo`."""
        return self._mask("POST", "/undo")

    def redo(self) -> BoolArray:
        """See `Session.redo`."""
        return self._mask("POST", "/redo")

    def jump(self, step: int) -> BoolArray:
        """See `Session.jump`."""
        return self._mask("POST", "/jump", StepAsk(step=step).model_dump())

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
        return self._mask("GET", "/mask")

    def mask_of(self, name: str) -> BoolArray:
        """See `Session.mask_of`."""
        return self._mask("GET", f"/mask?name={urllib.parse.quote(name, safe='')}")

    def label_map(self) -> NDArray[Any]:
        """See `Session.label_map`."""
        return self._array("GET", "/labels")

    @property
    def probability(self) -> NDArray[np.float32]:
        """See `Session.probability`."""
        return self._array("GET", "/probability")

    def suggest(self) -> Index | None:
        """See `Session.suggest`."""
        reply = self._send("GET", f"{self._path}/suggest")
        return Suggestion.model_validate_json(reply.content).at

    def add_object(self, name: str) -> None:
        """See `Session.add_object`."""
        self._send("POST", f"{self._path}/objects", NameAsk(name=name).model_dump())

    def select(self, name: str) -> None:
        """See `Session.select`."""
        self._send("POST", f"{self._path}/objects/select", NameAsk(name=name).model_dump())

    def rename_object(self, name: str, to: str) -> None:
        """See `Session.rename_object`."""
        ask = RenameAsk(name=name, to=to)
        self._send("POST", f"{self._path}/objects/rename", ask.model_dump())

    def remove_object(self, name: str) -> None:
        """See `Session.remove_object`."""
        self._send("POST", f"{self._path}/objects/remove", NameAsk(name=name).model_dump())

    def save(self, path: str | PathLike[str]) -> None:
        """See `Session.save`: the server makes the file, this machine keeps it."""
        whole = self._send("GET", f"{self._path}/file").content
        with whole_file(Path(path)) as fresh:
            fresh.write_bytes(whole)

    # How ----------------------------------------------------------------------------------

    def _info(self) -> SessionInfo:
        return SessionInfo.model_validate_json(self._send("GET", self._path).content)

    def _mask(self, method: str, path: str, body: object = None) -> BoolArray:
        return self._array(method, path, body)

    def _array(self, method: str, path: str, body: object = None) -> NDArray[Any]:
        return unpack(self._send(method, f"{self._path}{path}", body).content, LARGEST)[0]

    def _send(self, method: str, path: str, body: object = None) -> httpx.Response:
        """One request; `InputError` for what the user said, `ServerError` for the rest."""
        if self._http.is_closed:
            raise ServerError(CLOSED)
        try:
            if isinstance(body, bytes):
                headers = {"Content-Type": MEDIA}
                reply = self._http.request(method, path, content=body, headers=headers)
            else:
                reply = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            where = self._http.base_url
            raise ServerError(f"no answer from {where} ({error}); is the server running?") from None
        if reply.is_success:
            return reply
        raise _refused(reply)


def _refused(reply: httpx.Response) -> Exception:
    try:
        sentence = str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = "this is no server of segvol-gru."
    if reply.status_code in (400, 422):
        return InputError(sentence)
    return ServerError(f"{sentence} (HTTP {reply.status_code})")


def _connection(server: str, api_key: str | None) -> httpx.Client:
    base = server if "//" in server else f"http://{server}"
    key = api_key or os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=base.rstrip("/"), headers=headers, timeout=TIMEOUT)


def _path(session: str) -> str:
    return f"{API}/sessions/{urllib.parse.quote(session, safe='')}"
