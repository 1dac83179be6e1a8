"""`segvol-gru serve` as users start it, and users who keep it busy until it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from live import until
from numpy.typing import NDArray
from tiny import tiny_volume

from segvol_gru.interfaces.client import RemoteSession, ServerError
from segvol_gru.session.session import Session

USERS = 8
BOX = ((3, 4, 4), (8, 13, 12))
STOP_S = 120  # it takes a second or two; test machines may be busy


@contextmanager
def program(store: Path, model: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server in a process of its own, and the address that it prints."""
    said = ["serve", "--port", "0", "--store", str(store), "--model", str(model), *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "segvol_gru", *said, "--device", "cpu"],
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


def nth_click(number: int) -> tuple[tuple[int, int, int], bool]:
    """Clicks without end, all over the tiny volume."""
    return (2 + number % 8, 1 + number % 16, 4 + number % 7), number % 2 == 0


class Alone:
    """A session that nothing happens to.

    Args:
        seed: of its volume.
        model: folder of its networks.
    """

    def __init__(self, seed: int, model: Path) -> None:
        self.session = Session(tiny_volume(seed), model, device="cpu")
        self._said = 0

    def after(self, prompts: int) -> NDArray[np.bool_]:
        """The mask after so many prompts, a box and clicks; ask for more each time."""
        for number in range(self._said, prompts):
            say(self.session, number)
        self._said = prompts
        return self.session.mask


def say(session: Session | RemoteSession, number: int) -> NDArray[np.bool_]:
    """The prompt of this number."""
    return session.click(*nth_click(number)) if number else session.box(*BOX)


@dataclass
class User:
    """Somebody who says everything as fast as the server lets them, until it is gone."""

    seed: int
    id: str = ""
    asked: int = 0
    shown: int = 0

    def talk(self, address: str) -> None:
        try:
            with RemoteSession(tiny_volume(self.seed), address) as session:
                self.id = session.id
                for number in count():
                    self.asked += 1
                    say(session, number)
                    self.shown += 1
        except ServerError:
            pass


def kill_in_mid_prompt(process: subprocess.Popen[str], address: str) -> list[User]:
    """Kill a server under eight users, each of whom waits for a mask."""
    users = [User(seed) for seed in range(USERS)]
    threads = [threading.Thread(target=user.talk, args=(address,)) for user in users]
    for thread in threads:
        thread.start()
    until(lambda: all(user.shown >= 2 for user in users))
    process.kill()
    process.wait()
    for thread in threads:
        thread.join()
    return users


def check_all_go_on(users: list[User], address: str, model: Path) -> None:
    """Demand that no mask that was shown is lost, and that all go on to the same bits."""
    for user in users:
        assert user.asked == user.shown + 1  # in mid-prompt
        with ExitStack() as stack:
            resumed = stack.enter_context(RemoteSession.join(address, user.id))
            alone = Alone(user.seed, model)
            stack.callback(alone.session.close)
            done = resumed.cursor
            assert user.shown <= done <= user.asked
            np.testing.assert_array_equal(resumed.mask, alone.after(done))
            for number in (done, done + 1):
                np.testing.assert_array_equal(say(resumed, number), alone.after(number + 1))
