"""One call of the competition: an input file with all prompts so far -> a label map.

Nothing survives between two calls but the files, so every call says all prompts again, in the
order in which they were given. All classes are answered together:

    class k: box ─► own click 1 ─► rivals' foreground clicks 1, as background ─► own click 2 ...
    every voxel: the class of the largest logit above 0
    a class whose last round brought no click was perfect: its voxels stay as they were
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.challenge import ChallengeCase, read_challenge, write_challenge_segs
from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.prompts import Box, Click
from segvol_gru.region import Field
from segvol_gru.session.engine import Engine, make_engine
from segvol_gru.session.snapshot import Step

LabelMap = NDArray[np.unsignedinteger[Any]]
Rounds = Sequence[Sequence[Click | None]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one input file: `labels` found in `seconds`, or the error that it met."""

    name: str
    labels: int
    seconds: float
    error: Exception | None = None


def answer_folder(
    inputs: Path, outputs: Path, model: Model, device: str = "auto"
) -> Iterator[Answered]:
    """Answer every `<case>.npz` of a folder into another one, as the container does.

    Args:
        inputs: existing folder of input files.
        outputs: existing folder for the answers.
        model: networks.
        device: "auto", "cpu", "cuda" or "mps".
    """
    for path in sorted(inputs.glob("*.npz")):
        began = time.perf_counter()
        try:
            labels = predict(read_challenge(path), model, device)
            write_challenge_segs(outputs / path.name, labels)
        except Exception as error:  # one bad case must not cost the others their answers
            yield Answered(path.name, 0, time.perf_counter() - began, error)
        else:
            yield Answered(path.name, int(labels.max()), time.perf_counter() - began)


def predict(case: ChallengeCase, model: Model, device: str = "auto") -> LabelMap:
    """Answer one call.

    Args:
        case: image and all prompts so far; class k of boxes and clicks has label k + 1.
        model: networks.
        device: "auto", "cpu", "cuda" or "mps".

    Returns:
        (D, H, W) labels, uint8 up to 255 classes, else uint16.

    Raises:
        InputError: there is neither a box nor a click, or boxes and clicks do not match.
    """
    count = max(len(case.boxes), len(case.clicks))
    if not count or any(len(part) not in (0, count) for part in (case.boxes, case.clicks)):
        raise InputError(
            f"the case has {len(case.boxes)} boxes and clicks for {len(case.clicks)} classes, "
            "wanted one or both of them for every class."
        )
    engine = make_engine(case.volume, model, "", "auto", device)
    labels: LabelMap = np.zeros(case.volume.shape, np.uint8 if count < 256 else np.uint16)
    highest = np.zeros(case.volume.shape, np.float32)  # the background's logit is 0
    kept = perfect_classes(case)
    for k in sorted(set(range(count)) - kept):
        answer = replay(engine, k, case.boxes, case.clicks)
        if answer is not None:
            window = answer.region.slices()
            logits = answer.logits.numpy()
            wins = logits > highest[window]
            highest[window][wins] = logits[wins]
            labels[window][wins] = k + 1
    if case.previous is not None:
        for k in kept:
            labels[case.previous == k + 1] = k + 1
    return labels


def perfect_classes(case: ChallengeCase) -> set[int]:
    """Classes (from 0) in which the last round found nothing wrong.

    Labels above 255 have been wrapped in the previous answer, so nothing is known about them.
    """
    if case.previous is None:
        return set()
    few = case.clicks[: np.iinfo(np.uint8).max]
    return {k for k, rounds in enumerate(few) if rounds and rounds[-1] is None}


def replay(engine: Engine, k: int, boxes: Sequence[Box], clicks: Rounds) -> Field | None:
    """Say all prompts of one class again.

    Args:
        engine: model and volume.
        k: the class, from 0.
        boxes: one per class, or none at all.
        clicks: per class one entry per round, None where it got no click.

    Returns:
        Logits of the voxels that were looked at; None if nothing says where the class is.
    """
    step = engine.box(boxes[k]) if boxes else None
    rounds = zip(*clicks, strict=True)  # per round one entry per class
    before: tuple[Click, ...] = ()  # background clicks while nothing has begun
    rivals: list[Click] = []
    for given in rounds:
        own = given[k]
        if own is not None and step is not None:
            step = engine.click(step, own)
        elif own is not None and own.positive:
            step = engine.first_click(own, before)
        elif own is not None:
            before = (*before, own)
        rivals += [c for j, c in enumerate(given) if j != k and c is not None and c.positive]
        if step is not None:
            step = _yielded(engine, step, rivals)
    return None if step is None else engine.canvas(step)


def _yielded(engine: Engine, step: Step, rivals: Sequence[Click]) -> Step:
    """Give up the places that other classes have claimed, where the mask holds them."""
    if not rivals:
        return step
    mask = engine.canvas(step)
    for rival in rivals:
        inside = tuple(a - o for a, o in zip(rival.at, mask.region.lo, strict=True))
        held = all(0 <= a < n for a, n in zip(inside, mask.region.size, strict=True))
        if held and bool(mask.logits[inside] > 0):
            step = engine.click(step, Click(rival.at, positive=False))
            mask = engine.canvas(step)
    return step
