"""`segvol-gru serve` as users start it: the address it prints, kill -9, and going on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from live import until
from numpy.typing import NDArray
from tiny import tiny_volume
from typer.testing import CliRunner

from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.client import RemoteSession, ServerError
from segvol_gru.interfaces.wire_nninteractive import Dialect
from segvol_gru.session.session import Session

USERS = 8
BOX = ((3, 4, 4), (8, 13, 12))
CLICKS = tuple(((2 + n % 8, 3 + n, 4), n % 2 == 0) for n in range(10))
STOP_S = 120  # it takes a second or two; test machines may be busy


@contextmanager
def program(store: Path, model: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server in a process of its own, and the address that it prints."""
    words = ["serve", "--port", "0", "--store", str(store), "--model", str(model)]
    process = subprocess.Popen(
        [sys.executable, "-m", "segvol_gru", *words, "--device", "cpu"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("segvol-gru serves http://127.0.0.1:"), first
        yield process, first.split()[-1]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=STOP_S)
        finally:
            process.kill()  # nothing to do if it has ended


def masks_alone(model: Path, seed: int) -> list[NDArray[np.bool_]]:
    """Masks after each prompt of a session that nothing happens to."""
    with Session(tiny_volume(seed), model, device="cpu") as session:
        return [session.box(*BOX), *(session.click(at, positive) for at, positive in CLICKS)]


def test_all_sessions_of_a_killed_server_go_on_to_the_same_bits(
    tmp_path: Path, tiny_model: Path
) -> None:
    ids: dict[int, str] = {}
    with program(tmp_path, tiny_model) as (process, address):
        users = [threading.Thread(target=talk, args=(address, n, ids)) for n in range(USERS)]
        for user in users:
            user.start()
        until(lambda: len(ids) == USERS)
        process.kill()
        process.wait()
        for user in users:
            user.join()
    in_flight = 0
    with program(tmp_path, tiny_model) as (_, address):
        for seed, session in ids.items():
            alone = masks_alone(tiny_model, seed)
            with RemoteSession.join(address, session) as resumed:
                done = resumed.cursor
                in_flight += done < len(alone)
                before = alone[done - 1] if done else np.zeros_like(alone[0])
                np.testing.assert_array_equal(resumed.mask, before)
                if not done:
                    np.testing.assert_array_equal(resumed.box(*BOX), alone[0])
                for number in range(max(1, done), len(alone)):
                    np.testing.assert_array_equal(resumed.click(*CLICKS[number - 1]), alone[number])
    assert in_flight, "the server was killed too late to tell anything"


def talk(address: str, seed: int, ids: dict[int, str]) -> None:
    """A user who says everything as fast as the server lets them, until it is gone."""
    try:
        with RemoteSession(tiny_volume(seed), address) as session:
            ids[seed] = session.id
            session.box(*BOX)
            for at, positive in CLICKS:
                session.click(at, positive)
    except ServerError:
        pass


def test_a_second_server_on_the_store_takes_over(tmp_path: Path, tiny_model: Path) -> None:
    with (
        program(tmp_path, tiny_model) as (first, address),
        program(tmp_path, tiny_model) as (_, other),
    ):
        with RemoteSession(tiny_volume(), address) as session:
            mask = session.box(*BOX)
            with pytest.raises(ServerError, match="in use"):
                RemoteSession.join(other, session.id)
        first.kill()
        first.wait()
        with RemoteSession.join(other, session.id) as resumed:
            np.testing.assert_array_equal(resumed.mask, mask)


def test_a_conversation_of_a_viewer_knows_its_objects_again(
    tmp_path: Path, tiny_model: Path
) -> None:
    folder = tmp_path / "journal"
    with Session(tiny_volume(), tiny_model, device="cpu", journal=folder) as session:
        talk = Dialect(session, None)
        talk.point((6, 9, 8), include=True, run=True)
        kept = session.mask
        talk.reset()
        talk.point((2, 3, 4), include=True, run=True)
    with Session.resume(folder, tiny_model, device="cpu") as session:
        change = Dialect(session, None).initial(kept)
        assert change.bbox == [[0, n] for n in kept.shape]
        assert session.current == "object 1"
        assert len(session.history) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--index", "nonsense"], "the index cannot be opened"),
        (["--model", "/nowhere"], "is no folder"),
        (["--host", "203.0.113.1"], "cannot listen on"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, tiny_model: Path, words: list[str], sentence: str
) -> None:
    base = ["serve", "--port", "0", "--store", str(tmp_path), "--model", str(tiny_model)]
    done = CliRunner().invoke(app, [*base, *words])
    assert done.exit_code == 2
    assert sentence in done.stderr
