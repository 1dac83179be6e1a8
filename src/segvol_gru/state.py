"""Everything that is known after some prompts, and the mask that it makes.

A state is layers of logits on the cells of regions, or on voxels; its mask is their sum above
zero, with what the image says between cells and every click obeyed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from segvol_gru.correct.rules import MARGIN
from segvol_gru.detail import detail, finer
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region
from segvol_gru.scan import Scan

OUTSIDE = -8.0  # logit of a voxel that no field covers
SURE = 4.0  # logit given to the voxels of another tool's mask
TAKEN = torch.int8  # such a mask is kept in this type, and nothing else
ANSWER = torch.float16  # a reader's own logits, and nothing else, are kept in this type


@dataclass(frozen=True, slots=True)
class State:
    """Everything that is known after some prompts. It lives on the CPU, wherever networks run.

    Attributes:
        layers: what the mask is made of. The first field holds logits: of its cells, of every
            voxel for a mask from elsewhere, of every voxel in 16 bits for a reader's answer.
            Each later one is a residual added to those below it.
        region: where the corrector looks.
        logits: (1, 1, *cells) float32, the sum of the layers on the region's cells.
        memory: the corrector's hidden state.
        box: the box, if one was given; guessed sides of it hold every positive click.
        clicks: all clicks so far.
    """

    layers: tuple[Field, ...]
    region: Region
    logits: Tensor
    memory: Tensor
    box: Box | None
    clicks: tuple[Click, ...]


def canvas(state: State, scan: Scan) -> Field:
    """The logits of every voxel that some layer covers, cut to the volume."""
    window = _covered(state, scan.shape)
    logits = torch.empty(window.size)
    for z, plane in enumerate(_planes(state, scan, window)):
        logits[z] = plane
    return Field(window, logits)


def segmented(state: State, scan: Scan) -> Field:
    """The mask, bool, on the same window: `canvas(state, scan).logits > 0` in half the time."""
    window = _covered(state, scan.shape)
    mask = torch.empty(window.size, dtype=torch.bool)
    for z, plane in enumerate(_planes(state, scan, window)):
        torch.gt(plane, 0, out=mask[z])
    return Field(window, mask)


def on_cells(layers: tuple[Field, ...], region: Region, cells: Index) -> Tensor:
    """What a canvas of these layers is on the cells of a region, (1, 1, *cells) float32."""
    total = layers[0].onto(region, cells, OUTSIDE)
    for layer in layers[1:]:
        total += layer.onto(region, cells)
    return total[None, None]


def _covered(state: State, shape: Index) -> Region:
    """The part of the volume that some layer covers."""
    return reduce(Region.union, (layer.region for layer in state.layers)).inside(shape)


def _planes(state: State, scan: Scan, window: Region) -> Iterator[Tensor]:
    """The canvas, one float32 (H, W) plane after the other."""
    parts = [(layer.region, layer.planes(layer.region)) for layer in state.layers]
    if finer(state.region, state.logits):
        parts.append((state.region, detail(scan, state.region, _said_on_cells(state))))
    (first, bottom), *rest = ((region.slices(window.lo), planes) for region, planes in parts)
    covers = state.layers[0].region == window
    for depth in range(window.size[0]):
        plane = next(bottom) if covers else torch.full(window.size[1:], OUTSIDE)
        if not covers and first[0].start <= depth < first[0].stop:
            plane[first[1:]] = next(bottom)
        for (z, y, x), planes in rest:
            if z.start <= depth < z.stop:
                plane[y, x].add_(next(planes))
        for click in state.clicks:  # cells coarser than voxels may have smoothed it away
            at_z, at_y, at_x = (a - o for a, o in zip(click.at, window.lo, strict=True))
            if at_z != depth or not window.holds(click.at):
                continue
            if bool(plane[at_y, at_x] > 0) != click.positive:
                plane[at_y, at_x] = MARGIN if click.positive else -MARGIN
        yield plane


def _said_on_cells(state: State) -> Tensor:
    """The logits less those that are known for every voxel, (1, 1, *cells)."""
    bottom, cells = state.layers[0], state.logits.shape[2:]
    if bottom.logits.shape == cells:
        return state.logits
    d, h, w = cells
    return state.logits - bottom.onto(state.region, (d, h, w), OUTSIDE)
