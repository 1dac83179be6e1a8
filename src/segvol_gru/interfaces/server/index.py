"""Which sessions there are and where their journals lie: one table behind SQLAlchemy.

SQLite (write-ahead log) serves one machine; a PostgreSQL address serves several. The table knows
sessions by the SHA-256 of their ids only, so whoever reads it cannot use them. Every call is one
short transaction and may wait for a disk: never call it on the event loop. A database that does
not answer is `Unreachable`; the next call tries again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.refusals import Unreachable

Kind = Literal["api", "viewer", "legacy"]
TABLE = Table(
    "segvol_gru_sessions_1",  # a change of the columns makes a new table
    MetaData(),
    Column("key", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("journal", String(64)),
    Column("bytes", BigInteger, nullable=False),
    Column("used", Double, nullable=False, index=True),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One session.

    Attributes:
        key: SHA-256 of its id.
        kind: who speaks to it.
        journal: name of its folder; None while it has no image.
        bytes: of its voxels.
    """

    key: str
    kind: Kind
    journal: str | None
    bytes: int


def key_of(token: str) -> str:
    """The key of an id."""
    return hashlib.sha256(token.encode()).hexdigest()


class Index:
    """The table.

    Args:
        url: SQLAlchemy's address of a database.

    Raises:
        InputError: it cannot be opened.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine = create_engine(url, pool_pre_ping=True)
            if self._engine.dialect.name == "sqlite":
                event.listen(self._engine, "connect", _write_ahead)
            TABLE.metadata.create_all(self._engine)
        except (SQLAlchemyError, ArgumentError, ImportError) as error:
            kind = type(error).__name__
            raise InputError(
                f"the index cannot be opened ({kind}); give an address such as "
                "sqlite:////data/index.db or postgresql+psycopg://user@host/name."
            ) from None

    def add(self, row: Row) -> None:
        """Write down a new session; one that is there stays as it is."""
        values = {"key": row.key, "kind": row.kind, "journal": row.journal, "bytes": row.bytes}
        with suppress(IntegrityError):
            self._run(insert(TABLE).values(**values, used=time.time()))

    def find(self, key: str) -> Row | None:
        """A session by its key."""
        rows = self._rows(TABLE.c.key == key)
        return rows[0] if rows else None

    def move(self, key: str, journal: str, n_bytes: int) -> bool:
        """Give a session another journal; False if there is no such session."""
        changed = {"journal": journal, "bytes": n_bytes, "used": time.time()}
        return self._run(update(TABLE).where(TABLE.c.key == key).values(**changed)) > 0

    def touch(self, *keys: str) -> None:
        """Note that sessions were used."""
        self._run(update(TABLE).where(TABLE.c.key.in_(keys)).values(used=time.time()))

    def remove(self, key: str) -> None:
        """Forget a session."""
        self._run(delete(TABLE).where(TABLE.c.key == key))

    def stale(self, seconds: float) -> list[Row]:
        """Sessions that were not used for so long."""
        return self._rows(TABLE.c.used < time.time() - seconds)

    def journals(self) -> set[str]:
        """Folders that sessions have."""
        return {row.journal for row in self._rows(TABLE.c.journal.is_not(None)) if row.journal}

    def count(self) -> int:
        """Number of sessions."""
        with self._connected() as connection:
            return int(connection.execute(select(func.count()).select_from(TABLE)).scalar_one())

    def close(self) -> None:
        """Let go of all connections."""
        self._engine.dispose()

    def _run(self, statement: Any) -> int:
        with self._connected() as connection:
            return int(connection.execute(statement).rowcount)

    def _rows(self, condition: Any) -> list[Row]:
        columns = (TABLE.c.key, TABLE.c.kind, TABLE.c.journal, TABLE.c.bytes)
        with self._connected() as connection:
            return [Row(*found) for found in connection.execute(select(*columns).where(condition))]

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """One transaction."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except (OperationalError, InterfaceError):
            raise Unreachable(
                "the database of sessions does not answer; try again in 10 s."
            ) from None


def _write_ahead(connection: Any, _: object) -> None:
    """Readers do not wait for a writer, and a killed process leaves nothing half written."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
