"""From one state and one prompt to the next: which window, which start, whose memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segvol_gru.base.large import LargeBase
from segvol_gru.base.zoom import Watch
from segvol_gru.data.preprocess import CT_WINDOWS, Window, ct_window, window_for
from segvol_gru.errors import InputError
from segvol_gru.framing import around_box, around_click
from segvol_gru.pipeline import (
    Model,
    refine,
    retold,
    start,
    start_from_click,
    start_from_logits,
    start_from_text,
)
from segvol_gru.pretrained import load_model
from segvol_gru.prompts import Box, Click
from segvol_gru.region import Field
from segvol_gru.scan import Scan
from segvol_gru.session.records import Header
from segvol_gru.session.snapshot import Clip, Step
from segvol_gru.state import ANSWER, SURE, TAKEN, State, canvas, on_cells, segmented
from segvol_gru.volume import Volume

WindowChoice = str | tuple[float, float] | Window
DEVICES = ("auto", "cpu", "cuda", "mps")
KEPT_SCANS = 2  # windows whose views are remembered: objects of a lung and of soft tissue


@dataclass(slots=True)
class Engine:
    """A model that looks at one volume. Prompts must have been checked.

    Attributes:
        model: on its device.
        volume: the image.
        window: the user's choice of window.
        device: where the networks run.
        watch: progress and cancel of a base that takes its time.
        fixed: the window's intensities; None for a raw CT, where they depend on the box.
    """

    model: Model
    volume: Volume
    window: WindowChoice
    device: torch.device
    watch: Watch | None = None
    fixed: Clip | None = None
    _scans: dict[Clip, Scan] = field(default_factory=dict, repr=False)

    def box(self, box: Box) -> Step:
        """Start from a box."""
        clip = self._clip(box)
        return self._step(start(self.model, self._scan(clip), box), clip)

    def text(self) -> Step:
        """Start from the text that the base was given.

        Raises:
            InputError: there is none, or nothing is found.
        """
        clip = self._clip(None)
        return self._step(start_from_text(self.model, self._scan(clip)), clip)

    def mask(self, mask: NDArray[np.bool_], box: Box) -> Step:
        """Start from a mask (D, H, W) bool whose bounding box is `box`."""
        clip = self._clip(box)
        region = around_box(box, self.volume.shape, self.volume.spacing_mm)
        inside = torch.from_numpy(mask[region.slices()])
        logits = torch.full(region.size, -int(SURE), dtype=TAKEN)
        logits[inside] = int(SURE)
        return self._step(
            start_from_logits(self.model, self._scan(clip), Field(region, logits)), clip
        )

    def first_click(self, click: Click, earlier: tuple[Click, ...]) -> Step:
        """Start from a click while nothing else says where the object is.

        Args:
            click: the click.
            earlier: negative clicks given before. They are repeated where the new mask defies
                them, and obeyed from now on; but not where the new one was given, which counts.
        """
        shape, spacing_mm = self.volume.shape, self.volume.spacing_mm
        region = around_click(click.at, shape, spacing_mm)
        z, y, x = (n - 1 for n in region.hi)
        clip = self._clip(Box(region.lo, (z, y, x)))
        scan = self._scan(clip)
        state = start_from_click(self.model, scan, click)
        earlier = tuple(old for old in earlier if click.positive and old.at != click.at)
        for old in earlier:
            if _in_mask(segmented(state, scan), old):
                state = refine(self.model, scan, state, old)
        if earlier:
            state = retold(self.model, scan, state, (*earlier, click))
        return self._step(state, clip)

    def click(self, before: Step, click: Click) -> Step:
        """Refine."""
        state = before.state
        if before.digest != self.model.digest:
            state = self._adopted(state)
        return self._step(refine(self.model, self._scan(before.clip), state, click), before.clip)

    def canvas(self, step: Step) -> Field:
        """The logits of every voxel that a step knows something of."""
        return canvas(step.state, self._scan(step.clip))

    def mask_of(self, step: Step) -> Field:
        """The mask of a step, bool, on the same voxels."""
        return segmented(step.state, self._scan(step.clip))

    def _adopted(self, state: State) -> State:
        """The state of another model as one of ours: its mask stays, its memory says nothing."""
        bottom, *rest = state.layers
        if bottom.logits.dtype == ANSWER:  # not ours: it is not asked again
            bottom = Field(bottom.region, bottom.logits.float())
        cells = on_cells(state.layers, state.region, self.model.cells)
        memory = self.model.corrector.initial_memory(1).cpu()
        return replace(state, layers=(bottom, *rest), logits=cells, memory=memory)

    def _clip(self, box: Box | None) -> Clip:
        if self.fixed is not None:
            return self.fixed
        found = ct_window(self.volume, box)
        return found.lo, found.hi

    def _scan(self, clip: Clip) -> Scan:
        if clip not in self._scans:
            while len(self._scans) >= KEPT_SCANS:
                self._scans.pop(next(iter(self._scans)))
            base, array = self.model.base, self.volume.array
            reader = base.read(array, clip, self.watch) if isinstance(base, LargeBase) else None
            self._scans[clip] = Scan(array, self.volume.spacing_mm, clip, self.device, reader)
        return self._scans[clip]

    def _step(self, state: State, clip: Clip) -> Step:
        plain = replace(
            state,
            layers=tuple(Field(layer.region, _plain(layer.logits)) for layer in state.layers),
            logits=_plain(state.logits),
            memory=_plain(state.memory),
        )
        return Step(plain, clip, self.model.digest)


@dataclass(frozen=True, slots=True)
class Large:
    """What a session says about a large base.

    Attributes:
        base: "compact" or "segvol".
        weights: SegVol's.
        watch: progress and cancel.
    """

    base: str = "compact"
    weights: str | PathLike[str] | None = None
    watch: Watch | None = None


def make_engine(
    volume: Volume,
    model: str | PathLike[str] | Model,
    corrector: str,
    window: WindowChoice,
    device: str,
    large: Large | None = None,
) -> Engine:
    """Put a model on its device before a volume.

    Raises:
        InputError: no such model, window or device.
    """
    place, large = pick_device(device), large or Large()
    if not isinstance(model, Model):
        name = model if isinstance(model, str) else Path(model)
        model = load_model(name, corrector, base=large.base, weights=large.weights)
    elif (large.base, large.weights) != ("compact", None):
        raise InputError("model is a Model, which brings its own base; leave out base and weights.")
    found = window_for(volume, window)
    clip = (found.lo, found.hi)
    model = model.fitting(volume.array, volume.spacing_mm, clip)
    if next(model.base.parameters()).device.type != place.type:
        base, network = copy.deepcopy((model.base, model.corrector))  # others may be using it
        model = replace(model, base=base.to(place), corrector=network.to(place))
    fixed = window != "auto" or found.name not in CT_WINDOWS  # the box has no say
    return Engine(model, volume, window, place, large.watch, clip if fixed else None)


def header_of(engine: Engine, model: str | PathLike[str] | Model, corrector: str) -> Header:
    """What is written about a session that uses an engine.

    Args:
        engine: the engine.
        model: the model as the user named it; a folder is written as an absolute path, and a
            model with a large base, whose weights are the user's own, is not named.
        corrector: as the user named it.
    """
    unnamed = isinstance(model, Model) or isinstance(engine.model.base, LargeBase)
    name = None if unnamed else "default"
    if name is not None and model != "default":
        name = str(Path(str(model)).absolute())
    window = engine.window
    if isinstance(window, Window):
        window = window.lo, window.hi
    return Header(
        grid=engine.volume.grid.to_json(),
        dtype=engine.volume.array.dtype.str,
        modality=engine.volume.modality,
        window=window if isinstance(window, str) else (window[0], window[1]),
        model=name,
        corrector=corrector,
        digest=engine.model.digest,
    )


def pick_device(name: str) -> torch.device:
    """A device by name; 'auto' is a CUDA device if there is one, else the CPU.

    Raises:
        InputError: no such device here.
    """
    if name not in DEVICES:
        raise InputError(f"device is {name!r}, wanted one of {DEVICES}.")
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if here["cuda"] else "cpu")
    if not here.get(name, True):
        raise InputError(f"device {name!r} is not on this machine; use 'auto' or 'cpu'.")
    return torch.device(name)


def _plain(tensor: Tensor) -> Tensor:
    """In plain C order, strides of axes of length 1 included.

    Convolutions choose their algorithm by strides; a state read back from disk has these.
    """
    strides = torch.empty(tensor.shape, device="meta").stride()
    if tensor.stride() == strides:
        return tensor
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)


def _in_mask(mask: Field, click: Click) -> bool:
    at = tuple(a - o for a, o in zip(click.at, mask.region.lo, strict=True))
    if not all(0 <= a < n for a, n in zip(at, mask.region.size, strict=True)):
        return False
    return bool(mask.logits[at])
