"""Counts near boundaries, calibration error and temperature by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segvol_gru.evaluation.reliability import (
    BINS,
    best_temperature,
    by_logit,
    by_probability,
    calibration_error,
    edge,
    near_boundaries,
    tempered,
)


def line(*filled, length=40):
    """(1, 1, length) bool with the given voxels set."""
    mask = np.zeros((1, 1, length), np.bool_)
    mask[0, 0, list(filled)] = True
    return mask


def test_voxels_within_five_of_either_boundary():
    gt, pred = line(*range(10, 24)), line(*range(10, 30))
    window, band = near_boundaries(gt, pred)
    assert window == (slice(0, 1), slice(0, 1), slice(5, 35))
    # Boundaries lie between 9 and 10, between 23 and 24 and between 29 and 30.
    near = {*range(5, 15), *range(19, 29), *range(25, 35)}
    assert {int(x) + 5 for x in np.flatnonzero(band)} == near


def test_the_end_of_the_image_is_no_boundary():
    gt = line(*range(10), length=12)
    window, band = near_boundaries(gt, np.zeros_like(gt))
    assert np.flatnonzero(band[0, 0]).tolist() == [5, 6, 7, 8, 9, 10, 11]
    assert window[2] == slice(0, 12)
    full = np.ones((3, 3, 3), np.bool_)
    assert not near_boundaries(full, full)[1].any()
    assert near_boundaries(~full, ~full) is None


def test_the_edge_has_both_sides():
    assert edge(line(4, 5, 6))[:, 2].tolist() == [3, 4, 6, 7]
    cube = np.zeros((5, 5, 5), np.bool_)
    cube[2, 2, 2] = True
    assert len(edge(cube)) == 7
    assert edge(np.zeros((2, 2, 2), np.bool_)).shape == (0, 3)


def test_bins_and_error_by_hand():
    p = np.array([0.0, 0.06, 0.5, 0.5, 1.0], np.float32)
    truth = np.array([False, True, True, False, True])
    bins = by_probability(p, truth)
    assert bins.shape == (3, BINS)
    assert bins[:, 0] == pytest.approx((2, 0.06, 1))
    assert bins[:, 7] == pytest.approx((2, 1.0, 1))
    assert bins[:, 14] == pytest.approx((1, 1.0, 1))
    assert calibration_error(bins) == pytest.approx(0.94 / 5)
    assert math.isnan(calibration_error(np.zeros((3, BINS))))


def test_one_temperature_mends_what_is_twice_too_sure():
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, 200_000)
    truth = rng.random(len(logits)) < 1 / (1 + np.exp(-logits))
    p = (1 / (1 + np.exp(-2 * logits))).astype(np.float32)
    counts = by_logit(p, truth)
    assert counts.sum(axis=1).tolist() == [len(p), truth.sum()]
    found = best_temperature([counts])
    assert found == pytest.approx(2, rel=0.05)
    assert calibration_error(by_probability(p, truth)) > 0.05
    assert calibration_error(tempered(counts, found)) < 0.01
    same = tempered(counts, 1.0)
    assert calibration_error(same) == pytest.approx(
        calibration_error(by_probability(p, truth)), abs=0.005
    )


def test_certain_voxels_have_a_logit_too():
    counts = by_logit(np.array([0.0, 1.0], np.float32), np.array([False, True]))
    assert counts[:, 0].tolist() == [1, 0]
    assert counts[:, -1].tolist() == [1, 1]
