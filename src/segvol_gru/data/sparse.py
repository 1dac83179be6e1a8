"""Masks at rest: runs of equal labels, compressed, dense again only when asked.

Source: the paper, section 3.2 (sparse storage of ground truth in npz form).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.files import check_size, whole_file
from segvol_gru.data.npz import read_npz
from segvol_gru.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class SparseMask:
    """A mask as runs of equal values in C order.

    Attributes:
        shape: of the mask, any number of axes.
        values: (n,) the value of each run, in the mask's own type.
        lengths: (n,) how many voxels each run has; they add up to the mask's size.
    """

    shape: tuple[int, ...]
    values: NDArray[Any]
    lengths: NDArray[np.unsignedinteger[Any]]

    @classmethod
    def of(cls, mask: NDArray[Any]) -> SparseMask:
        """Encode a bool or integer mask of any shape.

        Raises:
            InputError: the mask is of another type.
        """
        if mask.dtype.kind not in "biu":
            raise InputError(f"mask holds {mask.dtype}, wanted bool or integer labels.")
        flat = mask.reshape(-1)
        starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
        starts = starts[: flat.size]  # an empty mask has no run
        lengths = np.diff(starts, append=flat.size)
        longest = int(lengths.max(initial=0))
        return cls(mask.shape, flat[starts], lengths.astype(np.min_scalar_type(longest)))

    def dense(self, label: int | None = None) -> NDArray[Any]:
        """The mask again, exactly, or with a label the bool mask of that label alone."""
        values = self.values if label is None else self.values == label
        return np.repeat(values, self.lengths).reshape(self.shape)

    def save(self, path: Path) -> None:
        """Write a compressed .npz without pickles."""
        with whole_file(path) as fresh, fresh.open("wb") as file:
            np.savez_compressed(
                file,
                mask_shape=np.array(self.shape, dtype=np.int64),
                run_values=self.values,
                run_lengths=self.lengths,
            )

    @classmethod
    def load(cls, path: Path) -> SparseMask:
        """Read what `save` wrote.

        Raises:
            InputError: no such file, damaged, or its runs do not fill its shape.
        """
        found = read_npz(path, ("mask_shape", "run_values", "run_lengths"))
        arrays = [a for a in found.values() if isinstance(a, np.ndarray) and a.ndim == 1]
        if len(arrays) != 3:
            raise InputError(f"{path} is no sparse mask; give a file that `SparseMask.save` wrote.")
        sizes, values, lengths = arrays  # in the order asked for
        if sizes.dtype.kind not in "iu":
            raise InputError(f"mask_shape in {path} holds {sizes.dtype}; write the file again.")
        shape = tuple(int(n) for n in sizes)
        check_size(path, shape, 0)
        whole = values.dtype.kind in "biu" and lengths.dtype in (np.uint8, np.uint16, np.uint32)
        filled = values.shape == lengths.shape and int(lengths.sum(dtype=np.uint64)) == math.prod(
            shape
        )
        if not (whole and filled and all(n >= 0 for n in shape)):
            raise InputError(f"runs in {path} do not fill shape {shape}; write the file again.")
        return cls(shape, values, lengths)
