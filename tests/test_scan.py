"""Intensities at the ends of what numbers can say."""

from __future__ import annotations

import numpy as np
import pytest
from tiny import tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.experts import traits
from segvol_gru.pipeline import Model
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume


def test_padding_with_the_most_negative_number_is_no_harm(model: Model) -> None:
    image = tiny_volume().array.astype(np.float64)
    lowest = image.copy()
    image[:2], lowest[:2] = np.finfo(np.float64).min, lowest[2:].min()
    masks = []
    for array in (image, lowest):
        with Session(Volume(array, spacing=(2, 1, 1)), model) as session:
            masks.append(session.click((6, 9, 8)))
            assert np.isfinite(session.probability).all()
    assert np.array_equal(*masks)


@pytest.mark.parametrize("scale", [1e29, -1e29])
def test_the_largest_intensities_are_still_seen(model: Model, scale: float) -> None:
    array = tiny_volume().array * np.float32(scale / 60)
    with Session(Volume(array, spacing=(2, 1, 1)), model) as session:
        assert session.click((6, 9, 8))[6, 9, 8]
        assert np.isfinite(session.probability).all()


@pytest.mark.parametrize("window", [(-1e308, 1e308), (0.0, 1e31), (-1e31, 50.0)])
def test_a_window_beyond_all_intensities_is_refused(
    volume: Volume, model: Model, window: tuple[float, float]
) -> None:
    with (
        pytest.raises(InputError, match=r"window runs from .* within \+-1e\+30"),
        Session(volume, model, window=window) as session,
    ):
        session.click((6, 9, 8))


@pytest.mark.parametrize("unit", [1e-12, 1e-6, 1e6])
def test_masks_and_kinds_do_not_depend_on_the_unit_of_intensities(
    model: Model, unit: float
) -> None:
    array = np.random.default_rng(3).normal(50, 10, (12, 18, 16)) + tiny_volume().array
    found = []
    for scale in (1.0, unit):
        volume = Volume(array * scale, spacing=(2, 1, 1))
        lo, hi = 20 * scale, 160 * scale
        with Session(volume, model, window=(lo, hi)) as session:
            session.box((3, 4, 4), (8, 13, 12))
            found.append((session.probability, traits(volume.array, volume.spacing_mm, (lo, hi))))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
