import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segvol_gru.data.sparse import SparseMask
from segvol_gru.errors import InputError

masks = st.sampled_from(["?", "u1", "i2", "u4", "i8"]).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(max_dims=4, min_side=0, max_side=6))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(masks)
def test_masks_come_back_exactly(tmp_path, mask):
    SparseMask.of(mask).save(tmp_path / "mask.npz")
    back = SparseMask.load(tmp_path / "mask.npz")
    assert back.dense().dtype == mask.dtype
    assert np.array_equal(back.dense(), mask)
    assert np.array_equal(back.dense(label=1), mask == 1)


def test_runs_by_hand():
    sparse = SparseMask.of(np.array([[0, 0, 7], [7, 7, 0]], dtype=np.uint8))
    assert sparse.values.tolist() == [0, 7, 0]
    assert sparse.lengths.tolist() == [2, 3, 1]
    assert sparse.lengths.dtype == np.uint8


def test_memory_order_does_not_matter_and_an_organ_is_small(tmp_path):
    z, y, x = np.ogrid[:60, :200, :200]
    mask = (z - 30) ** 2 * 9 + (y - 90) ** 2 + (x - 100) ** 2 < 60**2
    fortran = SparseMask.of(np.asfortranarray(mask))
    assert np.array_equal(fortran.lengths, SparseMask.of(mask).lengths)
    fortran.save(tmp_path / "mask.npz")
    assert (tmp_path / "mask.npz").stat().st_size < mask.size / 200
    with np.load(tmp_path / "mask.npz", allow_pickle=False) as file:
        assert {file[key].dtype.hasobject for key in file.files} == {False}


def test_probabilities_are_no_mask():
    with pytest.raises(InputError, match="float64"):
        SparseMask.of(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "no sparse mask"),
        ({"mask_shape": np.array([2, 2]), "run_values": np.ones(1, "u1")}, "no sparse mask"),
        ({"mask_shape": np.array([np.nan, 1])}, "mask_shape in"),
        ({"run_lengths": np.array([3], "u1")}, "do not fill"),
        ({"run_lengths": np.array([4], "i8")}, "do not fill"),
        ({"run_lengths": np.array([2, 2], "u1")}, "do not fill"),
        ({"run_values": np.ones(1)}, "do not fill"),
        ({"mask_shape": np.array([-2, -2])}, "do not fill"),
        ({"mask_shape": np.array([2**20, 2**20])}, "above the limit"),
    ],
)
def test_damaged_files_are_refused(tmp_path, keys, message):
    whole = {
        "mask_shape": np.array([2, 2]),
        "run_values": np.ones(1, "u1"),
        "run_lengths": np.array([4], "u1"),
    }
    np.savez(tmp_path / "a.npz", **({**whole, **keys} if "no sparse" not in message else keys))
    with pytest.raises(InputError, match=message):
        SparseMask.load(tmp_path / "a.npz")
    with pytest.raises(InputError, match="there is no file"):
        SparseMask.load(tmp_path / "b.npz")
