"""NRRD headers, kept word for word: ITK would turn every space into LPS and round spacings.

Source: format definition at http://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.files import whole_file
from segvol_gru.grid import FileHeader

PER_AXIS = (
    *("space directions", "spacings", "axis mins", "axis maxs"),
    *("centers", "centerings", "units"),
)
WHOLE = ("space", "space dimension", "space origin", "space units", "measurement frame")
JOINED = {name.replace(" ", ""): name for name in (*PER_AXIS, *WHOLE)}  # as some write them
TOKEN = re.compile(r'\([^)]*\)|"[^"]*"|\S+')
MICRONS = ("um", "µm", "micron", "microns", "micrometer")
TYPES = {"uint8": "uint8", "uint16": "uint16", "float32": "float"}
Geometry = tuple[Sequence[float], Sequence[float], Sequence[float]]


def header_of(path: Path) -> FileHeader | None:
    """The geometry fields of an NRRD header, axes of channels or time left out.

    Returns:
        None where three spatial axes cannot be told, as in a 4-D file whose fourth axis has a
        direction too; the geometry that ITK reads stands in for it then.
    """
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for line in file:
            text = line.decode("utf-8", errors="replace").strip()
            if not text:
                break
            name, colon, value = text.partition(": ")
            name = JOINED.get(name.lower().replace(" ", ""), name.lower())
            if colon and name in (*PER_AXIS, *WHOLE, "kinds"):
                fields[name] = value.strip()
    axes = _spatial_axes(fields)
    if len(axes) != 3:
        return None
    kept = {name: fields[name] for name in WHOLE if name in fields}
    for name in PER_AXIS:
        if name in fields:
            words = TOKEN.findall(fields[name])
            if max(axes) >= len(words):
                return None
            kept[name] = " ".join(words[axis] for axis in axes)
    return FileHeader("nrrd", json.dumps(kept).encode())


def mm_per_unit(header: FileHeader) -> float:
    """1e-3 where an NRRD header gives all its lengths in microns, else 1."""
    fields = json.loads(header.raw)
    names = TOKEN.findall(fields.get("space units", fields.get("units", "")))
    return 1e-3 if names and all(name.strip('"') in MICRONS for name in names) else 1.0


def write_nrrd(
    path: Path, array: NDArray[Any], header: FileHeader | None, geometry: Geometry
) -> None:
    """Write a (D, H, W) uint8, uint16 or float32 array.

    Args:
        path: a .nrrd file.
        array: the voxels.
        header: of the image; its geometry fields are repeated if it is an NRRD one.
        geometry: ITK's (direction, spacing, origin) for all other images.
    """
    if header is not None and header.kind == "nrrd":
        fields = json.loads(header.raw)
    else:
        direction, spacing, origin = geometry
        columns = (np.array(direction).reshape(3, 3) * np.array(spacing)).T
        fields = {
            "space": "left-posterior-superior",
            "space directions": " ".join(_vector(column) for column in columns),
            "space origin": _vector(origin),
        }
    lines = {
        "type": TYPES[array.dtype.name],
        "dimension": "3",
        "sizes": " ".join(str(n) for n in array.shape[::-1]),
        "kinds": "domain domain domain",
        "endian": "little",
        "encoding": "gzip",
        **fields,
    }
    text = "NRRD0005\n" + "".join(f"{name}: {value}\n" for name, value in lines.items()) + "\n"
    voxels = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    with whole_file(path) as fresh, fresh.open("wb") as file:
        file.write(text.encode())
        with gzip.GzipFile("", "wb", 3, file, mtime=0) as stream:
            stream.write(voxels.data)


def _spatial_axes(fields: dict[str, str]) -> list[int]:
    """Which axes lie in space: those with a direction, else those that are no list of values."""
    if "space directions" in fields:
        words = TOKEN.findall(fields["space directions"])
        return [axis for axis, word in enumerate(words) if word != "none"]
    kinds = fields.get("kinds", "domain domain domain").split()
    return [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space", "???", "none")]


def _vector(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return "(" + ",".join(repr(float(n)) for n in numbers) + ")"
