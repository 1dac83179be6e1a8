"""`segvol-gru serve` as users start it: the address it prints, kill -9, and going on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from processes import BOX, check_all_go_on, kill_in_mid_prompt, program
from tiny import tiny_volume
from typer.testing import CliRunner

from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.client import RemoteSession, ServerError
from segvol_gru.interfaces.wire_nninteractive import Dialect
from segvol_gru.session.session import Session


def test_all_sessions_of_a_killed_server_go_on_to_the_same_bits(
    tmp_path: Path, tiny_model: Path
) -> None:
    with program(tmp_path, tiny_model) as (process, address):
        users = kill_in_mid_prompt(process, address)
    with program(tmp_path, tiny_model) as (_, address):
        check_all_go_on(users, address, tiny_model)


def test_a_second_server_beside_takes_over_all_sessions_of_a_killed_one(
    tmp_path: Path, tiny_model: Path
) -> None:
    with (
        program(tmp_path, tiny_model) as (process, address),
        program(tmp_path, tiny_model) as (_, other),
    ):
        users = kill_in_mid_prompt(process, address)
        check_all_go_on(users, other, tiny_model)


def test_a_session_is_open_in_one_server_at_a_time(tmp_path: Path, tiny_model: Path) -> None:
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
        (["--allow-host", "http://clinic/"], "wanted a bare name"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, tiny_model: Path, words: list[str], sentence: str
) -> None:
    base = ["serve", "--port", "0", "--store", str(tmp_path), "--model", str(tiny_model)]
    done = CliRunner().invoke(app, [*base, *words])
    assert done.exit_code == 2
    assert sentence in done.stderr
