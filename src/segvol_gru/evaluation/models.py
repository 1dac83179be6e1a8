"""Names of everything that can be measured, and what they stand for.

Ours need PyTorch and are made elsewhere (`interfaces.measured`); the rest is made here.
"""

from __future__ import annotations

from functools import partial

from segvol_gru.evaluation.baselines import BASELINES, WALKER
from segvol_gru.evaluation.folder import PREFIX, FolderCommand
from segvol_gru.evaluation.seeds import require_walker
from segvol_gru.evaluation.trial import SegmenterFactory

ABLATIONS = ("forget", "shuffle")
OURS = ("field", "paper", "reprompt", "none", *ABLATIONS)
"""Runs of our networks: three correctors, none, and the field corrector robbed of its memory."""


def foreign_model(name: str) -> SegmenterFactory | None:
    """Make a baseline or a command; None if the name says neither.

    Args:
        name: a key of `BASELINES`, or `command:` and the words of a command.

    Raises:
        InputError: the command is empty, or what the baseline needs is not installed.
    """
    if name == WALKER:
        require_walker()
    if name.startswith(PREFIX):
        words = name.removeprefix(PREFIX)
        FolderCommand(words)
        return partial(FolderCommand, words)
    return BASELINES.get(name)
