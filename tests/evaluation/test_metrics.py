"""Overlap, surface agreement and area under the curve, by hand and against plain code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segvol_gru import evaluation
from segvol_gru.errors import InputError
from segvol_gru.evaluation import auc, dice, nsd, surface
from segvol_gru.evaluation.surfels import surfel_areas

KERNEL = np.array([128, 64, 32, 16, 8, 4, 2, 1]).reshape(2, 2, 2)


def plain_nsd(gt, pred, spacing, tolerance):
    """Distance maps over the whole lattice, one loop per corner."""
    shape = np.add(gt.shape, 1)
    codes, distances = [], []
    for mask in (gt, pred):
        padded = np.pad(mask, 1).astype(int)
        code = np.zeros(shape, dtype=int)
        for z, y, x in np.ndindex(*shape):
            code[z, y, x] = (padded[z : z + 2, y : y + 2, x : x + 2] * KERNEL).sum()
        border = (code != 0) & (code != 255)
        codes.append(code)
        distances.append(ndimage.distance_transform_edt(~border, sampling=spacing))
    areas = surfel_areas(tuple(map(float, spacing)))
    near = sum(
        areas[code[distance <= tolerance]].sum()
        for code, distance in zip(codes, distances[::-1], strict=True)
    )
    return near / sum(areas[code].sum() for code in codes)


@st.composite
def cases(draw):
    shape = tuple(draw(st.integers(1, 11)) for _ in range(3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from([0.02, 0.3, 0.9]))
    masks = [generator.random(shape) < share for _ in range(2)]
    for mask in masks:
        mask[tuple(generator.integers(shape))] = True
    spacing = draw(
        st.tuples(*[st.sampled_from([0.3, 0.4, 0.5, 0.7, 1.0, 2.0, 3.3])] * 3)
        | st.tuples(*[st.floats(0.2, 5)] * 3)
    )
    return masks[0], masks[1], spacing, draw(st.sampled_from([0.0, 1.0, 2.0, 5.0]))


@given(cases())
@settings(max_examples=120, deadline=None)
def test_nsd_equals_distance_maps(case):
    gt, pred, spacing, tolerance = case
    found = nsd(gt, pred, spacing, tolerance)
    assert found == pytest.approx(plain_nsd(gt, pred, spacing, tolerance), abs=1e-12)
    assert found == pytest.approx(nsd(pred, gt, spacing, tolerance), abs=1e-12)
    assert nsd(gt, gt, spacing, tolerance) == pytest.approx(1)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_tree_and_bits_agree(case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface, "MAX_SHIFTS", 0)
        by_tree = nsd(*case)
    assert by_tree == pytest.approx(nsd(*case), abs=1e-12)


def test_nsd_of_tiny_voxels_covers_everything():
    gt = np.zeros((6, 6, 6), dtype=bool)
    pred = gt.copy()
    gt[0, 0, 0] = pred[5, 5, 5] = True
    assert nsd(gt, pred, (1e-5, 1e-5, 1e-5)) == 1
    far = np.zeros((1, 300, 300), dtype=bool)  # 2 mm are 200 voxels: too many shifts for bits
    other = far.copy()
    far[0, 0, 0] = other[0, 0, 201] = True
    # Each voxel has 8 corners of equal area; along x they are 200, 201 and 202 voxels apart.
    assert nsd(far, other, (0.01, 0.01, 0.01)) == pytest.approx(0.5)


def test_nsd_counts_exactly_the_tolerance():
    gt = np.zeros((1, 1, 12), dtype=bool)
    pred = gt.copy()
    gt[0, 0, 0] = pred[0, 0, 5] = True  # nearest corners are 4 voxels apart, the others 5
    assert nsd(gt, pred, (1, 1, 0.5)) == pytest.approx(0.5)
    assert nsd(gt, pred, (1, 1, 0.501)) == 0
    assert nsd(gt, pred, (1, 1, 0.4)) == pytest.approx(1)  # 5 * 0.4 = 2.0 mm


def test_empty_masks():
    none, one = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    assert dice(none, one) == nsd(none, one, (1, 1, 1)) == nsd(one, none, (1, 1, 1)) == 0
    assert math.isnan(dice(none, none))
    assert math.isnan(nsd(none, none, (1, 1, 1)))


def test_dice_by_hand():
    gt = np.array([[[True, True, True, False]]])
    pred = np.array([[[False, True, True, True]]])
    assert dice(gt, pred) == 4 / 6


def test_auc_by_hand():
    assert auc([1, 1, 1, 1, 1]) == 4
    assert auc([0.2, 0.4, 0.6, 0.8, 1.0]) == pytest.approx(0.3 + 0.5 + 0.7 + 0.9)
    with pytest.raises(InputError, match="6 entries, wanted the 5"):
        auc([0.0] * 6)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, 1, float("nan"))])
def test_bad_spacing_is_refused(spacing):
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(InputError, match="three positive lengths"):
        nsd(mask, mask, spacing)


def test_bad_masks_and_tolerance_are_refused():
    mask = np.ones((2, 2, 2), dtype=bool)
    with pytest.raises(InputError, match="boolean"):
        dice(mask.astype(int), mask)
    with pytest.raises(InputError, match="shape"):
        nsd(mask, mask[:1], (1, 1, 1))
    with pytest.raises(InputError, match="tolerance_mm"):
        nsd(mask, mask, (1, 1, 1), -1.0)


def test_public_names():
    assert {"auc", "dice", "next_click", "nsd"} <= set(evaluation.__all__)
