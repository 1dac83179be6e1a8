"""What a viewer said without asking for a mask, on disk until it is answered."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire import Said, SessionLike, heard, said
from segvol_gru.prompts import Box, Click


class Waiting(BaseModel):
    """Prompts that wait, and where the session stood when they were said.

    Attributes:
        current: object that they are about.
        cursor: of that object when the first was said.
        prompts: in the order in which they were said.
    """

    current: str
    cursor: int
    prompts: list[Said]


def keep(path: Path, session: SessionLike, prompts: Sequence[Box | Click]) -> None:
    """Store what waits; no file if nothing does.

    Args:
        path: of the file.
        session: what the prompts are for.
        prompts: all that waits.
    """
    if not prompts:
        path.unlink(missing_ok=True)
        return
    entries = [said(prompt) for prompt in prompts]
    told = Waiting(current=session.current, cursor=session.cursor, prompts=entries)
    with suppress(InputError), whole_file(path) as fresh, fresh.open("wb") as file:
        # not on a full disk: there it waits in memory alone
        file.write(told.model_dump_json().encode())
        file.flush()
        os.fsync(file.fileno())


def kept(path: Path, session: SessionLike) -> list[Box | Click]:
    """What waited when a session was closed, but for what was answered before a crash.

    Nothing if the session stands where it does not follow from that.
    """
    try:
        told = Waiting.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return []
    waiting = [prompt for entry in told.prompts if isinstance(prompt := heard(entry), Box | Click)]
    done = list(session.history[told.cursor : session.cursor])
    follows = session.current == told.current and session.cursor >= told.cursor
    return waiting[len(done) :] if follows and waiting[: len(done)] == done else []
