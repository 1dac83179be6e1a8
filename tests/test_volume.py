import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segvol_gru.errors import InputError
from segvol_gru.grid import (
    FileHeader,
    Grid,
    affine_from_ijk,
    affine_from_itk,
    itk_from_affine,
    require_same_grid,
    same_grid,
)
from segvol_gru.volume import Volume

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
finite = st.floats(-500, 500)
sizes = st.floats(0.05, 10)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any orientation, anisotropic, oblique and sheared, never near singular."""
    rotation, _ = np.linalg.qr(
        draw(hnp.arrays(float, (3, 3), elements=st.floats(-1, 1))) + np.eye(3) * 3
    )
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    shear = np.eye(3)
    shear[0, 1] = draw(st.floats(-0.3, 0.3))
    affine = np.eye(4)
    affine[:3, :3] = (rotation @ shear)[:, order] * signs * draw(st.tuples(sizes, sizes, sizes))
    affine[:3, 3] = draw(st.tuples(finite, finite, finite))
    return affine


def test_spacing_alone_puts_w_right_h_front_d_up():
    volume = Volume(ARRAY, spacing=(5.0, 0.7, 0.9))
    assert volume.array is ARRAY
    assert volume.spacing_mm == (5.0, 0.7, 0.9)
    assert volume.to_world((0, 0, 0)).tolist() == [0, 0, 0]
    assert volume.to_world((1, 0, 0)).tolist() == [0, 0, 5.0]
    assert volume.to_world((0, 1, 0)).tolist() == [0, 0.7, 0]
    assert volume.to_world((0, 0, 1)).tolist() == [0.9, 0, 0]
    assert np.allclose(volume.to_voxel([[0.9, 1.4, 5.0]]), [[1, 2, 1]])
    assert repr(volume) == (
        "Volume(shape=(2, 3, 4), dtype=int16, spacing_mm=(5.0, 0.7, 0.9), modality=None)"
    )


def test_itk_geometry_by_hand():
    # 2 mm wide voxels, 3 mm deep, origin 10 mm left, 20 mm back, 30 mm up in LPS.
    affine = affine_from_itk(np.eye(3).ravel(), (2, 1, 3), (10, 20, 30))
    grid = Grid((2, 3, 4), affine)
    assert grid.to_world((0, 0, 0)).tolist() == [-10, -20, 30]
    assert grid.to_world((1, 0, 0)).tolist() == [-10, -20, 33]
    assert grid.to_world((0, 0, 1)).tolist() == [-12, -20, 30]


@given(affines(), st.tuples(finite, finite, finite))
def test_world_and_voxel_are_inverse(affine, point):
    grid = Grid((2, 3, 4), affine)
    assert np.allclose(grid.to_voxel(grid.to_world(point)), point, atol=1e-6)
    assert np.allclose(affine_from_ijk(affine_from_ijk(affine)), affine, atol=0)
    assert np.allclose(affine_from_itk(*itk_from_affine(affine)), affine, atol=1e-9)
    step = grid.to_world((1, 0, 0)) - grid.to_world((0, 0, 0))
    assert math.isclose(np.linalg.norm(step), grid.spacing_mm[0], rel_tol=1e-9)


@given(affines())
def test_json_gives_every_bit_back(affine):
    grid = Grid((2, 3, 4), affine, FileHeader("nifti", bytes(range(256))))
    back = Grid.from_json(json.loads(json.dumps(grid.to_json())))
    assert back.shape == grid.shape
    assert back.affine.tobytes() == grid.affine.tobytes()
    assert back.header == grid.header
    assert Grid.from_json(Grid((2, 3, 4), affine).to_json()).header is None


@pytest.mark.parametrize("record", [{}, {"shape": [1, 2], "affine": 0, "header": None}, []])
def test_damaged_grid_record_is_refused(record):
    with pytest.raises(InputError, match="grid record is damaged"):
        Grid.from_json(record)


def test_same_grid_allows_rounding_only():
    grid = Volume(ARRAY, (1, 1, 1)).grid
    shifted = np.array(grid.affine)
    shifted[0, 3] += 0.05
    assert same_grid(grid, Grid(grid.shape, shifted))
    shifted[0, 3] += 0.1
    assert not same_grid(grid, Grid(grid.shape, shifted))
    with pytest.raises(InputError, match=r"mask\.nii has the image's shape but lies up to 0.15"):
        require_same_grid(Grid(grid.shape, shifted), grid, "mask.nii")
    with pytest.raises(InputError, match=r"has shape \(2, 3, 5\), the image \(2, 3, 4\)"):
        require_same_grid(Grid((2, 3, 5), grid.affine), grid, "mask.nii")


def test_flipped_axis_of_the_same_shape_is_another_grid():
    grid = Volume(ARRAY, (1, 1, 1)).grid
    flipped = np.array(grid.affine)
    flipped[:, 2] *= -1
    flipped[0, 3] = 3
    assert not same_grid(grid, Grid(grid.shape, flipped))


def test_values_that_are_not_finite_take_the_nearest_extreme():
    came = np.array([[[np.nan, -3.0, 7.0, np.inf, -np.inf]]], dtype=np.float32)
    assert Volume(came, (1, 1, 1)).array.tolist() == [[[-3, -3, 7, 7, -3]]]
    assert np.isnan(came[0, 0, 0]), "the caller's array is left alone"
    with pytest.raises(InputError, match="no finite voxel"):
        Volume(came[:, :, :1], (1, 1, 1))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_values_too_large_for_the_networks_count_as_infinite(dtype):
    most = np.finfo(dtype).max
    came = np.array([[[-most, -3.0, 7.0, most, np.nan, -1e31, 1e31, 1e29]]], dtype=dtype)
    taken = Volume(came, (1, 1, 1)).array
    assert taken.dtype == dtype
    large = came[0, 0, -1]
    assert taken.tolist() == [[[-3, -3, 7, large, -3, -3, large, large]]]
    assert Volume(taken, (1, 1, 1)).array is taken
    with pytest.raises(InputError, match=r"no finite voxel within \+-1e\+30"):
        Volume(came[:, :, :1], (1, 1, 1))


def test_half_precision_is_never_too_large():
    came = np.array([[[-65504, np.inf, 65504, np.nan]]], dtype=np.float16)
    assert Volume(came, (1, 1, 1)).array.tolist() == [[[-65504, 65504, 65504, -65504]]]


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "i1", "<u2", ">i2", "i4", "i8", "u8", "f2", ">f4", "f8", "g"]
)
def test_real_types_are_kept_in_native_order(dtype):
    volume = Volume(ARRAY.astype(dtype), (1, 1, 1))
    assert volume.array.dtype.isnative
    assert volume.array.dtype.itemsize <= 8
    assert np.array_equal(volume.array, ARRAY.astype(dtype))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3)), (1, 1, 1)), r"shape \(2, 3\)"),
        ((np.zeros((2, 3, 4, 3)), (1, 1, 1)), "give one channel or frame"),
        ((np.zeros((0, 3, 4)), (1, 1, 1)), "at least one voxel"),
        ((np.zeros((2, 3, 4), complex), (1, 1, 1)), "real numbers"),
        (([[[1], [1, 2]]], (1, 1, 1)), "ragged"),
        ((ARRAY,), "give spacing"),
        ((ARRAY, (1, 1)), r"spacing is \(1, 1\)"),
        ((ARRAY, (1, 0, 1)), "three positive sizes"),
        ((ARRAY, (1, math.nan, 1)), "three positive sizes"),
        ((ARRAY, "abc"), "three positive sizes"),
        ((ARRAY, (1, 1, 10**400)), "three positive sizes"),
    ],
)
def test_bad_arrays_and_spacings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Volume(*arguments)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"affine has shape \(3, 3\)"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag((1.0, 0, 1, 1)), "cannot be inverted"),
        (np.ones((4, 4)), "cannot be inverted"),
        (np.diag((1.0, 1, 1, 2)), "last row"),
        ("abc", "affine is 'abc'"),
        ([[1, 2], [3]], "wanted a 4x4 matrix"),
    ],
)
def test_bad_affines_are_refused(affine, message):
    with pytest.raises(InputError, match=message):
        Volume(ARRAY, affine=affine)


def test_spacing_must_agree_with_affine_and_modality_be_known():
    affine = np.diag((3.0, 2, 1, 1))
    assert Volume(ARRAY, (3, 2, 1), affine=affine, modality="MR").modality == "MR"
    with pytest.raises(InputError, match="disagree; give one"):
        Volume(ARRAY, (1, 2, 3), affine=affine)
    with pytest.raises(InputError, match="modality is 'MRI'"):
        Volume(ARRAY, (1, 1, 1), modality="MRI")


def test_affine_cannot_be_changed_from_outside():
    mine = np.eye(4)
    volume = Volume(ARRAY, affine=mine)
    mine[0, 0] = 9
    assert volume.affine[0, 0] == 1
    with pytest.raises(ValueError):
        volume.affine[0, 0] = 9


def test_points_come_in_threes():
    with pytest.raises(InputError, match=r"points have shape \(2,\)"):
        Volume(ARRAY, (1, 1, 1)).to_world((1, 2))
