"""Requests drawn from our own OpenAPI description, valid and not: never a 500."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from live import serving
from schemathesis import GenerationMode
from tiny import tiny_volume

from segvol_gru.interfaces.client import RemoteSession
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.wire import API

EXAMPLES = int(os.environ.get("SEGVOL_GRU_FUZZ_EXAMPLES", "50"))
"""Right ones, and as many wrong ones, for each operation."""
CHECKS = [schemathesis.checks.not_a_server_error]


class Target:
    """A server with a session of our API and one of a viewer; both are made anew when they end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.statuses: Counter[int] = Counter()
        self.requests = requests.Session()
        self._http = httpx.Client(base_url=address, timeout=60)
        self._session, self._lease = "", ""

    def session(self) -> str:
        known = self._http.get(f"{API}/sessions/{self._session or 'none'}/lease")
        if known.status_code == 404:
            with RemoteSession(tiny_volume(), self.address) as session:
                self._session = session.id
        return self._session

    def lease(self) -> str:
        headers = {"X-Lease-Token": self._lease or "none"}
        if self._http.get("/lease_status", headers=headers).status_code == 410:
            self._lease = self._http.post("/claim").json()["lease_token"]
        return self._lease

    def close(self) -> None:
        self.requests.close()
        self._http.close()


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    limits = Limits(max_sessions=64, max_records=100_000, idle_s=1.0)
    with TemporaryDirectory() as folder, serving(Path(folder), limits) as address:
        found = Target(address)
        yield found
        found.close()


def ask(case: schemathesis.Case, target: Target) -> None:
    """Send a drawn request to sessions that there are."""
    if "session" in case.path_parameters:
        case.path_parameters["session"] = target.session()
    lease = {"X-Lease-Token": target.lease()}
    reply = case.call(headers=lease, timeout=60, session=target.requests)
    target.statuses[reply.status_code] += 1
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
@pytest.mark.timeout(1800)
def test_no_request_is_answered_by_a_failure(
    target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    count = attack(target, EXAMPLES)
    with capsys.disabled():
        print(f"\n{count} operations, answers {dict(sorted(target.statuses.items()))}")
    assert count > 45
