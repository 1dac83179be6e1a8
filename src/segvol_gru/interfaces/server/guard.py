"""Who may knock: host, page of origin, API key, size of bodies. In front of every route."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.answers import LARGE, refusal
from segvol_gru.interfaces.server.metrics import Metrics
from segvol_gru.interfaces.server.refusals import Forbidden, Full, Refusal, TooLarge, Unauthorized

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN = frozenset({"/", "/health", "/healthz"})
PAGE = "/page/"  # files that anybody may read; what they show needs the key
JSON_BYTES = 2**20
RETRY_S = 10


@dataclass(frozen=True, slots=True)
class Gate:
    """Who is let in.

    Attributes:
        api_key: what clients must present; None for no key.
        hosts: names under which the server may be addressed; None for any. A page of another
            site that has its own name point to this machine is refused by it.
        max_upload_bytes: of one body, where a route takes a large one; others get `JSON_BYTES`.
        max_bodies_bytes: of all bodies that came and are not answered yet.

    Raises:
        InputError: one of the names is none.
    """

    api_key: str | None = None
    hosts: frozenset[str] | None = LOOPBACK
    max_upload_bytes: int = 2**30
    max_bodies_bytes: int = 2**32

    def __post_init__(self) -> None:
        if self.hosts is not None:  # in small letters, as `_host` gives those of requests
            object.__setattr__(self, "hosts", frozenset(map(_name, self.hosts)))

    def check(self, scope: Scope) -> None:
        """Demand that a request may come in.

        Raises:
            Refusal: it may not.
        """
        headers = Headers(scope=scope)
        host = _host(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            raise Forbidden(f"this server is not addressed as {host!r}; see `serve --allow-host`.")
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, headers.get("host")):
            raise Forbidden("the request comes from a page of another site.")
        is_open = scope["path"] in OPEN or scope["path"].startswith(PAGE)
        if self.api_key is not None and not is_open:
            given = headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.api_key}".encode()):
                raise Unauthorized("the API key is missing or wrong; send Authorization: Bearer.")


class Guard:
    """Middleware.

    A body is read when its route asks for it, so who is refused for another reason first (no such
    session, no place) has sent it in vain, but it was never held.

    Args:
        app: what is behind it.
        gate: who is let in.
        metrics: counts answers.
    """

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics) -> None:
        self._app, self._gate, self._metrics = app, gate, metrics
        self._held = 0  # bytes of bodies that came and are not answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length, came = Headers(scope=scope).get("content-length", ""), 0

        async def counted() -> Message:
            nonlocal came
            if length.isdecimal():
                self._demand_room(scope, int(length) - came, int(length))
            message = await receive()
            size = len(message.get("body", b""))
            came += size
            self._held += size
            self._demand_room(scope, 0, came)
            return message

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._metrics.answered(route, message["status"])
            await send(message)

        try:
            self._gate.check(scope)
        except Refusal as error:
            await refusal(error)(scope, receive, noted)
            return
        try:
            await self._app(scope, counted, noted)
        finally:
            self._held -= came

    def _demand_room(self, scope: Scope, more: int, whole: int) -> None:
        """Demand that a body, of which some bytes are still to come, may be as large as it is.

        Raises:
            HTTPException: it may not. FastAPI makes a 400 of all else that stops it from reading.
        """
        is_large = LARGE in (getattr(scope.get("route"), "openapi_extra", None) or {})
        limit = self._gate.max_upload_bytes if is_large else JSON_BYTES
        error: Refusal
        if whole > limit:
            error = TooLarge(f"the body has {whole} bytes or more, wanted at most {limit}.")
        elif is_large and self._held + more > self._gate.max_bodies_bytes:
            error = Full(f"too much is being uploaded; try again in {RETRY_S} s.", RETRY_S)
        else:
            return
        raise HTTPException(error.status, str(error), dict(error.headers))


def _host(text: str) -> str:
    """The name in a Host header, without a port."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""


def _name(given: str) -> str:
    """A name or an address as `_host` gives it."""
    name = given.lower().strip("[]")
    if not name or _host(f"[{name}]" if ":" in name else name) != name:
        raise InputError(f"host is {given!r}, wanted a bare name or address: clinic.example, ::1.")
    return name


def _is_of(origin: str, host: str | None) -> bool:
    """Whether a page is one of the host that its request names."""
    try:
        return urlsplit(origin).netloc == host
    except ValueError:
        return False
