"""Headers that come without their file: whether a mask can be written under them.

A reader's header describes what was read. One that a client sends may say anything, and a mask
under it might be unreadable, lie elsewhere or name another file for its voxels.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np

from segvol_gru.data.io import read_volume, write_mask
from segvol_gru.data.nifti import UNREADABLE, grid_of
from segvol_gru.data.nrrd import PER_AXIS, WHOLE
from segvol_gru.errors import InputError
from segvol_gru.grid import FileHeader, Grid, same_grid

ENDINGS = {"nrrd": ".nrrd", "itk": ".mha"}
SMALL = (2, 2, 2)  # these formats' headers say nothing of the shape
BREAK = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # what could end a line; a tab cannot


def check_header(grid: Grid) -> None:
    """Demand that masks under a grid's header lie on that grid.

    Args:
        grid: of an image; without a header nothing is demanded.

    Raises:
        InputError: they would be unreadable or lie elsewhere.
    """
    if grid.header is None:
        return
    try:
        fits = _is_plain(grid.header) and same_grid(_said(grid, grid.header), grid)
    except (*UNREADABLE, TypeError, KeyError, RuntimeError):
        fits = False
    if not fits:
        raise InputError(
            f"header is no {grid.header.kind} header of this image, wanted that of its file; "
            "leave it out if the array was made otherwise."
        )


def _said(grid: Grid, header: FileHeader) -> Grid:
    """Where the voxels of a mask under a header of a grid lie."""
    if header.kind == "nifti":
        return grid_of(header)
    with tempfile.TemporaryDirectory(prefix="segvol-gru-") as folder:
        path = Path(folder) / f"header{ENDINGS[header.kind]}"
        write_mask(path, np.zeros(SMALL, np.uint8), Grid(SMALL, grid.affine, header))
        return Grid(grid.shape, read_volume(path).affine)


def _is_plain(header: FileHeader) -> bool:
    """Whether a header that is text, written as it is, says nothing but geometry."""
    if header.kind != "nrrd":
        return True
    fields = json.loads(header.raw)
    return isinstance(fields, dict) and all(
        name in (*PER_AXIS, *WHOLE) and not BREAK.search(value) for name, value in fields.items()
    )
