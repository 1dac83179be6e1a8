"""What answers the competition's folders: our model in this process, or a command."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from segvol_gru.evaluation.competition import AnswerFactory
from segvol_gru.evaluation.folder import PREFIX
from segvol_gru.evaluation.submission import command_answer
from segvol_gru.interfaces.challenge import answer_folder
from segvol_gru.pretrained import load_model

DIGITS = 12  # of a digest in a name


class InProcess:
    """Our model as the container answers, files in and files out; only loaded but once.

    Args:
        model: "default" or a model folder.
        corrector: "field", "paper" or "reprompt".
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, model: str, corrector: str, device: str) -> None:
        self._model, self._device = load_model(model, corrector), device

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return self._model.digest

    def __call__(self, inputs: Path, outputs: Path) -> None:
        """See `evaluation.submission.Answer`; the first error is raised after the last file."""
        done = list(answer_folder(inputs, outputs, self._model, self._device))
        for error in (file.error for file in done if file.error is not None):
            raise error


def contestant(model: str, corrector: str, device: str) -> tuple[AnswerFactory, str]:
    """What the option `--model` of `challenge` names, and a name that holds the weights' digest.

    Raises:
        InputError: the weights cannot be used, or the command is empty.
    """
    if model.startswith(PREFIX):
        words = model.removeprefix(PREFIX)
        command_answer(words)
        return partial(command_answer, words), model
    factory = partial(InProcess, model, corrector, device)
    return factory, f"{corrector} {factory().digest[:DIGITS]}"
