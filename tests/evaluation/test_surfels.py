"""Surfel areas against published sums and against scikit-image's classic marching cubes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segvol_gru.evaluation.surfels import surfel_areas


def test_published_sums():
    assert math.fsum(surfel_areas((1.0, 1.0, 1.0))) == pytest.approx(241.34313970553745, rel=1e-14)
    assert math.fsum(surfel_areas((0.7, 1.3, 3.1))) == pytest.approx(629.9838346453344, rel=1e-14)


def test_areas_by_hand():
    areas = surfel_areas((1.0, 2.0, 3.0))
    assert areas[0] == areas[255] == 0
    assert areas[15] == areas[240] == 6  # four voxels of one z side: a y-x face of 2 x 3 mm
    assert areas[51] == 3  # one y side: a z-x face of 1 x 3 mm
    assert areas[85] == 2  # one x side: a z-y face of 1 x 2 mm
    unit = surfel_areas((1.0, 1.0, 1.0))
    assert unit[1] == pytest.approx(math.sqrt(3) / 8)  # a corner cut off at half its edges
    assert unit[3] == pytest.approx(math.sqrt(2) / 2)  # an edge cut off
    assert unit[23] == pytest.approx(3 * math.sqrt(3) / 4)  # a regular hexagon
    assert unit[25] == pytest.approx(math.sqrt(2) / 2 + math.sqrt(3) / 8)
    assert unit[129] == pytest.approx(math.sqrt(3) / 4)  # opposite corners, two triangles


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 3.1), (2.0, 0.5, 0.9)])
def test_areas_equal_classic_marching_cubes(spacing):
    measure = pytest.importorskip("skimage.measure", reason="scikit-image is not installed")
    areas = surfel_areas(spacing)
    for code in range(1, 255):
        drawn = code if code.bit_count() <= 4 else 255 - code
        cube = np.array([drawn >> (7 - c) & 1 for c in range(8)], dtype=float).reshape(2, 2, 2)
        vertices, faces, _, _ = measure.marching_cubes(cube, 0.5, method="lorensen")
        corners = (vertices * spacing)[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        total = np.linalg.norm(normals, axis=1).sum() / 2
        assert areas[code] == pytest.approx(total, abs=1e-5), code


def test_table_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        surfel_areas((1.0, 1.0, 1.0))[3] = 0
