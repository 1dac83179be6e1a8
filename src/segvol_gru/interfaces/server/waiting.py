"""What a viewer said without asking for a mask, on disk until it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire import Said, SessionLike, heard, said
from segvol_gru.prompts import Box, Click


class Waiting(BaseModel):
    """Prompts that wait, and where the session stood when they were said.

    Attributes:
        current: object that they are about.
        cursor: of that object. Once it stands elsewhere they were answered, or are out of date.
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
    with suppress(InputError), whole_file(path) as fresh:  # full disk: it waits in memory alone
        fresh.write_text(told.model_dump_json(), encoding="utf-8")


def kept(path: Path, session: SessionLike) -> list[Box | Click]:
    """What waited when a session was closed; nothing if that was answered before a crash."""
    if not path.is_file():
        return []
    told = Waiting.model_validate_json(path.read_bytes())
    if (told.current, told.cursor) != (session.current, session.cursor):
        return []
    return [prompt for entry in told.prompts if isinstance(prompt := heard(entry), Box | Click)]
