"""Who may knock: host, page of origin, API key, size of the body. In front of every route."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segvol_gru.interfaces.server.answers import refusal
from segvol_gru.interfaces.server.metrics import Metrics
from segvol_gru.interfaces.server.refusals import Forbidden, Refusal, TooLarge, Unauthorized

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
OPEN = frozenset({"/", "/health", "/healthz"})
PAGE = "/page/"  # files that anybody may read; what they show needs the key
JSON_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Gate:
    """Who is let in.

    Attributes:
        api_key: what clients must present; None for no key.
        hosts: names under which the server may be addressed; None for any. A page of another
            site that has its own name point to this machine is refused by it.
        max_upload_bytes: of one body; bodies of JSON get much less.
    """

    api_key: str | None = None
    hosts: frozenset[str] | None = LOOPBACK
    max_upload_bytes: int = 2**30

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
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            raise Forbidden("the request comes from a page of another site.")
        is_open = scope["path"] in OPEN or scope["path"].startswith(PAGE)
        if self.api_key is not None and not is_open:
            given = headers.get("authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.api_key}".encode()):
                raise Unauthorized("the API key is missing or wrong; send Authorization: Bearer.")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.limit(headers):
            raise TooLarge(f"the body has {length} bytes, wanted at most {self.limit(headers)}.")

    def limit(self, headers: Headers) -> int:
        """Most bytes of a body."""
        return JSON_BYTES if "json" in headers.get("content-type", "") else self.max_upload_bytes


class Guard:
    """Middleware.

    Args:
        app: what is behind it.
        gate: who is let in.
        metrics: counts answers.
    """

    def __init__(self, app: ASGIApp, gate: Gate, metrics: Metrics) -> None:
        self._app, self._gate, self._metrics = app, gate, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, came = self._gate.limit(Headers(scope=scope)), 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > limit:
                raise TooLarge(f"the body has more than {limit} bytes, which is the limit.")
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
        await self._app(scope, counted, noted)


def _host(text: str) -> str:
    """The name in a Host header, without a port."""
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
