"""A real PostgreSQL on loopback, in a folder that is deleted with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live import until
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

DEBIAN = Path("/usr/lib/postgresql")
NOBODY = ("postgres", "nobody")  # PostgreSQL refuses to run as root


class Database:
    """A PostgreSQL that can be stopped and started; its files stay.

    Args:
        folder: where its files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._user = folder, _user()
        if self._user is not None:
            os.chown(folder, self._user, -1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://segvol@127.0.0.1:{self._port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        words = ["--auth=trust", "--username=segvol", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", *words, "--pgdata", str(folder)).wait()

    def start(self) -> None:
        words = ["-D", str(self._folder), "-h", "127.0.0.1", "-p", str(self._port)]
        self._process = self._run("postgres", *words, "-c", "unix_socket_directories=")
        until(self._answers)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)
            self._process = None

    def _answers(self) -> bool:
        engine = create_engine(self.url, poolclass=NullPool)
        try:
            engine.connect().close()
        except OperationalError:
            return False
        return True

    def _run(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [_binary(name), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            user=self._user,
        )


@contextmanager
def database() -> Iterator[Database]:
    """A running PostgreSQL; skips the test where there is none to run."""
    missing = [name for name in ("initdb", "postgres") if _binary(name) is None]
    if missing:
        pytest.skip(f"there is no PostgreSQL here ({', '.join(missing)}); install Debian's package")
    with tempfile.TemporaryDirectory(prefix="segvol-gru-postgresql-") as folder:
        running = Database(Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.stop()


def _binary(name: str) -> str | None:
    folders = [str(found) for found in sorted(DEBIAN.glob("*/bin"), reverse=True)]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))


def _user() -> int | None:
    """Whom to be if we are root."""
    if os.geteuid() != 0:
        return None
    there = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
    return next(there[name] for name in NOBODY if name in there)
