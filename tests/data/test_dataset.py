"""A training folder says what is wrong with it, and takes no array for what it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case, load_case, read_manifest
from segvol_gru.errors import InputError

HEAD = "file,modality,dataset,subject,split,licence_class,labels\n"
LABELS = np.pad(np.ones((5, 5, 5), np.int16), 2)


@pytest.mark.parametrize("row", ["cases/a.npz,CT\n", "\n\ncases/a.npz,CT,d,s,train,open\n"])
def test_a_row_that_is_cut_short_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "manifest.csv").write_text(HEAD + row)
    with pytest.raises(InputError, match=r"row 1 of .* has too few cells"):
        read_manifest(tmp_path)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        HEAD.replace("split,", "") + "cases/a.npz,CT,d,s,open,\n"
    )
    with pytest.raises(InputError, match="lacks the column 'split'"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("image", "labels", "spacing", "words"),
    [
        (LABELS, LABELS, (1, 1, 1), "image of int16"),
        (LABELS.astype(np.uint8), LABELS * 1.5, (1, 1, 1), "labels of float64"),
        (LABELS.astype(np.uint8), LABELS, (0, 1, 1), "three above 0 mm"),
        (LABELS.astype(np.uint8), LABELS, (1, -1, 1), "three above 0 mm"),
        (LABELS.astype(np.uint8), LABELS, (1, 1, np.nan), "three above 0 mm"),
        (LABELS.astype(np.uint8), LABELS[1:], (1, 1, 1), "one 3-D shape"),
    ],
)
def test_arrays_of_another_kind_are_refused(
    tmp_path: Path,
    image: NDArray[np.generic],
    labels: NDArray[np.generic],
    spacing: tuple[float, ...],
    words: str,
) -> None:
    np.savez(tmp_path / "a.npz", imgs=image, gts=labels, spacing=np.array(spacing))
    with pytest.raises(InputError, match=words):
        load_case(Case(tmp_path / "a.npz", "CT", "d", "s", "train", "open", False))


def test_what_is_of_the_right_kind_is_read(tmp_path: Path) -> None:
    image = LABELS.astype(np.uint8)
    np.savez(tmp_path / "a.npz", imgs=image, gts=LABELS > 0, spacing=np.array([2.0, 1, 1]))
    loaded = load_case(Case(tmp_path / "a.npz", "CT", "d", "s", "train", "open", False))
    assert loaded.tasks == {1: ((2, 2, 2), (6, 6, 6), 125)}
    assert loaded.spacing_mm == (2, 1, 1)
