"""Why a request is refused, when it is not what the user said (`InputError`, 400)."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """A refusal with a status; its message is one sentence for the user."""

    status = 400
    headers: Mapping[str, str] = {}


class Unknown(Refusal):
    """There is no such session (any more)."""

    status = 404


class Gone(Unknown):
    """The same, in nnInteractive's words."""

    status = 410


class Forbidden(Refusal):
    """The request comes from a page or for a host that is not ours."""

    status = 403


class Unauthorized(Refusal):
    """The API key is missing or wrong."""

    status = 401


class Unopened(Refusal):
    """The session is damaged, or another server process on the same store has it open."""

    status = 409


class TooLarge(Refusal):
    """An upload is above the limit."""

    status = 413


class Full(Refusal):
    """There is no place now.

    Args:
        sentence: for the user.
        retry_after_s: when to come back.
    """

    status = 503

    def __init__(self, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.headers = {"Retry-After": str(retry_after_s)}


class Unreachable(Refusal):
    """The database of sessions does not answer."""

    status = 503
    headers: Mapping[str, str] = {"Retry-After": "10"}
