"""Requests to a server, and what its refusals mean; needs no PyTorch."""

from __future__ import annotations

import os
from typing import Any, TypeVar

import httpx
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire import placed
from segvol_gru.interfaces.wire_arrays import MEDIA, Json, unpack
from segvol_gru.volume import Volume

TIMEOUT = httpx.Timeout(10.0, read=600.0, write=600.0)
"""Seconds; a CPU that serves several users may take a while for a large volume."""
KEY_VARIABLE = "SEGVOL_GRU_API_KEY"
LARGEST = 2**36  # bytes of an array that a server may claim to send
STRANGER = "this is no server of segvol-gru."
CLOSED = "the session is closed; begin or join one."

Answer = TypeVar("Answer", bound=BaseModel)


class ServerError(RuntimeError):
    """The server has no place, does not know the session, or cannot be reached."""


class Connection:
    """Keeps a connection open between requests.

    Args:
        server: address, as `segvol-gru serve` prints it.
        api_key: if the server wants one; by default from the environment.

    Raises:
        InputError: the address is none, or the key cannot be sent.
    """

    def __init__(self, server: str, api_key: str | None) -> None:
        base = str(server) if "//" in str(server) else f"http://{server}"
        key = api_key or os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._http = httpx.Client(base_url=base.rstrip("/"), headers=headers, timeout=TIMEOUT)
        except httpx.InvalidURL as error:
            raise InputError(
                f"server is {server!r} ({error}), wanted an address such as http://127.0.0.1:1527."
            ) from None
        except UnicodeEncodeError:
            raise InputError("api_key has letters that HTTP cannot send; use ASCII.") from None

    def close(self) -> None:
        """Let go of it; a closed one refuses to send."""
        self._http.close()

    def send(self, method: str, path: str, body: object = None) -> bytes:
        """One request, and the body of its answer.

        Args:
            method: of HTTP.
            path: under the server's address.
            body: bytes of an array, or a value for JSON; None for none.

        Raises:
            InputError: what the user said cannot be used.
            ServerError: everything else that went wrong.
        """
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
            return reply.content
        raise _refused(reply)

    def model(self, kind: type[Answer], method: str, path: str, body: object = None) -> Answer:
        """An answer in JSON; see `send`.

        Raises:
            InputError: what the user said cannot be used.
            ServerError: everything else that went wrong, an answer of another form included.
        """
        reply = self.send(method, path, body)
        try:
            return kind.model_validate_json(reply)
        except ValidationError:
            raise ServerError(STRANGER) from None

    def array(self, method: str, path: str, body: object = None) -> tuple[NDArray[Any], Json]:
        """An answer that is a packed array, and its text; see `model`."""
        reply = self.send(method, path, body)
        try:
            return unpack(reply, LARGEST)
        except InputError:
            raise ServerError(STRANGER) from None

    def volume(self, path: str) -> Volume:
        """An answer that is an image; see `model`."""
        array, text = self.array("GET", path)
        try:
            return placed(array, text)
        except InputError:
            raise ServerError(STRANGER) from None


def _refused(reply: httpx.Response) -> Exception:
    try:
        sentence = str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = STRANGER
    if reply.status_code in (400, 422):
        return InputError(sentence)
    return ServerError(f"{sentence} (HTTP {reply.status_code})")
