"""Object arrays of competition files, read without letting the file run code.

numpy stores an object array as a pickle, and a pickle is a program: plain loading of a hostile
file runs what its author likes. Here a pickle passes three gates:

1. its opcodes are scanned; only those that build plain values are let through;
2. every name it asks for is one of four of numpy's, and gets a stand-in that never calls numpy's
   own reconstruction (which trusts shapes and lengths in the file);
3. what comes out is copied into lists, dicts, str, int, float, bool and None.

A small pickle can refer to itself many times over, so values are counted while they are made.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import sys
from typing import Any

import numpy as np

MAX_BYTES = 16 * 2**20
MAX_VALUES = 1_000_000
MAX_DEPTH = 12
OPCODES = frozenset(
    (
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "MEMOIZE",
        "BINPUT",
        "LONG_BINPUT",
        "BINGET",
        "LONG_BINGET",
        "GLOBAL",
        "STACK_GLOBAL",
        "REDUCE",
        "BUILD",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "EMPTY_LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_DICT",
        "SETITEM",
        "SETITEMS",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
    )
)
DTYPE = re.compile(r"O8?|[biuf][1248]|U\d{1,3}")
MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{(module, "_reconstruct"): "_reconstruct" for module in MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in MULTIARRAY},
}


def load_plain(data: bytes) -> Any:
    """Read the pickle of a numpy object array.

    Args:
        data: what follows the header of an .npy file of objects.

    Returns:
        Nested lists of the array's shape (the bare value for shape ()), with arrays inside it
        turned into nested lists too and numpy numbers into Python ones.

    Raises:
        pickle.UnpicklingError: it holds anything but plain values, or too many of them.
    """
    if len(data) > MAX_BYTES:
        raise pickle.UnpicklingError(f"{len(data)} bytes of objects, at most {MAX_BYTES} are read")
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in OPCODES:
                raise pickle.UnpicklingError(f"it uses {opcode.name}, which plain values do not")
            # The memo is a table: a far index would claim memory for all before it.
            if opcode.name == "LONG_BINPUT" and (argument or 0) > len(data):
                raise pickle.UnpicklingError("its memo index is absurd")
        return _Plain().copy(_Reader(data).load(), 0)
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise pickle.UnpicklingError(f"damaged: {error}") from None


class _Budget:
    """How many values may still be made."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def spend(self, count: int) -> None:
        """Refuse what is too much before it takes memory."""
        self.left -= count
        if self.left < 0:
            raise pickle.UnpicklingError(f"it holds more than {MAX_VALUES} values")


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._budget = _Budget()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which could run code")
        return _Name(NAMES[module, name], self._budget)


class _Name:
    """Stands for one of numpy's names: callable as the pickle expects, unchangeable."""

    __slots__ = ("_budget", "_name")

    def __init__(self, name: str, budget: _Budget) -> None:
        self._name, self._budget = name, budget

    def __call__(self, *arguments: Any) -> Any:
        if self._name == "dtype":
            return _Dtype(arguments[0])
        if self._name == "_reconstruct":
            return _Array(self._budget)
        if self._name == "scalar":
            return _values(arguments[0], (), arguments[1], self._budget)
        raise pickle.UnpicklingError(f"it calls {self._name}")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"it alters {self._name}")


class _Dtype:
    """A data type of plain numbers or text, or 'O'."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not DTYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"it holds values of type {code!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"it has byte order {order!r}")
        self.order = order


class _Array:
    """An array under reconstruction; `nested` are its values as nested lists."""

    __slots__ = ("_budget", "nested")

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.code[0] != "O":
            self.nested = _values(dtype, shape, data, self._budget, "F" if fortran else "C")
            return
        self._budget.spend(_places(shape))
        if not isinstance(data, list) or math.prod(shape) != len(data) or fortran:
            raise pickle.UnpicklingError(f"its objects do not fill shape {shape!r}")
        self.nested = _nest(data, shape)


def _values(dtype: Any, shape: Any, data: Any, budget: _Budget, order: Any = "C") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.code[0] == "O":
        raise pickle.UnpicklingError("it holds objects where numbers belong")
    letters = int(dtype.code[1:]) if dtype.code[0] == "U" else 1
    budget.spend(_places(shape) * max(letters, 1))
    swapped = dtype.order == (">" if sys.byteorder == "little" else "<")
    kind = np.dtype(dtype.code)
    flat = np.frombuffer(data, kind.newbyteorder("S") if swapped else kind)
    return flat.reshape(shape, order=order).tolist()


def _places(shape: tuple[int, ...]) -> int:
    """Values of an array, and the lists around them where it is empty."""
    if any(n < 0 for n in shape):
        raise pickle.UnpicklingError(f"it claims shape {shape!r}")
    return math.prod(max(n, 1) for n in shape)


def _nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    step = math.prod(shape[1:])
    return [_nest(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


class _Plain:
    """Copies values, counting them."""

    def __init__(self) -> None:
        self._budget = _Budget()

    def copy(self, value: Any, depth: int) -> Any:
        self._budget.spend(1)
        if depth > MAX_DEPTH:
            raise pickle.UnpicklingError("it nests too deep")
        if value is None or type(value) in (bool, int, float, str):
            return value
        if type(value) is _Array:
            return self.copy(value.nested, depth)
        if type(value) in (list, tuple):
            return [self.copy(item, depth + 1) for item in value]
        if type(value) is dict:
            return {self.copy(k, depth): self.copy(v, depth + 1) for k, v in value.items()}
        raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
