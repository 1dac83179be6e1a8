"""How our models are made anew in every worker; their weights are looked for beforehand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from segvol_gru.errors import InputError
from segvol_gru.evaluation.models import foreign_model
from segvol_gru.evaluation.trial import SegmenterFactory
from segvol_gru.interfaces.measured import SessionSegmenter
from segvol_gru.interfaces.measured_segvol import SegVolSegmenter

Named = tuple[SegmenterFactory, str]
DIGITS = 12  # of a digest in a name


def ours(
    model: str, corrector: str, device: str, *, forget: bool = False, shuffle: bool = False
) -> Named:
    """Our networks; the arguments are those of `SessionSegmenter`.

    The name holds the weights' digest, so that results of other weights are never gone on with.

    Raises:
        InputError: the weights cannot be used.
    """
    factory = partial(SessionSegmenter, model, corrector, device, forget, shuffle)
    digest = factory().digest[:DIGITS]  # fails here: a worker could not say why
    return factory, " ".join([corrector, *["forget"] * forget, *["shuffle"] * shuffle, digest])


def segvol(weights: Path, model: str, corrector: str, device: str) -> Named:
    """SegVol; the arguments are those of `SegVolSegmenter`.

    Raises:
        InputError: the weights cannot be used.
    """
    factory = partial(SegVolSegmenter, weights, model, corrector, device)
    digest = factory().digest[:DIGITS]
    return factory, f"segvol {corrector} {digest}"


def named(
    model: str,
    weights: Path | None,
    corrector: str,
    device: str,
    *,
    forget: bool = False,
    shuffle: bool = False,
) -> Named:
    """What the options of `evaluate` ask for, and its name.

    Args:
        model: "default", a model folder, a baseline or a command.
        weights: of SegVol; None to do without.
        corrector: what clicks go to.
        device: "auto", "cpu", "cuda" or "mps".
        forget: as for `SessionSegmenter`.
        shuffle: as for `SessionSegmenter`.

    Raises:
        InputError: the options do not go together, or weights cannot be used.
    """
    foreign = foreign_model(model)
    if weights is not None:
        if foreign is not None or forget or shuffle:
            raise InputError("--segvol goes with a corrector of ours, not with other models.")
        return segvol(weights, model, corrector, device)
    if foreign is not None:
        if forget or shuffle or corrector != "field":
            raise InputError(f"{model} takes no corrector; leave --corrector, --forget, --shuffle.")
        return foreign, model
    return ours(model, corrector, device, forget=forget, shuffle=shuffle)
