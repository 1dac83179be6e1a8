"""What the image says between cells: slopes by hand, a plate thinner than a cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from segvol_gru.correct.rules import MARGIN
from segvol_gru.detail import EPS, detail, finer, slopes
from segvol_gru.pipeline import Model, start_from_logits
from segvol_gru.prompts import Click
from segvol_gru.region import Field, Region
from segvol_gru.scan import Scan
from segvol_gru.state import SURE, State, canvas

SIDE, CELLS, AT = 32, 16, 13
WHOLE = Region((0, 0, 0), (SIDE, SIDE, SIDE))


def chessboard(high: float) -> Tensor:
    at = torch.arange(6)
    even = (at[:, None, None] + at[:, None] + at) % 2 == 0
    return torch.where(even, high, -high)[None, None]


def plate() -> Scan:
    """Bright in one plane of voxels, which is half a cell."""
    array = np.zeros((SIDE,) * 3, np.float32)
    array[AT] = 1
    return Scan(array, (1.0, 1.0, 1.0), (0.0, 1.0))


def drawn(scan: Scan) -> State:
    """Logits that follow the image on its cells: 2 in the plate's cell, -2 elsewhere."""
    logits = torch.full((1, 1, CELLS, CELLS, CELLS), -2.0)
    logits[:, :, AT // 2] = 2.0
    return State((Field(WHOLE, logits[0, 0]),), WHOLE, logits, torch.zeros(1, 0), None, ())


def mask_planes(state: State, scan: Scan) -> list[int]:
    mask = (canvas(state, scan).logits > 0).numpy()
    assert (mask == mask[:, :1, :1]).all()
    return np.flatnonzero(mask[:, 0, 0]).tolist()


def test_a_slope_is_what_logits_gain_by_intensity() -> None:
    """z = 2 I on values of 1 and -1: 27 cells have mean +-1/27, so a = 2 v / (v + eps)."""
    image = chessboard(1.0)
    v = 1 - (1 / 27) ** 2
    inside = slopes(image, 2 * image)[0, 0, 2:-2, 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.full_like(inside, 2 * v / (v + EPS)))


def test_no_contrast_and_no_difference_have_no_slope() -> None:
    flat, image = torch.full((1, 1, 6, 6, 6), 3.0), chessboard(1.0)
    torch.testing.assert_close(slopes(image, flat), torch.zeros_like(flat), atol=1e-5, rtol=0)
    torch.testing.assert_close(slopes(flat, image), torch.zeros_like(flat), atol=1e-4, rtol=0)
    # Beyond +-6 all logits are equally sure.
    torch.testing.assert_close(slopes(image, 6 * image), slopes(image, 60 * image))


def test_a_plate_thinner_than_a_cell_is_found() -> None:
    """Interpolated, both voxels of its cell are in the mask; the image tells which one is."""
    scan = plate()
    state = drawn(scan)
    assert mask_planes(state, scan) == [AT]
    blank = Scan(np.zeros_like(scan.array), (1.0, 1.0, 1.0), (0.0, 1.0))
    assert mask_planes(state, blank) == [AT - 1, AT]


def test_clicks_are_obeyed_all_the_same() -> None:
    scan = plate()
    clicks = (Click((AT, 5, 5), False), Click((AT - 1, 9, 9), True))
    whole = canvas(replace(drawn(scan), clicks=clicks), scan).logits
    assert float(whole[clicks[0].at]) == -MARGIN
    assert float(whole[clicks[1].at]) == MARGIN


def test_voxels_as_large_as_cells_are_left_alone() -> None:
    logits = torch.zeros(1, 1, CELLS, CELLS, CELLS)
    assert finer(Region((0, 0, 0), (CELLS + 1, CELLS, 4)), logits)
    assert not finer(Region((0, 0, 0), (CELLS, CELLS, 4)), logits)


@pytest.mark.parametrize("corrected", [False, True])
def test_anothers_mask_is_known_for_every_voxel(model: Model, corrected: bool) -> None:
    """Only what was said on cells has more to tell; without it the mask stays to the voxel."""
    scan, inside = plate(), torch.zeros((SIDE,) * 3, dtype=torch.bool)
    inside[AT - 3 : AT + 1, 4:20, 5:20] = True
    field = Field(WHOLE, torch.where(inside, SURE, -SURE))
    state = start_from_logits(model, scan, field)
    if corrected:  # the plate is said to lie outside, by residuals on cells
        change = torch.zeros_like(state.logits)
        change[:, :, AT // 2] = -6.0
        layers = (field, Field(WHOLE, change[0, 0]))
        state = replace(state, layers=layers, logits=state.logits + change)
        inside[AT] = False  # voxel AT - 1 shares its cell, and stays
    assert torch.equal(canvas(state, scan).logits > 0, inside)


def test_planes_are_those_of_the_whole() -> None:
    """a (I - Ī) by hand at one voxel of the plate's cell."""
    scan = plate()
    state = drawn(scan)
    image = scan.look(WHOLE, (CELLS,) * 3)
    steep = slopes(image, state.logits)[0, 0, :, 0, 0]
    own, below = AT // 2, AT // 2 + 1  # voxel 13 lies a quarter of the way from cell 6 to 7
    slope = 0.75 * steep[own] + 0.25 * steep[below]
    seen = 0.75 * image[0, 0, own, 0, 0] + 0.25 * image[0, 0, below, 0, 0]
    contrast = 2 * (image[0, 0, own, 0, 0] - image[0, 0, below, 0, 0])  # the cell is half bright
    voxel = image[0, 0, below, 0, 0] + contrast
    planes = list(detail(scan, WHOLE, state.logits))
    assert len(planes) == SIDE
    torch.testing.assert_close(planes[AT][3, 4], slope * (voxel - seen))
