"""Phantoms: label maps with hard structures, shown so that looks differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from segvol_gru.data import phantoms
from segvol_gru.data.phantoms import draw_phantom, phantom_image

SHAPE = (40, 40, 40)


def of_scene(monkeypatch: pytest.MonkeyPatch, scene: int, seed: int) -> phantoms.Phantom:
    monkeypatch.setattr(phantoms, "SCENES", tuple(float(n == scene) for n in range(4)))
    return draw_phantom(SHAPE, np.random.default_rng(seed))


@pytest.mark.parametrize("scene", range(4))
def test_a_seed_says_everything(monkeypatch: pytest.MonkeyPatch, scene: int) -> None:
    one, other = (of_scene(monkeypatch, scene, 7) for _ in range(2))
    assert np.array_equal(one.labels, other.labels)
    assert one.hard == other.hard
    assert not np.array_equal(one.labels, of_scene(monkeypatch, scene, 8).labels)
    images = [phantom_image(one.labels, np.random.default_rng(1)) for _ in range(2)]
    assert np.array_equal(*images)
    assert images[0].dtype == np.uint8
    assert images[0].shape == SHAPE


@pytest.mark.parametrize("scene", range(4))
def test_hard_structures_are_there(monkeypatch: pytest.MonkeyPatch, scene: int) -> None:
    drawn = [of_scene(monkeypatch, scene, seed) for seed in range(10)]
    assert all(np.isin(p.hard, p.labels).any() for p in drawn)


def test_a_heart_has_a_wall_around_its_cavity(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies beside a cavity is mostly its wall; the rest is where the wall is open."""
    shares = []
    for seed in range(10):
        labels = of_scene(monkeypatch, 1, seed).labels
        cavity = labels == 1
        shares.append((labels == 2)[ndimage.binary_dilation(cavity) & ~cavity].mean())
    assert np.median(shares) > 0.6


def test_a_brain_is_folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has more surface than a ball of its volume; a band of even depth covers its core."""
    folded = []
    for seed in range(5):
        labels = of_scene(monkeypatch, 2, seed).labels
        solid = np.isin(labels, (2, 3, 4))
        surface = solid & ~ndimage.binary_erosion(solid)
        folded.append(surface.sum() / (4.84 * solid.sum() ** (2 / 3)))
        assert not (ndimage.binary_dilation(labels == 3) & ~np.isin(labels, (1, 2, 3, 4))).any()
    assert min(folded) > 1
    assert np.median(folded) > 1.3


def test_structures_of_one_phantom_differ_in_look() -> None:
    labels = np.repeat(np.arange(4, dtype=np.uint8), 10)[:, None, None] * np.ones(SHAPE, np.uint8)
    apart = 0
    for seed in range(20):
        image = phantom_image(labels, np.random.default_rng(seed)).astype(float)
        means = np.sort([image[labels == label].mean() for label in range(4)])
        apart += int(np.diff(means).min() > 5)
    assert apart >= 10


def test_a_texture_is_seen_through() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    stripes = np.float32(255) * (np.indices(SHAPE)[0] % 8 < 4)
    seen = 0
    for seed in range(10):
        plain = phantom_image(labels, np.random.default_rng(seed)).astype(float)
        shown = phantom_image(labels, np.random.default_rng(seed), stripes).astype(float)
        clear = abs(np.corrcoef(shown.ravel(), stripes.ravel())[0, 1])
        seen += int(clear > abs(np.corrcoef(plain.ravel(), stripes.ravel())[0, 1]) + 0.1)
    assert seen >= 7
