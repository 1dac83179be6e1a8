"""The whole method on one screen: a prompt starts a state, every click refines it.

    Volume ─► Scan ─► base(box or click) ─► State ─► corrector(click, memory) ─► State ─► ...
                                              │                                    │
                                              └── mask = logits > 0 ◄──────────────┘

A base that reads the whole volume (SegVol) is asked again at every click, with all prompts so
far; the corrections so far stay on top of its new answer, and the corrector goes on from there.

A `State` is a value: refining returns a new one, so undo is going back to the old one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segvol_gru.adopted import blocks, decided, is_coarse
from segvol_gru.base.compact import CompactBase
from segvol_gru.base.large import LargeBase
from segvol_gru.base.precision import autocast
from segvol_gru.correct import Corrector
from segvol_gru.correct.reprompt import Reprompt
from segvol_gru.correct.rules import obey
from segvol_gru.errors import InputError
from segvol_gru.experts import Experts, recognised, traits
from segvol_gru.framing import (
    around_box,
    around_click,
    better_view,
    grown,
    mask_bounds,
    widened,
)
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region
from segvol_gru.scan import Reader, Scan
from segvol_gru.state import ANSWER, OUTSIDE, TAKEN, State, on_cells

HALF_MOST = 6e4  # largest logit that it is given; beyond lies infinity
SEARCH_STEPS = 5  # regions tried for a click without a box


@dataclass(frozen=True, slots=True)
class Model:
    """Networks and where they came from.

    Attributes:
        base: makes the first mask.
        corrector: refines it by clicks.
        digest: SHA-256 of the weights; session files name the model by it.
        experts: the same networks for kinds of scans.
        expert: which of them `base` and `corrector` are; empty for the general networks.
    """

    base: CompactBase | LargeBase
    corrector: Corrector
    digest: str
    experts: Experts = field(default_factory=Experts)
    expert: str = ""

    @property
    def cells(self) -> Index:
        """Cells of a region along (D, H, W)."""
        n = self.base.config.cells
        return n, n, n

    def fitting(
        self, array: NDArray[np.generic], spacing_mm: Sequence[float], clip: tuple[float, float]
    ) -> Model:
        """The model with the expert for a scan; see `traits` for the arguments."""
        if not self.experts.kinds:
            return self
        return self.of(recognised(self.experts.kinds, traits(array, spacing_mm, clip)))

    def of(self, expert: str) -> Model:
        """The general model with the networks of an expert, as far as it has any."""
        if expert not in (kind.name for kind in self.experts.kinds):
            return self
        base = self.experts.bases.get(expert, self.base)
        corrector = self.experts.correctors.get(expert, self.corrector)
        if isinstance(corrector, Reprompt):
            corrector = Reprompt(base)
        return replace(self, base=base, corrector=corrector, expert=expert)


def start(model: Model, scan: Scan, box: Box) -> State:
    """The first mask from a box (paper Eq. 1)."""
    if scan.reader is not None:
        return start_from_logits(model, scan, _answer(scan, scan.reader, box, ()), box)
    region = around_box(box, scan.shape, scan.spacing_mm)
    prompts = _prompts(region, model.cells, scan, box, ())
    return _state(model, region, _predict(model, scan, region, prompts), box, ())


def start_from_click(model: Model, scan: Scan, click: Click) -> State:
    """The first mask from one click: widen the view while the mask is cut off, then look closer.

    A negative click marks background: nothing is segmented yet.
    """
    region = around_click(click.at, scan.shape, scan.spacing_mm)
    if not click.positive:
        return _state(model, region, torch.full((1, 1, *model.cells), OUTSIDE), None, (click,))
    if scan.reader is not None:
        field = _answer(scan, scan.reader, None, (click,))
        return start_from_logits(model, scan, field, None, (click,))
    for step in range(SEARCH_STEPS):
        prompts = _prompts(region, model.cells, scan, None, (click,))
        logits = obey(_predict(model, scan, region, prompts), prompts)
        mask = logits[0, 0] > 0
        following = better_view(mask, region, scan.shape, scan.spacing_mm)
        if following == region or step == SEARCH_STEPS - 1:
            break
        region = following
    return _state(model, region, logits, None, (click,))


def start_from_text(model: Model, scan: Scan) -> State:
    """The first mask from nothing but the text that the base was given.

    Raises:
        InputError: the base takes no text or was given none, or nothing is found.
    """
    if scan.reader is None:
        raise InputError("the compact base reads no text; use base='segvol', or give a box.")
    return start_from_logits(model, scan, _answer(scan, scan.reader, None, ()))


def start_from_logits(
    model: Model, scan: Scan, field: Field, box: Box | None = None, clicks: tuple[Click, ...] = ()
) -> State:
    """Take over a mask that another tool (or another base) made.

    Args:
        model: whose corrector will refine it.
        scan: the image.
        field: logits of every voxel of a region that holds the mask and some room.
        box: the box that it was made from.
        clicks: the clicks that it was made from; the state obeys them.
    """
    region = field.region
    logits = on_cells((field,), region, model.cells)
    layers: tuple[Field, ...] = (field,)
    prompts = _prompts(region, model.cells, scan, box, clicks)
    after = obey(logits.to(scan.device), prompts).cpu()
    if not torch.equal(after, logits):
        layers = (field, Field(region, (after - logits)[0, 0]))
    return replace(_state(model, region, after, box, clicks), layers=layers)


def refine(model: Model, scan: Scan, state: State, click: Click) -> State:
    """One corrective click (paper Eq. 4 and 5): a new state, the old one untouched."""
    reader = scan.reader if state.layers[0].logits.dtype == ANSWER else None
    if reader is not None:
        state = _asked_again(model, scan, reader, state, click)
    elif scan.reader is None:
        state = beyond_guess(model, scan, second_opinion(model, scan, state), click)
    state = _framed(model, scan, state, click)
    clicks = (*state.clicks, click)
    prompts = _prompts(state.region, model.cells, scan, state.box, clicks)
    image = scan.look(state.region, model.cells)
    if reader is not None and model.corrector.features:
        features = reader.features(state.box, clicks, state.region, model.cells)
        image = torch.cat([image, features.to(scan.device)], 1)
    logits, memory = state.logits.to(scan.device), state.memory.to(scan.device)
    with torch.inference_mode(), autocast(scan.device, "auto"):
        after, memory = model.corrector.correct(image, logits, memory, prompts)
    after, memory = obey(after, prompts).cpu(), memory.cpu()
    change = Field(state.region, (after - state.logits)[0, 0])
    return State(_pile(state.layers, change), state.region, after, memory, state.box, clicks)


def retold(model: Model, scan: Scan, state: State, clicks: tuple[Click, ...]) -> State:
    """The same state as if it had come from these clicks, in this order.

    Args:
        model: whose state it is.
        scan: the image.
        state: after some of the clicks.
        clicks: the newest last, which is obeyed before all.
    """
    prompts = _prompts(state.region, model.cells, scan, state.box, clicks)
    after = obey(state.logits.to(scan.device), prompts).cpu()
    layers = state.layers
    if not torch.equal(after, state.logits):
        layers = _pile(layers, Field(state.region, (after - state.logits)[0, 0]))
    return replace(state, layers=layers, logits=after, clicks=clicks)


def second_opinion(model: Model, scan: Scan, state: State) -> State:
    """What the base makes of another tool's mask that comes in blocks, before its first click.

    Any other state comes back as it is, and so does a mask as fine as the voxels.

    Args:
        model: whose base is asked; it must not read the whole volume.
        scan: the image.
        state: before the click.
    """
    bottom, *rest = state.layers
    if rest or state.clicks or bottom.logits.dtype != TAKEN:
        return state
    mask = bottom.logits > 0
    size, bounds = blocks(mask), mask_bounds(mask, bottom.region)
    if bounds is None or not is_coarse(size):
        return state
    (z0, y0, x0), (z1, y1, x1) = bounds
    box = Box((z0, y0, x0), (z1, y1, x1))
    prompts = _prompts(state.region, model.cells, scan, box, ())
    opinion = _predict(model, scan, state.region, prompts).cpu()
    logits = decided(state.logits, opinion, state.region, size)
    change = Field(state.region, (logits - state.logits)[0, 0])
    return replace(state, layers=_pile(state.layers, change), logits=logits)


def beyond_guess(model: Model, scan: Scan, state: State, click: Click) -> State:
    """What the base finds beyond a guessed box that a positive click shows to be too small.

    Inside the old guess nothing changes, and beyond it the base only adds: the click says that
    the object goes on, not that anything known so far is wrong. Every other click changes
    nothing, and the state itself comes back.

    Args:
        model: whose base is asked; it must not read the whole volume.
        scan: the image.
        state: before the click.
        click: the click, which is not yet obeyed.
    """
    old = state.box
    box = grown(old, click.at) if old is not None and click.positive else old
    if old is None or box is None or box == old:
        return state
    state = replace(state, box=box)
    around = around_box(box, scan.shape, scan.spacing_mm)
    state = _seen(model, state, around.union(state.region))
    found = _predict(model, scan, state.region, _prompts(state.region, model.cells, scan, box, ()))
    change = (found.cpu() - state.logits)[0, 0].clamp(min=0)
    low = state.region.to_cells(torch.tensor(old.lo) - 0.5, model.cells)
    high = state.region.to_cells(torch.tensor(old.hi) + 0.5, model.cells)
    z, y, x = (
        slice(max(0, math.ceil(a)), max(0, math.floor(b) + 1))
        for a, b in zip(low.tolist(), high.tolist(), strict=True)
    )
    change[z, y, x] = 0
    layers = _pile(state.layers, Field(state.region, change))
    return replace(state, layers=layers, logits=state.logits + change)


def _state(
    model: Model, region: Region, logits: Tensor, box: Box | None, clicks: tuple[Click, ...]
) -> State:
    """A state of one layer and an empty memory."""
    logits, memory = logits.cpu(), model.corrector.initial_memory(1).cpu()
    return State((Field(region, logits[0, 0]),), region, logits, memory, box, clicks)


def _predict(model: Model, scan: Scan, region: Region, prompts: CellPrompts) -> Tensor:
    """The base network's logits on a region, (1, 1, *cells)."""
    image = scan.look(region, model.cells)
    with torch.inference_mode(), autocast(scan.device, "auto"):
        logits: Tensor = model.base(image, torch.zeros_like(image), prompts)
    return logits


def _prompts(
    region: Region, cells: Index, scan: Scan, box: Box | None, clicks: tuple[Click, ...]
) -> CellPrompts:
    """Prompts in the cells of a region, a batch of one; clicks elsewhere say nothing of it."""
    clicks = tuple(click for click in clicks if region.holds(click.at))
    points = torch.tensor([c.at for c in clicks], dtype=torch.float32).reshape(-1, 3)
    labels = torch.tensor([int(c.positive) for c in clicks], dtype=torch.int64)
    faces, tight = torch.full((6,), torch.nan), 0.0
    if box is not None:
        low = region.to_cells(torch.tensor(box.lo) - 0.5, cells)
        high = region.to_cells(torch.tensor(box.hi) + 0.5, cells)
        faces, tight = torch.cat([low, high]), sum(box.tight) / 3
    cell_mm = [n * mm / c for n, mm, c in zip(region.size, scan.spacing_mm, cells, strict=True)]
    to = scan.device
    return CellPrompts(
        region.to_cells(points, cells)[None].to(to),
        labels[None].to(to),
        faces[None].to(to),
        torch.tensor([tight]).to(to),
        torch.tensor([cell_mm]).to(to),
    )


def _answer(scan: Scan, reader: Reader, box: Box | None, clicks: tuple[Click, ...]) -> Field:
    """What a reader says, in a frame around the box, its mask and the positive clicks.

    Raises:
        InputError: it found nothing, and neither a box nor a click says where to look.
    """
    whole = reader.segment(box, clicks)
    found = mask_bounds(whole.logits > 0, whole.region)
    wanted = [click.at for click in clicks if click.positive]
    corners: list[Sequence[int]] = [*wanted]
    if box is not None:
        corners += [box.lo, box.hi]
    elif found is None and wanted:
        frame = around_click(wanted[0], scan.shape, scan.spacing_mm)
        corners += [frame.lo, [n - 1 for n in frame.hi]]
    corners += found or ()
    if not corners:
        raise InputError("nothing was found; give a box or a click on the structure.")
    (z0, z1), (y0, y1), (x0, x1) = ((min(axis), max(axis)) for axis in zip(*corners, strict=True))
    region = around_box(Box((z0, y0, x0), (z1, y1, x1)), scan.shape, scan.spacing_mm)
    logits = torch.full(region.size, OUTSIDE, dtype=ANSWER)
    both = region.overlap(whole.region)
    logits[both.slices(region.lo)] = whole.render(both).clamp(-HALF_MOST, HALF_MOST).to(ANSWER)
    return Field(region, logits)


def _asked_again(model: Model, scan: Scan, reader: Reader, state: State, click: Click) -> State:
    """The same corrections on what the reader says with the new click.

    Who only asks anew has corrected nothing: what made the mask obey older clicks goes.
    """
    field = _answer(scan, reader, state.box, (*state.clicks, click))
    kept = () if isinstance(model.corrector, Reprompt) else state.layers[1:]
    layers, region, memory = (field, *kept), state.region, state.memory
    found = mask_bounds(field.logits > 0, field.region)
    if found is not None and not all(map(region.holds, found)):
        region = region.union(field.region)
        memory = model.corrector.carry(memory, state.region, region)
    logits = on_cells(layers, region, model.cells)
    return replace(state, layers=layers, region=region, logits=logits, memory=memory)


def _framed(model: Model, scan: Scan, state: State, click: Click) -> State:
    """The same state, seen through a region that holds the click and the whole mask."""
    mask = state.logits[0, 0] > 0
    region = widened(state.region, mask, click.at, scan.shape, scan.spacing_mm)
    return _seen(model, state, region)


def _seen(model: Model, state: State, region: Region) -> State:
    """The same state, seen through another region."""
    if region == state.region:
        return state
    cells = on_cells(state.layers, region, model.cells)
    memory = model.corrector.carry(state.memory, state.region, region)
    return replace(state, region=region, logits=cells, memory=memory)


def _pile(layers: tuple[Field, ...], change: Field) -> tuple[Field, ...]:
    """Add a residual on top, merged with the top layer if that has the same cells."""
    top, new = layers[-1], change.logits
    alike = (top.logits.shape, top.logits.dtype) == (new.shape, new.dtype)
    if top.region == change.region and alike:
        return (*layers[:-1], Field(top.region, top.logits + change.logits))
    return (*layers, change)
