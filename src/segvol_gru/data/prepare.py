"""From images and masks as they lie on a disk to a training folder.

    images, masks ─► pairs ─► read, check, window ─► cases/*.npz ┐
                       └────► what is wrong, by name ─► report   ├─► manifest.csv, splits
                                                                 ┘
A file that cannot be used is named in the report and never stops the others.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from segvol_gru.data.challenge import ORDER
from segvol_gru.data.dataset import MANIFEST, read_manifest
from segvol_gru.data.files import make_folder, whole_file
from segvol_gru.data.io import read_mask, read_volume
from segvol_gru.data.prepare_pairs import find_pairs
from segvol_gru.data.prepare_report import NEITHER, CaseFacts, Report, write_report
from segvol_gru.data.preprocess import window_for
from segvol_gru.errors import InputError
from segvol_gru.simulate import tight_box

COLUMNS = ("file", "modality", "dataset", "subject", "split", "licence_class", "labels")
COLUMNS_MORE = ("shape", "spacing")
LICENCE_CLASSES = ("open", "research", "own")
PLAIN = re.compile(r"[\w.-]+")
Watch = Callable[[int, int], None]  # cases done, cases in all


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a folder is prepared."""

    dataset: str
    """Name of the data set; letters, digits, `_`, `-` and `.`."""
    modality: str | None = None
    """CT, MR, PET, US or Microscopy, where the files do not say it themselves."""
    subject: str = "(.+)"
    """Regular expression; its first group in a case's name names the subject."""
    val: float = 0.2
    """Share of the subjects that go to the split `val`."""
    window: str = "auto"
    """Which intensities become 0..255, see `preprocess.window_for`."""
    instances: bool = False
    """Labels are numbers of objects of one kind, not kinds of structures."""
    channel: int | None = None
    """Of multi-channel images."""
    licence_class: str = "own"
    """Recipes choose cases by it; weights that are shipped take `open` ones only."""
    licence: str = ""
    """In words, for the model card."""
    citation: str = ""
    """For the model card."""
    seed: int = 2025
    """Of the splits."""

    def __post_init__(self) -> None:
        if not PLAIN.fullmatch(self.dataset):
            raise InputError(f"dataset is {self.dataset!r}, wanted letters, digits, _, - and dots.")
        if not 0 <= self.val < 1:
            raise InputError(f"val is {self.val}, wanted a share from 0 up to, but not, 1.")
        if self.licence_class not in LICENCE_CLASSES:
            raise InputError(
                f"licence_class is {self.licence_class!r}, wanted {', '.join(LICENCE_CLASSES)}."
            )
        try:
            groups = re.compile(self.subject).groups
        except re.error as error:
            raise InputError(
                f"subject {self.subject!r} is no regular expression: {error}."
            ) from None
        if groups != 1:
            raise InputError(f"subject {self.subject!r} has {groups} groups, wanted one: (...).")


def prepare(
    images: str | Path,
    masks: str | Path,
    out: Path,
    options: PrepareOptions,
    watch: Watch | None = None,
) -> Report:
    """Convert pairs of image and mask, add them to a training folder, report.

    Args:
        images: a folder, or a path with one `*` that stands for the case's name, such as
            `imagesTr/*_0000.nii.gz` or `scans/*/ct.nrrd`; a folder in its place is one DICOM
            series.
        masks: the same for the masks; pairs are formed by name.
        out: the training folder; other data sets in it stay.
        options: how.
        watch: told after every case.

    Returns:
        The report, also written to `out/report-DATASET.md`.

    Raises:
        InputError: no pair could be used, or `out` holds this data set already.
    """
    older = _older_rows(out, options.dataset)
    taken = {row["file"] for row in older}
    pairs, faults = find_pairs(images, masks)
    make_folder(out / "cases")
    done: list[CaseFacts] = []
    for number, (name, (image, mask)) in enumerate(pairs.items(), start=1):
        try:
            done.append(_convert(name, image, mask, out, options, taken))
        except Exception as error:  # files fail in many ways, and the others go on
            faults[name] = " ".join(str(error).split())
        if watch is not None:
            watch(number, len(pairs))
    if not done:
        first = next(iter(faults.items()), ("", "nothing was found"))
        raise InputError(f"none of {len(faults)} cases can be used; {first[0]}: {first[1]}")
    splits = split_subjects(done, options, {row["subject"]: row["split"] for row in older})
    _write_manifest(out, older, done, splits, options)
    _note_licence(out / "datasets.json", done, options)
    return write_report(out / f"report-{options.dataset}.md", done, splits, faults)


def _convert(
    name: str, image: Path, mask: Path, out: Path, options: PrepareOptions, taken: Collection[str]
) -> CaseFacts:
    """Read one pair, check it, write its case file, which is none of those that are taken."""
    volume = read_volume(image, channel=options.channel, modality=options.modality)
    if volume.modality is None:
        raise InputError(f"{image} does not say its modality; give it.")
    labels = read_mask(mask, volume)
    if not labels.any():
        raise InputError(f"{mask} is empty, wanted at least one structure.")
    if volume.array.min() == volume.array.max():
        raise InputError(f"{image} is one grey throughout; export it again.")
    window = window_for(volume, options.window, tight_box(labels > 0))
    grey = np.rint(window.apply(volume.array)).astype(np.uint8)
    match = re.search(options.subject, name)
    if match is None:
        raise InputError(f"the name {name} does not fit the subject pattern {options.subject!r}.")
    file = f"cases/{volume.modality}_{options.dataset}_{name}.npz"
    if file in taken:
        raise InputError(f"{file} is of another data set in {out}; give this one another name.")
    with whole_file(out / file) as fresh, fresh.open("wb") as stream:
        spacing = np.array(volume.spacing_mm, np.float32)
        np.savez_compressed(stream, imgs=grey, gts=labels, spacing=spacing, order=ORDER)
    return CaseFacts(
        name=name,
        file=file,
        modality=volume.modality,
        subject=match[1],
        window=window.name,
        shape=volume.shape,
        spacing_mm=volume.spacing_mm,
        voxels=_counts(labels),
        digest=_digest(volume.array),
    )


def _counts(labels: NDArray[np.integer]) -> dict[int, int]:
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True)}


def _digest(array: NDArray[np.generic]) -> str:
    """Of an image before its window, which may be chosen by the mask; in any type the same."""
    digest = hashlib.sha256(repr(array.shape).encode())
    for plane in array:
        digest.update(plane.astype("<f4").tobytes())
    return digest.hexdigest()


def split_subjects(
    cases: list[CaseFacts], options: PrepareOptions, known: Mapping[str, str]
) -> dict[str, str]:
    """Case name -> split. Subjects that share an image count as one, and none is ever divided.

    Args:
        cases: all cases of the data set.
        options: share and seed.
        known: subjects of other data sets in the folder. They keep their split, and who counts as
            one with them gets it too; with several of different splits, `NEITHER`.
    """
    alike = _alike(cases)
    taken: dict[str, str] = {}
    for subject, one in alike.items():
        if subject in known:
            split = taken.setdefault(one, known[subject])
            taken[one] = split if split == known[subject] else NEITHER
    free = sorted(set(alike.values()) - taken.keys())
    order = np.random.default_rng(options.seed).permutation(len(free))
    wanted = max(1, round(options.val * len(free))) if options.val and len(free) > 1 else 0
    val = {free[i] for i in order[:wanted]}
    split_of = {one: "val" if one in val else "train" for one in free} | taken
    return {case.name: split_of[alike[case.subject]] for case in cases}


def _alike(cases: Sequence[CaseFacts]) -> dict[str, str]:
    """Subject -> the first of those that are joined to it by images that they share."""
    subjects, whose = np.unique([case.subject for case in cases], return_inverse=True)
    images, which = np.unique([case.digest for case in cases], return_inverse=True)
    size = len(subjects) + len(images)
    shown = coo_array((np.ones(len(cases)), (whose, len(subjects) + which)), shape=(size, size))
    _, parts = connected_components(shown, directed=False)
    first: dict[int, str] = {}
    groups = zip(subjects.tolist(), parts[: len(subjects)].tolist(), strict=True)
    return {subject: first.setdefault(part, subject) for subject, part in groups}


def _older_rows(out: Path, dataset: str) -> list[dict[str, str]]:
    """Rows of the manifest that is there; this data set must not be among them."""
    path = out / MANIFEST
    if not path.is_file():
        return []
    if any(case.dataset == dataset for case in read_manifest(out)):
        raise InputError(f"{out} holds {dataset} already; give another name or another folder.")
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_manifest(
    out: Path,
    older: list[dict[str, str]],
    cases: list[CaseFacts],
    splits: Mapping[str, str],
    options: PrepareOptions,
) -> None:
    rows = [
        {
            "file": case.file,
            "modality": case.modality,
            "dataset": options.dataset,
            "subject": case.subject,
            "split": splits[case.name],
            "licence_class": options.licence_class,
            "labels": "instances" if options.instances else " ".join(map(str, case.tasks)),
            "shape": "x".join(map(str, case.shape)),
            "spacing": "x".join(f"{mm:.4g}" for mm in case.spacing_mm),
        }
        for case in cases
    ]
    path = out / MANIFEST
    with whole_file(path) as fresh, fresh.open("w", newline="", encoding="utf-8") as stream:
        head = (*COLUMNS, *COLUMNS_MORE)
        writer = csv.DictWriter(stream, head, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*older, *rows])


def _note_licence(path: Path, cases: list[CaseFacts], options: PrepareOptions) -> None:
    """Say the licence in words, under the keys that model cards look for."""
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for modality in {case.modality for case in cases}:
        words = {"licence": options.licence or options.licence_class, "citation": options.citation}
        said[f"{modality}_{options.dataset}"] = words
    with whole_file(path) as fresh:
        fresh.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
