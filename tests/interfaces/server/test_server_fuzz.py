"""Requests drawn from our own OpenAPI description, valid and not: never a 500."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from live import get, post, serving
from schemathesis import GenerationMode
from tiny import tiny_volume

from segvol_gru.interfaces.client import RemoteSession
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.wire import API

CHECKS = [schemathesis.checks.not_a_server_error]


class Target:
    """A server with a session of our API and one of a viewer; both are made anew when they end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._session, self._lease = "", ""

    def session(self) -> str:
        known = get(f"{self.address}{API}/sessions/{self._session or 'none'}/lease")
        if known.status_code == 404:
            with RemoteSession(tiny_volume(), self.address) as session:
                self._session = session.id
        return self._session

    def lease(self) -> str:
        headers = {"X-Lease-Token": self._lease or "none"}
        if get(f"{self.address}/lease_status", headers=headers).status_code == 410:
            self._lease = post(f"{self.address}/claim").json()["lease_token"]
        return self._lease


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    limits = Limits(max_sessions=64, max_records=100_000, idle_s=1.0)
    with TemporaryDirectory() as folder, serving(Path(folder), limits) as address:
        yield Target(address)


def ask(case: schemathesis.Case, target: Target) -> None:
    """Send a drawn request to sessions that there are."""
    if "session" in case.path_parameters:
        case.path_parameters["session"] = target.session()
    reply = case.call(headers={"X-Lease-Token": target.lease()}, timeout=60)
    if reply.status_code != 503:  # no place: a refusal, not a failure
        case.validate_response(reply, checks=CHECKS)


def attack(target: Target, examples: int) -> int:
    """Draw requests for every operation, half of them wrong; how many operations there are."""
    described = schemathesis.openapi.from_url(f"{target.address}/openapi.json")
    count = 0
    for found in described.get_all_operations():
        for mode in GenerationMode:
            strategy = found.ok().as_strategy(generation_mode=mode)

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def draw(case: schemathesis.Case) -> None:
                ask(case, target)

            with suppress(Unsatisfiable):  # nothing can be wrong about it
                draw()
        count += 1
    return count


@pytest.mark.slow
def test_no_request_is_answered_by_a_failure(target: Target) -> None:
    assert attack(target, 50) > 45
