"""Several servers on one PostgreSQL and one folder of journals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live import until
from postgresql import Database, database
from processes import BOX, Alone, check_all_go_on, kill_in_mid_prompt, program, say
from sqlalchemy import create_engine, func, select
from tiny import tiny_volume

from segvol_gru.interfaces.client import RemoteSession, ServerError
from segvol_gru.interfaces.server.index import TABLE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Database]:
    with database() as running:
        yield running


def rows(url: str) -> int:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(select(func.count()).select_from(TABLE)).scalar_one()
    engine.dispose()
    return int(found)


def test_a_session_begun_on_one_server_goes_on_on_the_other(
    tmp_path: Path, tiny_model: Path, postgresql: Database
) -> None:
    words, alone = ["--index", postgresql.url], Alone(0, tiny_model)
    with (
        alone.session,
        program(tmp_path, tiny_model, *words, "--idle", "1") as (_, one),
        program(tmp_path, tiny_model, *words) as (_, other),
    ):
        before = rows(postgresql.url)
        with RemoteSession(tiny_volume(), one) as session:
            for number in range(3):
                np.testing.assert_array_equal(say(session, number), alone.after(number + 1))
        assert rows(postgresql.url) == before + 1
        assert not (tmp_path / "index.db").exists()
        until(lambda: joined(other, session.id))  # the first one gives it up after a while
        with RemoteSession.join(other, session.id) as resumed:
            np.testing.assert_array_equal(resumed.mask, alone.after(3))
            for number in range(3, 6):
                np.testing.assert_array_equal(say(resumed, number), alone.after(number + 1))
            with pytest.raises(ServerError, match="in use"):
                RemoteSession.join(one, session.id)
            resumed.end()
        assert rows(postgresql.url) == before
        with pytest.raises(ServerError, match="no such session"):
            RemoteSession.join(one, session.id)


def joined(address: str, session: str) -> bool:
    try:
        RemoteSession.join(address, session).close()
    except ServerError as error:
        if "in use" not in str(error):
            raise
        return False
    return True


def test_the_other_server_takes_over_when_one_is_killed_in_mid_prompt(
    tmp_path: Path, tiny_model: Path, postgresql: Database
) -> None:
    words = ["--index", postgresql.url]
    with (
        program(tmp_path, tiny_model, *words) as (process, address),
        program(tmp_path, tiny_model, *words) as (_, other),
    ):
        users = kill_in_mid_prompt(process, address)
        check_all_go_on(users, other, tiny_model)


def test_a_database_that_is_away_for_a_while_is_a_refusal_that_says_so(
    tmp_path: Path, tiny_model: Path, postgresql: Database
) -> None:
    with (
        program(tmp_path, tiny_model, "--index", postgresql.url) as (_, address),
        RemoteSession(tiny_volume(), address) as session,
    ):
        mask = session.box(*BOX)
        postgresql.stop()
        np.testing.assert_array_equal(session.mask, mask)  # an open session does not need it
        with pytest.raises(ServerError, match=r"does not answer; try again .*HTTP 503"):
            RemoteSession(tiny_volume(), address)
        postgresql.start()
        with RemoteSession(tiny_volume(), address) as another:
            np.testing.assert_array_equal(another.box(*BOX), mask)
        session.end()
