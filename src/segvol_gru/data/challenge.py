"""Case files of the CVPR 2025 interactive segmentation challenge.

Coordinates in them are array indices (z, y, x) as in this package; only `spacing` is stored in
the order (x, y, z). Source: challenge-protocol section 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import MANIFEST
from segvol_gru.data.files import whole_file
from segvol_gru.data.npz import read_npz
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index, check_index
from segvol_gru.volume import Volume

ORDER = "zyx"
"""In cases that `prepare` wrote, under the key `order`: of the spacing, as of all else."""
PREFIXES = {"CT_": "CT", "MR_": "MR", "PET_": "PET", "US_": "US", "Microscopy_": "Microscopy"}


@dataclass(frozen=True, slots=True, eq=False)
class ChallengeCase:
    """One competition file.

    Attributes:
        volume: the image; spacing already in (D, H, W) order.
        labels: (D, H, W) ground truth, None where the file has none.
        boxes: one per class in ascending label order; empty where the case has none.
        clicks: per class one entry per click step so far, None where the class got no click.
        previous: (D, H, W) uint8 labels of the last answer, None at the first call.
    """

    volume: Volume
    labels: NDArray[np.integer[Any]] | None
    boxes: tuple[Box, ...]
    clicks: tuple[tuple[Click | None, ...], ...]
    previous: NDArray[np.integer[Any]] | None


def read_challenge(path: Path, *, modality: str | None = None) -> ChallengeCase:
    """Read a competition file; the modality is that of the file name's prefix if not given.

    Cases that `prepare` wrote are read too: they have the same keys, but the spacing as `ORDER`.

    Raises:
        InputError: not such a file, damaged, absurdly large, or it tries to run code.
    """
    keys = ("imgs", "spacing", "order", "gts", "boxes", "clicks", "clicks_order", "prev_pred")
    found = read_npz(path, keys)
    missing = {"imgs", "spacing"} - found.keys()
    if missing:
        raise InputError(
            f"{path} lacks {' and '.join(sorted(missing))}, wanted a competition case: "
            "give the folder's input file."
        )
    if modality is None:
        names = (kind for prefix, kind in PREFIXES.items() if path.name.startswith(prefix))
        modality = next(names, None)
    spacing = np.ravel(found["spacing"])
    if not (str(found.get("order")) == ORDER or _in_training_folder(path)):
        spacing = spacing[::-1]  # stored (x, y, z)
    volume = Volume(found["imgs"], spacing.tolist(), modality=modality)
    labels, previous = (_like(path, found, key, volume.shape) for key in ("gts", "prev_pred"))
    try:
        boxes = tuple(Box.from_challenge(box, volume.shape) for box in found.get("boxes", ()))
        clicks = _clicks(found.get("clicks", ()), found.get("clicks_order"), volume.shape)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"boxes or clicks in {path} are not in the competition's form ({error}); "
            "write one dict per class."
        ) from None
    return ChallengeCase(volume, labels, boxes, clicks, previous)


def read_labels(path: Path) -> NDArray[np.integer[Any]]:
    """The label map of a competition answer (`segs`) or ground truth (`gts`) file.

    Whole numbers in a floating type are taken for what they are; their memory order stays, by
    which the evaluator breaks ties.

    Raises:
        InputError: neither key is there, or not (D, H, W) whole numbers.
    """
    found = read_npz(path, ("segs", "gts"))
    labels = found.get("segs", found.get("gts"))
    if isinstance(labels, np.ndarray) and labels.ndim == 3:
        if labels.dtype.kind == "f" and labels.size and _whole(labels):
            labels = labels.astype(np.int64)
        if labels.dtype.kind in "biu":
            return np.asarray(labels, np.uint8 if labels.dtype == np.bool_ else labels.dtype)
    raise InputError(f"{path} has no (D, H, W) array of whole numbers `segs` or `gts`; write one.")


def _in_training_folder(path: Path) -> bool:
    """Whether a file is a case of a training folder; older ones do not say their order."""
    folder = path.absolute().parent
    return folder.name == "cases" and (folder.parent / MANIFEST).is_file()


def _whole(labels: NDArray[np.floating[Any]]) -> bool:
    """Whether floating numbers are whole, and small enough to be exact."""
    exact = float(labels.max()) < 2**53 and float(labels.min()) > -(2**53)  # False for nan
    return exact and bool((labels % 1 == 0).all())


def write_challenge_segs(path: Path, segs: NDArray[Any]) -> None:
    """Write the answer to a case: a (D, H, W) label map under the key `segs`.

    Raises:
        InputError: not three axes of whole numbers, or not writable.
    """
    if segs.ndim != 3 or segs.dtype.kind not in "biu":
        raise InputError(f"segs is {segs.dtype} of shape {segs.shape}, wanted (D, H, W) integers.")
    labels = segs.view(np.uint8) if segs.dtype == np.bool_ else segs
    # C order: the evaluator breaks ties in the array's memory order.
    with whole_file(path) as fresh, fresh.open("wb") as file:
        np.savez_compressed(file, segs=np.ascontiguousarray(labels))


def _like(
    path: Path, found: Mapping[str, Any], key: str, shape: Index
) -> NDArray[np.integer[Any]] | None:
    labels = found.get(key)
    if labels is None:
        return None
    if not isinstance(labels, np.ndarray) or labels.shape != shape or labels.dtype.kind not in "iu":
        raise InputError(f"{key} in {path} is no integer array of the image's shape {shape}.")
    return labels


def _clicks(
    per_class: Sequence[Mapping[str, Any]], order: Any, shape: Index
) -> tuple[tuple[Click | None, ...], ...]:
    """Merge the fg and bg lists of each class into the order in which they were given."""
    steps = [["fg"] * len(c["fg"]) + ["bg"] * len(c["bg"]) for c in per_class]
    if order is not None:
        steps = order.tolist() if isinstance(order, np.ndarray) else order
    merged = []
    for lists, names in zip(per_class, steps, strict=True):
        waiting = {kind: list(lists[kind]) for kind in ("fg", "bg")}
        merged.append(
            tuple(
                None
                if name is None
                else Click(check_index(waiting[name].pop(0), shape, "click"), name == "fg")
                for name in names
            )
        )
        if waiting["fg"] or waiting["bg"]:
            raise ValueError("clicks_order names fewer clicks than there are")
    return tuple(merged)
