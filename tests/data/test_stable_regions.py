"""Stable regions: what an image shows without anybody's labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from segvol_gru.data import stable_regions
from segvol_gru.data.stable_regions import LEAST, MOST, MOST_CELLS, draw_structure, draw_view

SIDE = 32


def ball(centre: tuple[int, int, int], radius: float) -> NDArray[np.bool_]:
    at = np.indices((SIDE,) * 3) - np.array(centre).reshape(3, 1, 1, 1)
    inside: NDArray[np.bool_] = (at**2).sum(0) < radius**2
    return inside


def two_balls() -> NDArray[np.uint8]:
    """A bright and a dark ball in noise; the rest is more than a region may be."""
    image = np.full((SIDE,) * 3, 120.0)
    image[ball((10, 10, 10), 7)], image[ball((22, 22, 20), 6)] = 220, 20
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_every_region_is_one_of_the_things_in_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many are a ball to the voxel; seeds in a blurred rim stop within one or round it."""
    image, bodies = two_balls(), (ball((10, 10, 10), 7), ball((22, 22, 20), 6))
    monkeypatch.setattr(stable_regions, "SEVERAL", 0.0)
    drawn = [draw_structure(image, np.random.default_rng(seed)) for seed in range(250)]
    found = [region for region in drawn if region is not None]
    assert len(found) > 8
    assert all(LEAST <= region.sum() <= MOST * region.size for region in found)
    best = np.array([[overlap(region, body) for body in bodies] for region in found])
    assert np.median(best.max(1)) > 0.75
    assert best.max(0).min() > 0.95  # each ball was found as it is


def test_a_flat_image_has_none() -> None:
    flat = np.full((SIDE,) * 3, 90, np.uint8)
    assert all(draw_structure(flat, np.random.default_rng(seed)) is None for seed in range(20))


def test_a_generator_says_everything() -> None:
    image = two_balls()
    for seed in range(30):
        one, other = (draw_structure(image, np.random.default_rng(seed)) for _ in range(2))
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other)


def test_what_a_view_cuts_off_is_rarely_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a ball at the edge: no region reaches the edge but where cut ones are allowed."""
    image = np.full((SIDE,) * 3, 60, np.uint8)
    image[ball((0, 16, 16), 9)] = 200
    monkeypatch.setattr(stable_regions, "SEVERAL", 0.0)

    def drawn() -> int:
        found = [draw_structure(image, np.random.default_rng(s)) for s in range(100)]
        return sum(region is not None and int(region[0].sum()) > 60 for region in found)

    monkeypatch.setattr(stable_regions, "CUT_SHARE", 0.0)
    assert drawn() == 0
    monkeypatch.setattr(stable_regions, "CUT_SHARE", 1.0)
    assert drawn() > 20


def test_several_regions_become_one_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both balls, the bright and the dark one, in one structure; never where one is asked for."""
    image, bodies = two_balls(), (ball((10, 10, 10), 7), ball((22, 22, 20), 6))

    def with_both() -> int:
        drawn = [draw_structure(image, np.random.default_rng(seed)) for seed in range(60)]
        shares = [[(r & b).sum() / b.sum() for b in bodies] for r in drawn if r is not None]
        return sum(min(share) > 0.8 for share in shares)

    monkeypatch.setattr(stable_regions, "SEVERAL", 0.0)
    assert with_both() == 0
    monkeypatch.setattr(stable_regions, "SEVERAL", 1.0)
    assert with_both() > 5


class Read:
    """An array that remembers the largest part that was read."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array, self.most = array, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, part: tuple[slice, slice, slice]) -> NDArray[Any]:
        found = self.array[part]
        self.most = max(self.most, found.size)
        return found


def test_a_view_is_a_part_on_cells_of_one_or_more_voxels() -> None:
    """Cells times their size are the part's extent; slices of 5 mm stay as they are."""
    generator = np.random.default_rng(1)
    whole = np.arange(20 * 150 * 150).reshape(20, 150, 150).astype(np.uint8)
    sizes = []
    for _ in range(40):
        source = Read(whole)
        view = draw_view(source, (5.0, 1.0, 1.0), generator)
        assert max(view.image.shape) <= MOST_CELLS
        assert view.spacing_mm[0] == 5.0
        assert view.spacing_mm[1] == view.spacing_mm[2]
        assert view.spacing_mm[1] % 1.0 == 0
        cells = np.array(view.image.shape) * np.array(view.spacing_mm)
        assert source.most / (5.0 * cells.prod() / 25) == pytest.approx(1, rel=0.15)
        sizes.append(cells[1])
    assert min(sizes) < 40
    assert max(sizes) > 100


def test_a_cell_is_the_mean_of_its_voxels() -> None:
    """Two flat halves keep their grey values however coarse the cells."""
    whole = np.full((200, 200, 200), 50, np.uint8)
    whole[:, :, 100:] = 150
    generator = np.random.default_rng(3)
    for _ in range(10):
        image = draw_view(whole, (1.0, 1.0, 1.0), generator).image
        assert set(np.unique(image[:, :, 0])) <= {50, 150}
        assert np.isin(image, (50, 150)).mean() > 0.9
