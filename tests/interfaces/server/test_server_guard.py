"""What is refused before a body is read, and how much of one is read at all; no sockets here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message
from tiny import tiny_model, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.app import make_app
from segvol_gru.interfaces.server.guard import JSON_BYTES, LOOPBACK, Gate
from segvol_gru.interfaces.server.index import Index
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.wire import API
from segvol_gru.interfaces.wire_arrays import MEDIA, pack

PIECE = 2**16
MB = 2**20
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"
FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
ARRAY = pack(tiny_volume().array, {"spacing": [2, 1, 1]}, image=True)


class Said:
    """A request with a body of so many zeros, or of these bytes, and what became of it."""

    def __init__(
        self,
        path: str,
        body: int | bytes = 0,
        kind: str = MEDIA,
        declared: bool = True,
        **more: str,
    ) -> None:
        headers = {"host": "localhost", "content-type": kind, **more}
        size = body if isinstance(body, int) else len(body)
        if declared:
            headers["content-length"] = str(size)
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"format=nii",
            "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        }
        self.read, self.status, self.answer = 0, 0, b""
        self.retry: bytes | None = None
        self.pause_at, self.go_on = size, asyncio.Event()
        self._body, self._size = body, size

    async def receive(self) -> Message:
        if self.pause_at <= self.read < self._size:
            await self.go_on.wait()
        start = self.read
        self.read = min(start + PIECE, self._size)
        zeros = isinstance(self._body, int)
        piece = bytes(self.read - start) if zeros else self._body[start : self.read]  # type: ignore[index]
        return {"type": "http.request", "body": piece, "more_body": self.read < self._size}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.retry = dict(message["headers"]).get(b"retry-after")
        self.answer += message.get("body", b"")

    async def to(self, app: ASGIApp) -> Said:
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def detail(self) -> str:
        return str(json.loads(self.answer)["detail"])


class Host:
    """A service and its application, which nobody has started."""

    def __init__(self, store: Path, gate: Gate | None = None, **limits: int) -> None:
        index = Index(f"sqlite:///{store / 'index.db'}")
        self.service = Service(tiny_model(), store / "journals", index, Limits(**limits))
        self.app = make_app(self.service, gate)

    def say(self, path: str, body: int | bytes = 0, kind: str = MEDIA, **more: object) -> Said:
        return asyncio.run(Said(path, body, kind, **more).to(self.app))  # type: ignore[arg-type]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path, max_sessions=1)
    yield host
    asyncio.run(host.service.close())


@pytest.mark.parametrize("path", ["start", "reference"])
def test_nothing_is_read_for_a_session_that_is_not_there(host: Host, path: str) -> None:
    said = host.say(f"{API}/sessions/nope/{path}", 40 * MB)
    assert (said.status, said.read) == (404, 0)


@pytest.mark.parametrize("path", ["sessions", "sessions/file"])
def test_nothing_is_read_for_a_session_that_has_no_place(host: Host, path: str) -> None:
    asyncio.run(host.service.claim("api"))
    said = host.say(f"{API}/{path}", 40 * MB)
    assert (said.status, said.read) == (503, 0)


def test_nothing_is_read_where_too_many_sessions_are_stored(tmp_path: Path) -> None:
    host = Host(tmp_path, max_records=1)
    asyncio.run(host.service.claim("api"))
    said = host.say(f"{API}/sessions", 40 * MB)
    assert (said.status, said.read) == (503, 0)
    asyncio.run(host.service.close())


@pytest.mark.parametrize("kind", [MEDIA, JSON, MULTIPART, ""])
@pytest.mark.parametrize("path", [f"{API}/sessions/nope/click", "/predict"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_route_that_takes_no_upload_reads_little(
    host: Host, path: str, kind: str, declared: bool
) -> None:
    said = host.say(path, 40 * MB, kind, declared=declared)
    assert said.status == 413, said.answer
    assert said.read <= (0 if declared else JSON_BYTES + PIECE)
    assert f"wanted at most {JSON_BYTES}" in said.detail


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    "path", [f"{API}/sessions", f"{API}/sessions/file", "/legacy/alice/upload_image"]
)
def test_an_upload_is_read_up_to_its_limit(tmp_path: Path, path: str, declared: bool) -> None:
    host = Host(tmp_path, Gate(max_upload_bytes=2 * MB))
    said = host.say(path, FORM + bytes(4 * MB), MULTIPART, declared=declared)
    assert said.status == 413, said.answer
    assert said.read <= (0 if declared else 2 * MB + PIECE)
    assert f"wanted at most {2 * MB}" in said.detail
    asyncio.run(host.service.close())


@pytest.mark.parametrize("declared", [True, False])
def test_uploads_together_take_no_more_than_they_may(tmp_path: Path, declared: bool) -> None:
    async def play() -> None:
        host = Host(tmp_path, Gate(max_upload_bytes=MB, max_bodies_bytes=MB + MB // 2))
        first = Said(f"{API}/sessions", MB)
        first.pause_at = MB - PIECE  # a slow client
        task = asyncio.create_task(first.to(host.app))
        while first.read < first.pause_at:
            await asyncio.sleep(0.01)
        second = await Said(f"{API}/sessions", MB, declared=declared).to(host.app)
        assert (second.status, second.retry) == (503, b"10")
        assert second.read <= (0 if declared else MB // 2 + 2 * PIECE)
        click = await Said(f"{API}/sessions/nope/click", b'{"at": [1, 1, 1]}', JSON).to(host.app)
        assert click.status == 404  # who uploads nothing is served
        first.go_on.set()
        assert (await task).status == 400  # zeros are no array
        assert (await Said(f"{API}/sessions", ARRAY).to(host.app)).status == 201
        await host.service.close()

    asyncio.run(play())


def test_an_image_larger_than_json_may_be_is_taken_by_viewers(host: Host) -> None:
    token = asyncio.run(host.service.claim("viewer"))
    for path in ("/set_image", "/add_initial_seg_interaction"):
        said = host.say(path, 3 * MB, **{"x-lease-token": token})
        assert (said.status, said.read) == (400, 3 * MB)
        assert "NNIA" in said.detail


@pytest.mark.parametrize("name", ["MyServer", "myserver", "[::1]", "::1", "203.0.113.9"])
def test_a_name_that_is_let_in_may_be_written_anyhow(name: str) -> None:
    bare = name.strip("[]")
    for host in (bare, bare.upper(), bare.lower()):
        sent = f"[{host}]:1527" if ":" in host else f"{host}:1527"
        Gate(hosts=LOOPBACK | {name}).check(
            {"type": "http", "path": "/", "headers": [(b"host", sent.encode())]}
        )


@pytest.mark.parametrize("name", ["http://clinic/", "clinic:80", "clinic/x", "me@clinic", "", "["])
def test_what_is_no_name_of_a_host_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="wanted a bare name"):
        Gate(hosts=frozenset({name}))


@pytest.mark.parametrize("origin", ["http://[", "http://[]", "null", "", "http://localhost:99"])
def test_a_page_from_nowhere_is_kept_out(host: Host, origin: str) -> None:
    assert host.say("/health", origin=origin).status == 403
