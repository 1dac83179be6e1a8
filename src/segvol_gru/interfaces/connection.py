"""Requests to a server, and what its refusals mean; needs no PyTorch."""

from __future__ import annotations

import os

import httpx

from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire_arrays import MEDIA

TIMEOUT = httpx.Timeout(10.0, read=600.0, write=600.0)
"""Seconds; a CPU that serves several users may take a while for a large volume."""
KEY_VARIABLE = "SEGVOL_GRU_API_KEY"
CLOSED = "the session is closed; begin or join one."


class ServerError(RuntimeError):
    """The server has no place, does not know the session, or cannot be reached."""


class Connection:
    """Keeps a connection open between requests.

    Args:
        server: address, as `segvol-gru serve` prints it.
        api_key: if the server wants one; by default from the environment.
    """

    def __init__(self, server: str, api_key: str | None) -> None:
        base = server if "//" in server else f"http://{server}"
        key = api_key or os.environ.get(KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=base.rstrip("/"), headers=headers, timeout=TIMEOUT)

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


def _refused(reply: httpx.Response) -> Exception:
    try:
        sentence = str(reply.json()["detail"])
    except (ValueError, KeyError, TypeError):
        sentence = "this is no server of segvol-gru."
    if reply.status_code in (400, 422):
        return InputError(sentence)
    return ServerError(f"{sentence} (HTTP {reply.status_code})")
