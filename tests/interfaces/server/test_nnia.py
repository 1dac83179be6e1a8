"""Our reader and writer of NNIA arrays against those of nninteractive-client 2.6.0."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnInteractive.inference.remote.serialization import pack_array, unpack_array

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.nnia import dump, load
from segvol_gru.interfaces.server.refusals import TooLarge

LIMIT = 10**6


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "uint16", "int64", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(1, 4, 5, 6), (3, 4, 5), (1, 1, 1), (7, 11, 13)])
def test_both_ends_read_each_other(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    for got in (load(pack_array(array), LIMIT), unpack_array(dump(array))):
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)


def test_an_all_zero_mask_of_any_size_survives() -> None:
    array = np.zeros((3, 5, 7), np.uint8)
    np.testing.assert_array_equal(unpack_array(dump(array)), array)
    np.testing.assert_array_equal(load(pack_array(array), LIMIT), array)


@given(st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    whole = bytearray(pack_array(np.arange(240, dtype=np.int16).reshape(1, 6, 5, 8)))
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for damaged in (bytes(whole), cut):
        with suppress(InputError, TooLarge):
            load(damaged, LIMIT)


def test_too_much_is_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(TooLarge, match="above the limit of 100 bytes"):
        load(pack_array(np.zeros((10, 11), np.uint8)), 100)


def test_another_version_is_told_which_client_to_use() -> None:
    data = bytearray(pack_array(np.zeros((2, 2), np.uint8)))
    data[4] = 2
    with pytest.raises(InputError, match=r"use nninteractive-client 2\.5 or 2\.6"):
        load(bytes(data), LIMIT)
