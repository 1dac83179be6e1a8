"""What makes a structure hard: small, thin, touching another one, of a difficult modality."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from pathlib import Path

import edt
import numpy as np
from scipy import ndimage

from segvol_gru.data.dataset import LoadedCase
from segvol_gru.evaluation.inputs import find_cases, load
from segvol_gru.evaluation.records import Record, write_json
from segvol_gru.evaluation.runs import Key

SMALL_VOX = 1000
THIN_VOX = 3.0  # depth of the deepest voxel
TOUCHING = 0.1  # of the voxels just outside, how many belong to other structures
SIZES = ((1_000, "under 1,000"), (10_000, "1,000 to 10,000"), (100_000, "10,000 to 100,000"))
LARGEST = "100,000 and more"


@dataclass(frozen=True, slots=True)
class Traits:
    """One structure.

    Attributes:
        depth_vox: distance of its deepest voxel to the outside, in voxels.
        touching: share of the voxels around it that belong to other structures.
    """

    depth_vox: float
    touching: float


def size_bin(record: Record) -> str:
    """Name of the size bin of a task."""
    return next((name for limit, name in SIZES if record.voxels < limit), LARGEST)


Test = Callable[[Record, Traits | None], bool]

HARD: dict[str, Test] = {
    "PET": lambda record, traits: record.modality == "PET",
    "ultrasound": lambda record, traits: record.modality == "US",
    f"small (under {SMALL_VOX} voxels)": lambda record, traits: record.voxels < SMALL_VOX,
    f"thin (nowhere deeper than {THIN_VOX:g} voxels)": lambda record, traits: (
        traits is not None and traits.depth_vox <= THIN_VOX
    ),
    "touching another structure": lambda record, traits: (
        traits is not None and traits.touching >= TOUCHING
    ),
}
"""Groups of structures that are looked at apart; they overlap."""


def read_traits(data: Path, split: str, wanted: Set[Key], cache: Path) -> dict[Key, Traits]:
    """Traits of every task of a split.

    Args:
        data: the data folder.
        split: of the manifest.
        wanted: tasks that have been run.
        cache: file of an earlier call, which is believed if it knows all of them.

    Returns:
        Traits by task; cases that cannot be read have none.
    """
    if cache.is_file():
        rows = json.loads(cache.read_text(encoding="utf-8"))["all"]
        known = {(r["case"], r["label"]): Traits(r["depth_vox"], r["touching"]) for r in rows}
        if wanted <= known.keys():
            return known
    found: dict[Key, Traits] = {}
    for case in find_cases(data, split):
        try:
            loaded = load(case)
        except Exception:  # named by the runs themselves; here it only has no traits
            continue
        for label in loaded.tasks:
            found[case.file.stem, label] = traits_of(loaded, label)
    rows = [{"case": k[0], "label": k[1], **asdict(v)} for k, v in found.items()]
    write_json(cache, {"all": rows})
    return found


def traits_of(loaded: LoadedCase, label: int) -> Traits:
    """Look at one structure of a case."""
    lo, hi, _ = loaded.tasks[label]
    window = tuple(slice(max(0, a - 1), b + 2) for a, b in zip(lo, hi, strict=True))
    part = loaded.labels[window]
    mask = part == label
    depth = edt.edt(np.ascontiguousarray(np.pad(mask, 1)).view(np.uint8)).max()
    rim = ndimage.binary_dilation(mask) & ~mask
    around = int(rim.sum())
    return Traits(float(depth), float((part[rim] != 0).mean()) if around else 0.0)
