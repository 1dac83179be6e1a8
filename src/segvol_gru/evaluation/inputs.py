"""Where cases come from: our data folders, competition folders, pairs of NIfTI files.

    DATA/manifest.csv, DATA/cases/*.npz              our own; the manifest says everything
    DATA/images/*.nii.gz, DATA/labels/*.nii.gz       pairs of one name (nnU-Net's imagesTr and
                                                     labelsTr, with or without _0000, too)
    DATA/3D_val_npz/*.npz, DATA/3D_val_gt/*.npz      the competition's validation folders
    DATA/**/*.npz                                    competition files that hold `gts`

Only a manifest knows splits, subjects and licences. Elsewhere all files are taken, each as a
subject of its own, and the modality is the prefix of the file name (`CT_`, `MR_`, ...).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.challenge import PREFIXES, read_challenge, read_labels
from segvol_gru.data.dataset import MANIFEST, Case, LoadedCase, load_case, read_manifest, with_tasks
from segvol_gru.data.io import NIFTI, read_mask, read_volume
from segvol_gru.data.preprocess import window_for
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box
from segvol_gru.volume import Volume

PAIRS = (("images", "labels"), ("imagesTr", "labelsTr"))
COMPETITION = ("3D_val_npz", "3D_val_gt")
CHANNEL = "_0000"  # nnU-Net's ending of the first channel
INSTANCES = ("Microscopy_", "PET_")  # competition sets whose labels number objects


@dataclass(frozen=True, slots=True)
class Pair(Case):
    """A NIfTI image and its labels."""

    labels: Path


@dataclass(frozen=True, slots=True)
class Competition(Case):
    """A competition file; the labels are its own where no file of labels is named."""

    labels: Path | None


@dataclass(slots=True)
class Boxed(LoadedCase):
    """A competition case in memory, with the boxes that came with it."""

    boxes: dict[int, Box] = field(default_factory=dict)


def find_cases(data: Path, split: str) -> list[Case]:
    """List the cases of a folder, in order of file names.

    Raises:
        InputError: the folder has none of the known forms, or two files of one name, by which
            results are told apart.
    """
    found: dict[str, Case] = {}
    for case in _listed(data, split):
        other = found.setdefault(case.file.stem, case)
        if other is not case:
            raise InputError(f"{other.file} and {case.file} have one name; rename one of them.")
    return list(found.values())


def _listed(data: Path, split: str) -> list[Case]:
    """The cases of a folder of any form."""
    if (data / MANIFEST).is_file():
        cases = [case for case in read_manifest(data) if case.split == split]
        return sorted(cases, key=lambda case: case.file.stem)
    for images, labels in PAIRS:
        if (data / images).is_dir():
            return _pairs(data, images, labels, split)
    apart = (data / COMPETITION[0]).is_dir()
    files = sorted((data / COMPETITION[0] if apart else data).rglob("*.npz"))
    if not files:
        raise InputError(
            f"{data} has no manifest.csv, no images/ beside labels/ and no competition *.npz; "
            "wanted one of these."
        )
    return [
        Competition(
            file,
            modality_of(file),
            "_".join(file.stem.split("_")[:2]),
            file.stem,
            split,
            "research",
            file.name.startswith(INSTANCES),
            data / COMPETITION[1] / file.name if apart else None,
        )
        for file in files
    ]


def load(case: Case) -> LoadedCase:
    """Read a case of any form.

    Raises:
        InputError: a file is missing, damaged, or image and labels do not fit together.
    """
    if isinstance(case, Pair):
        volume = read_volume(case.file, modality=case.modality or None)
        labels = read_mask(case.labels, volume)
        return with_tasks(case, _grey(volume), labels, volume.spacing_mm)
    if isinstance(case, Competition):
        return _competition(case)
    return load_case(case)


def modality_of(file: Path) -> str:
    """What the file name's prefix says, else nothing."""
    names = (kind for prefix, kind in PREFIXES.items() if file.name.startswith(prefix))
    return next(names, "")


def _pairs(data: Path, images: str, labels: str, split: str) -> list[Case]:
    found: list[Case] = []
    for file in sorted((data / images).iterdir()):
        ending = next((e for e in reversed(NIFTI) if file.name.endswith(e)), None)
        if ending is None:
            continue
        name = file.name.removesuffix(ending).removesuffix(CHANNEL)
        mates = [data / labels / f"{name}{e}" for e in NIFTI]
        mate = next((m for m in mates if m.is_file()), data / labels / f"{name}{ending}")
        named = (modality_of(file), data.resolve().name, name, split, "research", False)
        found.append(Pair(file, *named, mate))
    if not found:
        raise InputError(f"{data / images} holds no NIfTI file; wanted .nii or .nii.gz.")
    return found


def _competition(case: Competition) -> LoadedCase:
    read = read_challenge(case.file)
    labels = read.labels if case.labels is None else read_labels(case.labels)
    if labels is None:
        raise InputError(f"{case.file.name} holds no gts; put labels into {COMPETITION[1]}/.")
    plain = with_tasks(case, _grey(read.volume), labels, read.volume.spacing_mm)
    present = [int(v) for v in np.unique(labels)[1:]]  # the smallest counts as background
    boxes = dict(zip(present, read.boxes, strict=False))
    return Boxed(case, plain.image, plain.labels, plain.spacing_mm, plain.tasks, boxes)


def _grey(volume: Volume) -> NDArray[np.uint8]:
    """(D, H, W) uint8, windowed as the session would."""
    if volume.array.dtype == np.uint8:
        return np.array(volume.array, dtype=np.uint8)
    return np.rint(window_for(volume, "auto").apply(volume.array)).astype(np.uint8)
