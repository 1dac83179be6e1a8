from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire_arrays import DTYPES, pack, unpack

LIMIT = 10**6
ARRAYS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))
)


@given(ARRAYS, st.booleans())
def test_what_is_packed_comes_out_to_the_bit(array: np.ndarray, image: bool) -> None:
    got, text = unpack(pack(array, {"window": "lung"}, image=image), LIMIT)
    assert (got.dtype, got.shape, text["window"]) == (array.dtype, array.shape, "lung")
    assert got.flags.writeable
    assert got.flags.aligned
    inside = array != 0  # -0.0 outside the sent part comes out as 0.0, which is equal
    np.testing.assert_array_equal(got, array)
    assert got[inside].tobytes() == array[inside].tobytes()


def test_the_bytes_are_those_of_the_description() -> None:
    array = np.zeros((2, 3, 4), np.int16)
    array[1, 2, 3] = 258
    data = pack(array, image=True)
    mark, version, packing, length = struct.unpack_from("<4sBBI", data)
    assert (mark, version, packing) == (b"SGVA", 1, 0)
    text = json.loads(data[10 : 10 + length])
    assert text == {"dtype": "int16", "shape": [2, 3, 4], "lo": [0, 0, 0], "size": [2, 3, 4]}
    assert data[10 + length :] == b"\0" * 46 + b"\x02\x01"
    cut = pack(array, image=False)
    length = struct.unpack_from("<I", cut, 6)[0]
    assert json.loads(cut[10 : 10 + length])["lo"] == [1, 2, 3]


@given(ARRAYS, st.booleans(), st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(
    array: np.ndarray, image: bool, data: st.DataObject
) -> None:
    whole = bytearray(pack(array, image=image))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    for damaged in (whole, cut):
        try:
            got, _ = unpack(damaged, LIMIT)
        except InputError:
            continue
        assert got.ndim == 3
        assert got.nbytes <= LIMIT


def test_a_claim_beyond_the_limit_is_refused_before_memory_is_asked_for() -> None:
    data = pack(np.zeros((1, 1, 1), np.uint8), image=False)
    huge = data.replace(b'"shape":[1,1,1]', b'"shape":[9,9,9]')
    assert unpack(huge, 729)[0].shape == (9, 9, 9)
    with pytest.raises(InputError, match="above the limit of 728 bytes"):
        unpack(huge, 728)
