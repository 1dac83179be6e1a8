"""Reading .npz files that may be damaged or hostile."""

from __future__ import annotations

import lzma
import math
import pickle
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np

from segvol_gru.data.files import check_size
from segvol_gru.data.pickles import MAX_BYTES, load_plain
from segvol_gru.errors import InputError

DAMAGED = (
    *(OSError, EOFError, ValueError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(SyntaxError, tokenize.TokenError),  # numpy parses array headers as Python literals
)


def read_npz(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """Those of some keys that an .npz file has, arrays of objects as nested plain values.

    Raises:
        InputError: not an .npz file, damaged, absurdly large, or it tries to run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            return {k: _member(path, archive, f"{k}.npy") for k in keys if f"{k}.npy" in names}
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is refused because {error}; write boxes and clicks as plain dicts and lists."
        ) from None
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; give the path of a case.") from None
    except DAMAGED as error:
        raise InputError(f"cannot read {path} ({error}); fetch the file again.") from None


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> Any:
    info = archive.getinfo(name)
    with archive.open(info) as file:
        shape, dtype = _npy_header(file)
        if dtype.hasobject:
            return load_plain(file.read(MAX_BYTES + 1))
        n_bytes = math.prod(shape) * dtype.itemsize
        check_size(path, shape, n_bytes, info.compress_size)
        if info.file_size != file.tell() + n_bytes:
            raise ValueError(f"{name} has {info.file_size} bytes, not those of shape {shape}")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"array format {version}")
    shape, _, dtype = read(file)
    return shape, dtype
