"""Sixteen users at a time who say anything for minutes: no failure, no mix-up, no leak.

`SEGVOL_GRU_SOAK_MINUTES=0.5` for a quick look; growth is judged in runs of five minutes.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from processes import program
from soak_own import OwnUser
from soak_talkers import OldUser, ViewerUser
from soak_walker import IDLE_S, LIMIT, Walker

from segvol_gru.pretrained import load_model

MINUTES = float(os.environ.get("SEGVOL_GRU_SOAK_MINUTES", "5"))
KINDS = (OwnUser, ViewerUser, OwnUser, OldUser)
USERS = 16
WINDOW_S = 180.0
MAX_MB_PER_MINUTE = 1.0


def resident_mb(pid: int) -> float:
    """Memory of a process, without pages that it shares with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(x.split()[1]) for x in lines if x.startswith("Pss:")) / 1024


def watch(busy: Callable[[], bool], pid: int) -> list[tuple[float, float]]:
    """Seconds and megabytes, once a second."""
    began, seen = time.monotonic(), []
    while busy():
        seen.append((time.monotonic() - began, resident_mb(pid)))
        time.sleep(1.0)
    return seen


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 600)
def test_many_users_who_say_anything(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ["--max-sessions", "20", "--idle", str(IDLE_S), "--max-upload", str(LIMIT // 2**20)]
    model = load_model(str(tiny_model), "field")
    with program(tmp_path, tiny_model, *limits) as (process, address):
        users: list[Walker] = [KINDS[n % 4](address, model, n) for n in range(USERS)]
        end = time.monotonic() + 60 * MINUTES
        with ThreadPoolExecutor(USERS) as pool:
            walks = [pool.submit(user.walk, end) for user in users]
            seen = watch(lambda: any(not walk.done() for walk in walks), process.pid)
        failures = [error for walk in walks if (error := walk.exception()) is not None]
    seconds, megabytes = np.array(seen).T
    late = seconds >= seconds[-1] - WINDOW_S
    slope = 60 * np.polyfit(seconds[late], megabytes[late], 1)[0]
    statuses = sum((user.statuses for user in users), Counter[int]())
    with capsys.disabled():
        print(
            f"\n{USERS} users, {seconds[-1]:.0f} s: {statuses.total()} requests, "
            f"{sum(user.sessions for user in users)} sessions, "
            f"{sum(user.masks for user in users)} masks compared; "
            f"answers {dict(sorted(statuses.items()))}; memory by the half minute, MB: "
            f"{np.round(megabytes[::30]).astype(int).tolist()}, {slope:+.2f} MB/min over the last "
            f"{seconds[-1] - seconds[late][0]:.0f} s"
        )
    if failures:
        raise BaseExceptionGroup("what users met", failures)
    assert all(user.masks for user in users)
    if seconds[-1] > 1.5 * WINDOW_S:
        assert slope < MAX_MB_PER_MINUTE
