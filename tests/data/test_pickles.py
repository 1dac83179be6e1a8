"""A case file must not be able to run code, hang or eat the memory."""

import builtins
import contextlib
import functools
import os
import pickle
import pickletools
import struct
import subprocess
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segvol_gru.data.pickles import load_plain


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.lists(plain, max_size=5), st.sampled_from((3, 4)))
def test_plain_values_come_back(values, protocol):
    array = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        array[index] = value
    assert load_plain(pickle.dumps(array, protocol=protocol)) == values


def test_shapes_numpy_numbers_and_inner_arrays():
    order = np.array([["fg", None], ["bg", "fg"]], dtype=object)
    assert load_plain(pickle.dumps(order, 4)) == [["fg", None], ["bg", "fg"]]
    assert load_plain(pickle.dumps(np.array({"1": "liver"}, dtype=object), 4)) == {"1": "liver"}
    numbers = objects(
        np.int64(-5), np.float32(0.5), np.bool_(True), np.str_("fg"), (1, 2),
        np.array([[1, 2], [3, 4]], dtype=">i2"), np.array(["a", "bc"]), np.array([None, 3]),
        np.asfortranarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    )  # fmt: skip
    back = load_plain(pickle.dumps(numbers, 4))
    assert back == [
        -5, 0.5, True, "fg", [1, 2], [[1, 2], [3, 4]], ["a", "bc"], [None, 3],
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
    ]  # fmt: skip
    assert type(back[0]) is int
    assert type(back[2]) is bool


def test_names_of_numpy_1_are_known():
    text = (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R"
        b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]K\x07atb."
    )
    assert load_plain(text) == [7]


HOSTILE = {
    "os.system": Runs(os.system, "touch {flag}"),
    "subprocess": Runs(subprocess.check_call, ["touch", "{flag}"]),
    "eval": Runs(builtins.eval, "open('{flag}', 'w')"),
    "exec": Runs(builtins.exec, "open('{flag}', 'w')"),
    "open": Runs(builtins.open, "{flag}", "w"),
    "getattr": Runs(builtins.getattr, "abc", "upper"),
    "partial": Runs(functools.partial, os.system, "touch {flag}"),
    "reduce": Runs(functools.reduce, os.system, ["touch {flag}"]),
    "numpy.save": Runs(np.save, "{flag}", [1]),
    "numpy.savetxt": Runs(np.savetxt, "{flag}", [1]),
    "numpy.fromfile": Runs(np.fromfile, "{flag}"),
    "numpy.load": Runs(np.load, "{flag}"),
    "numpy.memmap": Runs(np.memmap, "{flag}", "u1", "w+", 0, (1,)),
    "numpy.fromfunction": Runs(np.fromfunction, os.system, (1,)),
    "numpy.loads by name": Runs(np.vectorize, os.system),
    "set": {1, 2},
    "bytes": b"abc",
    "complex": 1j,
    "range": range(3),
    "type": dict,
    "numpy.void": np.zeros(1, dtype="i4,f8")[0],
    "datetime64": np.datetime64("2020-01-01"),
}


def with_flag(value, flag):
    if isinstance(value, Runs):
        function, arguments = value.call
        return Runs(function, *(with_flag(argument, flag) for argument in arguments))
    if isinstance(value, list):
        return [with_flag(item, flag) for item in value]
    return value.replace("{flag}", flag) if isinstance(value, str) else value


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("nested", [False, True])
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path, name, protocol, nested):
    flag = tmp_path / "flag"
    value = with_flag(HOSTILE[name], str(flag))
    array = objects({"fg": [[1, 2, value]], "bg": []}) if nested else objects(value)
    with pytest.raises(pickle.UnpicklingError):
        load_plain(pickle.dumps(array, protocol=protocol))
    with pytest.raises(pickle.UnpicklingError):
        load_plain(pickle.dumps(value, protocol=protocol))
    assert not flag.exists()


def test_the_same_pickles_do_run_when_loaded_plainly(tmp_path):
    """The crafted files are real: without the gates this one leaves its mark."""
    flag = tmp_path / "flag"
    pickle.loads(pickle.dumps(objects(with_flag(HOSTILE["os.system"], str(flag)))))
    assert flag.exists()


def glob(module, name):
    return b"c" + module + b"\n" + name + b"\n"


RECONSTRUCT = glob(b"numpy.core.multiarray", b"_reconstruct")
NDARRAY = glob(b"numpy", b"ndarray")
BLANK = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"
OBJECT = glob(b"numpy", b"dtype") + b"X\x01\x00\x00\x00O\x85R"
FLOAT = glob(b"numpy", b"dtype") + b"X\x02\x00\x00\x00f8\x85R"
HUGE = b"J\x00\x00\x00\x40"  # 2 ** 30


def state(shape, dtype, data):
    return b"(K\x01" + shape + dtype + b"\x89" + data + b"tb."


CRAFTED = {
    "objects beyond the list": BLANK + state(HUGE + b"\x85", OBJECT, b"]K\x01a"),
    "a huge shape of nothing": BLANK + state(HUGE + b"K\x00\x86", FLOAT, b"C\x00"),
    "nested empty lists": BLANK + state(HUGE + b"K\x00\x86", OBJECT, b"]"),
    "too few bytes": BLANK + state(b"K\x05\x85", FLOAT, b"C\x01a"),
    "an object from bytes": glob(b"numpy.core.multiarray", b"scalar") + OBJECT + b"C\x01a\x86R.",
    "altered name": RECONSTRUCT + b"}X\x01\x00\x00\x00aK\x01sb.",
    "altered name by slots": RECONSTRUCT + b"}}X\x08\x00\x00\x00__call__K\x01s\x86b.",
    "altered number": b"K\x01}b.",
    "a called class": NDARRAY + b"K\x01\x85R.",
    "a new object": NDARRAY + b")\x81.",
    "an unfinished array": BLANK + b".",
    "a bare name": NDARRAY + b".",
    "a structured type": glob(b"numpy", b"dtype") + b"X\x05\x00\x00\x00i4,f8\x85R.",
    "a wild byte order": FLOAT[:-1] + b"R(K\x03X\x01\x00\x00\x00?tb.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.sum\x93.",
    "a far memo": b"Kr" + b"r" + struct.pack("<I", 2**31) + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "a persistent id": b"K\x01Q.",
    "an extension code": b"\x82\x01.",
    "no end": b"]",
    "nothing": b"",
    "stack underflow": b"a.",
    "text as a number of items": b"(I99999999999\nl.",
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_pickles_are_refused(name):
    with pytest.raises(pickle.UnpicklingError):
        load_plain(b"\x80\x03" + CRAFTED[name])


def test_small_pickles_of_astronomical_size_are_refused():
    text = b"\x80\x03]"  # ten levels, each ten times the one before
    for level in range(10):
        text += b"q" + bytes([level]) + b"](" + (b"h" + bytes([level])) * 10 + b"e"
    with pytest.raises(pickle.UnpicklingError, match="more than 1000000 values"):
        load_plain(text + b".")
    with pytest.raises(pickle.UnpicklingError, match="nests too deep"):
        load_plain(b"\x80\x03" + b"]" * 40 + b"a" * 39 + b".")
    with pytest.raises(pickle.UnpicklingError, match="at most"):
        load_plain(bytes(16 * 2**20 + 1))


@pytest.mark.parametrize("length", [10**5, -1])
def test_values_are_counted_before_they_take_memory(length):
    """One array state of 100,000 numbers, built into a hundred arrays: 80 MB of lists."""
    small = FLOAT.replace(b"f8", b"u1")
    numbers = b"B" + struct.pack("<I", 10**5) + bytes(10**5)
    shape = b"J" + struct.pack("<i", length) + b"\x85"
    kept = state(shape, small, numbers)[:-2] + b"q\x02"
    parts = RECONSTRUCT + b"q\x00" + NDARRAY + b"K\x00\x85C\x01b\x87q\x01" + kept
    tracemalloc.start()
    try:
        with pytest.raises(pickle.UnpicklingError, match=r"more than 1000000 values|shape"):
            load_plain(b"\x80\x03" + parts + b"](" + b"h\x00h\x01Rh\x02b" * 100 + b"e.")
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(pickle.UnpicklingError):  # and nothing else
        load_plain(data)


@given(st.data())
def test_any_damage_is_read_or_refused(data):
    whole = bytearray(pickle.dumps(objects({"fg": [[1, 2, 3]], "bg": []}, np.int64(3)), 4))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(pickle.UnpicklingError):
        load_plain(bytes(whole))


def test_the_list_of_opcodes_is_spelt_as_python_spells_it():
    from segvol_gru.data.pickles import OPCODES

    assert {opcode.name for opcode in pickletools.opcodes} >= OPCODES
