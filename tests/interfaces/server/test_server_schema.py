"""The OpenAPI description says what the guard in front of every route answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny import tiny_model

from segvol_gru.interfaces.server.app import make_app
from segvol_gru.interfaces.server.guard import OPEN, Gate
from segvol_gru.interfaces.server.index import Index
from segvol_gru.interfaces.server.service import Service

KEY = "sesame"
GUARD = {"400", "401", "403", "404", "409", "413", "422", "503"}


@pytest.fixture
def described(tmp_path: Path) -> Iterator[Callable[[Gate], dict[str, Any]]]:
    index = Index(f"sqlite:///{tmp_path / 'index.db'}")
    service = Service(tiny_model(), tmp_path / "journals", index)

    async def read(gate: Gate) -> dict[str, Any]:
        wire = httpx.ASGITransport(make_app(service, gate))
        async with httpx.AsyncClient(transport=wire, base_url="http://localhost") as client:
            sent = await client.get("/openapi.json", headers={"Authorization": f"Bearer {KEY}"})
        found: dict[str, Any] = sent.json()
        return found

    yield lambda gate: asyncio.run(read(gate))
    asyncio.run(service.close())


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        yield from ((path, operation) for operation in methods.values())


def test_every_route_says_what_it_refuses(described: Callable[[Gate], dict[str, Any]]) -> None:
    schema = described(Gate())
    for path, operation in operations(schema):
        assert set(operation["responses"]) >= GUARD, path
    assert "410" in schema["paths"]["/predict"]["post"]["responses"]


def test_routes_behind_a_key_say_so(described: Callable[[Gate], dict[str, Any]]) -> None:
    schema = described(Gate(api_key=KEY))
    (name, scheme), *others = schema["components"]["securitySchemes"].items()
    assert not others
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operation in operations(schema):
        assert operation.get("security") == (None if path in OPEN else [{name: []}]), path


def test_no_route_asks_for_a_key_where_there_is_none(
    described: Callable[[Gate], dict[str, Any]],
) -> None:
    schema = described(Gate())
    assert "securitySchemes" not in schema["components"]
    assert not any("security" in operation for _, operation in operations(schema))
