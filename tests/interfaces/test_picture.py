"""Pictures: every orientation is hung the same way, and what is drawn lies where it should."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from segvol_gru.data.preprocess import Window
from segvol_gru.interfaces.picture import (
    ADD,
    MASK,
    REFERENCE,
    REMOVE,
    Panel,
    _hang,
    _Plane,
    draw,
)
from segvol_gru.prompts import Box, Click
from segvol_gru.volume import Volume

SHAPE = (6, 7, 8)
ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def volume_of(order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """Array axis a runs along RAS axis order[a], in the direction signs[a]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (1 + axis / 4)
    return Volume(np.arange(6 * 7 * 8, dtype=np.int16).reshape(SHAPE), affine=affine)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_head_and_front_are_up_and_the_patient_faces_us(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    volume = volume_of(order, signs)
    for axis in range(3):
        hang = _hang(volume, axis)
        across = order[axis]  # 0 sagittal, 1 coronal, 2 axial
        assert hang.top == ("S", "S", "A")[across]
        assert hang.left == ("A", "R", "R")[across]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_points_and_voxels_are_turned_alike(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume = volume_of(order, signs)
    at = (3, 5, 2)
    for axis in range(3):
        plane = _Plane(volume, axis, at[axis], (1, 2, 0), (5, 7, 8))
        x, y = plane.point(at)
        assert plane.cut(volume.array)[int(y), int(x)] == volume.array[at]
        inwards = np.array(at, float)
        inwards[plane.hang.columns] += 0.25
        shifted_x, shifted_y = plane.point(inwards)
        assert abs(shifted_x - x) == 0.25
        assert shifted_y == y


def test_a_picture_shows_mask_reference_box_and_clicks(tmp_path: Path) -> None:
    volume = Volume(np.full((20, 30, 40), 100, np.uint8), spacing=(2, 1, 1))
    mask = np.zeros(volume.shape, bool)
    mask[6:14, 8:20, 10:30] = True
    clicks = (Click((10, 14, 20), True), Click((10, 25, 20), False))
    path = tmp_path / "picture.png"
    draw(
        path,
        volume,
        Window(0, 200),
        [Panel("box", mask), Panel("click", mask, clicks)],
        box=Box((6, 8, 10), (13, 19, 29)),
        reference=np.roll(mask, 1, axis=2),
    )
    pixels = imread(path)[..., :3]
    for colour in (MASK, REFERENCE, ADD, REMOVE):
        assert (np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.1).any(), colour
    assert np.allclose(pixels[0, 0], 0)  # black ground


@pytest.mark.parametrize("shape", [(1, 20, 24), (20, 1, 24), (20, 24, 1), (1, 1, 9)])
def test_images_of_one_slice_are_drawn(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    mask = values > values.size // 2
    panel = Panel("mask", mask, (Click((0, 0, 0), True),))
    volume = Volume(values, (1.0, 1.0, 1.0))
    draw(tmp_path / "p.png", volume, Window(0, 9999), [panel], reference=mask)
    seen = imread(tmp_path / "p.png")[..., :3]
    assert (seen[..., 1] - seen[..., 2] > 0.2).any()  # the outline of the reference is yellow


def test_an_empty_mask_is_drawn_too(tmp_path: Path) -> None:
    volume = Volume(np.zeros((5, 6, 7), np.uint8), spacing=(1, 1, 1))
    draw(tmp_path / "o.png", volume, Window(0, 1), [Panel("nothing", np.zeros((5, 6, 7), bool))])
    assert (tmp_path / "o.png").stat().st_size > 0
