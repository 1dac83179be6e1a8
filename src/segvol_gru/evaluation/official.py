"""The competition's loop over one case: a box, then five rounds of one click per label.

Two sets of rules. `OFFICIAL` reproduces the published script to the last digit, faults
included, so that numbers can be compared with the leaderboard. `CORRECTED`, the default, does
what the words of the protocol mean.

Source: https://github.com/JunMa11/CVPR-MedSegFMCompetition at 748e862, re-implemented from
challenge-protocol sections 3 to 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.errors import InputError
from segvol_gru.evaluation.metrics import CLICKS, auc, dice, nsd
from segvol_gru.prompts import Click
from segvol_gru.simulate import BoolArray, Slices, next_click

STEPS = 1 + CLICKS
SECONDS_PER_LABEL = 90

LabelMap = NDArray[Any]  # (D, H, W) integers, 0 = background
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rules:
    """Choices in which the official script differs from its description."""

    reverse_spacing: bool = True
    """The file stores (x, y, z) and the array is (z, y, x): turn it round before use."""

    gate: float | None = None
    """Call every NSD of a step 0 unless the mean DSC is greater than this."""

    rescore_stale: bool = False
    """Where the model writes nothing, score its earlier output again; otherwise nothing."""

    wrap_uint8: bool = False
    """Cast the previous prediction to uint8 before placing clicks: label 257 becomes 1."""

    drop_smallest: bool = False
    """Leave out the smallest label present even if it is not 0."""

    missing_box_step: float = float("nan")
    """DSC and NSD of the box step where a case has no boxes."""


OFFICIAL = Rules(
    reverse_spacing=False,
    gate=0.2,
    rescore_stale=True,
    wrap_uint8=True,
    drop_smallest=True,
    missing_box_step=0.0,
)
CORRECTED = Rules()


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model may look at in one step.

    Attributes:
        step: 0 after the box, 1..5 after that many rounds of clicks.
        labels: the labels wanted, ascending.
        clicks: per label, all clicks so far in the order given.
        previous: (D, H, W) its last output, None before any.
    """

    step: int
    labels: tuple[int, ...]
    clicks: tuple[tuple[Click, ...], ...]
    previous: LabelMap | None


Model = Callable[[Turn], LabelMap | None]  # None: nothing was written


@dataclass(frozen=True, slots=True)
class CaseScores:
    """Scores of one case, K labels.

    Attributes:
        labels: the labels scored, ascending.
        clicks: five rounds, per label the click given or None where nothing was wrong.
        label_dsc: (6, K) DSC of every label, never gated; NaN where no step was run.
        label_nsd: (6, K) NSD at 2 mm likewise.
        dsc: (6,) mean over labels.
        nsd: (6,) mean over labels, under the gate if there is one.
        answered: whether the model wrote anything; the official table leaves out cases
            without any output.
    """

    labels: tuple[int, ...]
    clicks: tuple[tuple[Click | None, ...], ...]
    label_dsc: FloatArray
    label_nsd: FloatArray
    dsc: FloatArray
    nsd: FloatArray
    answered: bool

    def row(self) -> dict[str, float]:
        """The four ranked numbers, by their official names."""
        return {
            "DSC_AUC": auc(self.dsc[1:].tolist()),
            "NSD_AUC": auc(self.nsd[1:].tolist()),
            "DSC_Final": float(self.dsc[-1]),
            "NSD_Final": float(self.nsd[-1]),
        }

    @property
    def seconds_allowed(self) -> int:
        """Limit of the sum of run times; on the test set a slower case scores 0."""
        return SECONDS_PER_LABEL * len(self.labels)


def run_case(
    gts: LabelMap,
    stored_spacing: Sequence[float],
    model: Model,
    has_boxes: bool = True,
    rules: Rules = CORRECTED,
) -> CaseScores:
    """Run and score one case.

    Args:
        gts: (D, H, W) integer labels, 0 = background.
        stored_spacing: three lengths in mm as the competition file has them, that is (x, y, z).
        model: called once per step.
        has_boxes: whether the case comes with boxes; without, the box step is not run.
        rules: `CORRECTED` or `OFFICIAL`.

    Raises:
        InputError: an array does not hold labels, or a prediction has another shape.
    """
    if gts.size == 0 or gts.min() < 0:
        raise InputError(f"gts of shape {gts.shape} is empty or has labels below 0, wanted 0 up.")
    truth = _Labelled(gts, "gts", int(gts.max()))
    labels = tuple(k for k, box in enumerate(truth.boxes, start=1) if box is not None)
    if rules.drop_smallest and gts.min() > 0:
        labels = labels[1:]
    spacing = tuple(stored_spacing)[::-1] if rules.reverse_spacing else tuple(stored_spacing)
    label_dsc, label_nsd = np.full((2, STEPS, len(labels)), np.nan)
    given: list[list[Click]] = [[] for _ in labels]
    rounds: list[tuple[Click | None, ...]] = []
    written: LabelMap | None = None
    for step in range(STEPS):
        if step:
            shown = truth.beside(written)
            rounds.append(tuple(_clicks(truth, shown.as_seen(rules.wrap_uint8), labels)))
            for history, click in zip(given, rounds[-1], strict=True):
                if click is not None:
                    history.append(click)
        elif not has_boxes:
            continue
        output = model(Turn(step, labels, tuple(map(tuple, given)), written))
        if output is not None:
            written = output
        kept = written if rules.rescore_stale else output
        scored = truth.beside(kept)
        for k, label in enumerate(labels):
            one, other, _ = _cut(truth, scored, label)
            label_dsc[step, k] = dice(one, other)
            label_nsd[step, k] = nsd(one, other, spacing)
    dsc, surface = _means(label_dsc, label_nsd, has_boxes, rules)
    return CaseScores(
        labels, tuple(rounds), label_dsc, label_nsd, dsc, surface, written is not None
    )


@dataclass(slots=True)
class _Labelled:
    """A label map and, found in one pass, the box around each label from 1 to `top`."""

    array: LabelMap
    name: str
    top: int
    boxes: list[Slices | None] = field(init=False)

    def __post_init__(self) -> None:
        if self.array.ndim != 3 or self.array.dtype.kind not in "bui":
            raise InputError(
                f"{self.name} is {self.array.dtype} of shape {self.array.shape}, wanted an "
                "integer (D, H, W) label map; round and cast it first."
            )
        if self.array.dtype.kind == "b":
            self.array = self.array.view(np.uint8)
        self.boxes = ndimage.find_objects(self.array, max_label=self.top) if self.top else []

    def beside(self, prediction: LabelMap | None) -> _Labelled:
        """A prediction for this ground truth; None is an empty one."""
        if prediction is None:
            prediction = np.zeros(self.array.shape, dtype=np.uint8)
        if prediction.shape != self.array.shape:
            raise InputError(
                f"prediction has shape {prediction.shape}, wanted {self.array.shape}; "
                "write it on the grid of the input image."
            )
        return _Labelled(prediction, "prediction", self.top)

    def as_seen(self, wrapped: bool) -> _Labelled:
        """What the robot user sees of it."""
        if wrapped and self.array.dtype != np.uint8:
            return _Labelled(self.array.astype(np.uint8), self.name, self.top)
        return self


def _cut(truth: _Labelled, other: _Labelled, label: int) -> tuple[BoolArray, BoolArray, Slices]:
    """Both masks of a label inside the box that holds both, and that box."""
    boxes = [box for box in (truth.boxes[label - 1], other.boxes[label - 1]) if box is not None]
    z, y, x = (
        slice(min(b[axis].start for b in boxes), max(b[axis].stop for b in boxes))
        for axis in range(3)
    )
    window = (z, y, x)
    return truth.array[window] == label, other.array[window] == label, window


def _clicks(truth: _Labelled, shown: _Labelled, labels: tuple[int, ...]) -> list[Click | None]:
    """One click per label on its largest error; labels do not see each other."""
    clicks: list[Click | None] = []
    for label in labels:
        # Comparing keeps the memory order of the cut array, on which ties depend.
        one, other, window = _cut(truth, shown, label)
        found = next_click(one, other)
        if found is None:
            clicks.append(None)
            continue
        (z, y, x), positive = found
        dz, dy, dx = (w.start for w in window)
        clicks.append(Click((z + dz, y + dy, x + dx), positive))
    return clicks


def _means(
    label_dsc: FloatArray, label_nsd: FloatArray, has_boxes: bool, rules: Rules
) -> tuple[FloatArray, FloatArray]:
    """(6,) means over labels; NaN for a case without labels."""
    if label_dsc.shape[1] == 0:
        return np.full(STEPS, np.nan), np.full(STEPS, np.nan)
    dsc, surface = label_dsc.mean(axis=1), label_nsd.mean(axis=1)
    if not has_boxes:
        dsc[0] = surface[0] = rules.missing_box_step
    if rules.gate is not None:
        surface = np.where(dsc > rules.gate, surface, 0.0)
    return dsc, surface
