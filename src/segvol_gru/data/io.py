"""Images and masks from and to files: the file's name says the format.

    .nii .nii.gz              nibabel           `data.nifti`
    .nrrd .nhdr .mha .mhd     SimpleITK         `data.itk`
    a folder                  one DICOM series  `data.dicom`
    .npz                      competition case  `data.challenge`

Voxels are read as they lie in the file, in reverse axis order; see `segvol_gru.grid`. A mask is
written on the image's grid, under the image's header where the format is the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.data.challenge import read_challenge, read_labels, write_challenge_segs
from segvol_gru.data.dicom import read_dicom
from segvol_gru.data.itk import read_itk, write_itk
from segvol_gru.data.nifti import read_nifti, write_nifti
from segvol_gru.errors import InputError
from segvol_gru.grid import Grid, require_same_grid
from segvol_gru.volume import Volume

NIFTI = (".nii", ".nii.gz")
ITK_WRITABLE = (".nrrd", ".mha", ".mhd")
ITK = (*ITK_WRITABLE, ".nhdr")
NPZ = (".npz",)
MAPS = (*NIFTI, *ITK_WRITABLE)  # what probabilities are written to
MASKS = (*MAPS, *NPZ)
StrPath = str | os.PathLike[str]


def read_volume(
    path: StrPath,
    *,
    channel: int | None = None,
    time: int | None = None,
    modality: str | None = None,
    limit: int | None = None,
) -> Volume:
    """Read one 3-D image.

    Args:
        path: an image file, or a folder that holds one DICOM series.
        channel: which value of colour or multi-channel voxels, from 0; no default is guessed.
        time: which frame of a series, from 0; no default is guessed.
        modality: 'CT', 'MR', 'PET', 'US' or 'Microscopy' where it is known; DICOM files and
            competition file names say it themselves.
        limit: most bytes that the voxels of an image file may take in memory.

    Returns:
        The volume in (D, H, W) order with its grid and the file's header.

    Raises:
        InputError: no such file, no known type, damaged, or several volumes and no choice.
    """
    source = Path(path)
    if source.is_dir():
        _refuse_choice(source, channel, time)
        return read_dicom(source, modality)
    suffix = ending(source, (*NIFTI, *ITK, *NPZ))
    if not source.is_file():
        raise InputError(f"there is no file {source}; give the path of an image.")
    if suffix in NIFTI:
        return read_nifti(source, channel, time, modality, limit)
    if suffix in ITK:
        return read_itk(source, channel, time, modality, limit)
    _refuse_choice(source, channel, time)
    return read_challenge(source, modality=modality).volume


def read_mask(
    path: StrPath, like: Volume | Grid | None = None, *, limit: int | None = None
) -> NDArray[np.integer[Any]]:
    """Read a mask or label map.

    Args:
        path: an image file of whole numbers; of an .npz file the key `segs`, else `gts`.
        like: the image it belongs to; None skips the check of the grid.
        limit: see `read_volume`.

    Returns:
        (D, H, W) labels in the smallest unsigned type that holds them.

    Raises:
        InputError: not readable, negative or fractional values, or on another grid than `like`.
    """
    grid = like.grid if isinstance(like, Volume) else like
    source = Path(path)
    if source.suffix.lower() == ".npz" and source.is_file():
        labels = read_labels(source)
        if grid is not None and labels.shape != grid.shape:
            raise InputError(
                f"{source} has shape {labels.shape}, the image {grid.shape} (D, H, W); "
                "give a mask drawn on this very image."
            )
        return as_labels(labels, str(source))
    volume = read_volume(source, limit=limit)
    if grid is not None:
        require_same_grid(volume.grid, grid, str(source))
    return as_labels(volume.array, str(source))


def write_mask(path: StrPath, mask: ArrayLike, like: Volume | Grid) -> None:
    """Write a mask on exactly the image's grid, whole or not at all.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha, .mhd, or .npz for a competition answer. In the format
            of the image the header is the image's own.
        mask: (D, H, W) bool or labels from 0; stored as uint8, or uint16 for labels above 255.
        like: the image.

    Raises:
        InputError: another shape than the image, values that are no labels, or not writable.
    """
    labels = as_labels(np.asarray(mask), "mask")
    target, grid, write = _target(path, labels.shape, "mask", like, MASKS)
    if write is None:
        write_challenge_segs(target, labels)
    elif labels.dtype.itemsize > 2:
        raise InputError(f"mask has a label {labels.max()}, wanted at most 65535: renumber it.")
    else:
        write(target, labels, grid)


def write_probability(path: StrPath, p_prob: ArrayLike, like: Volume | Grid) -> None:
    """Write a probability map on exactly the image's grid, whole or not at all.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha or .mhd.
        p_prob: (D, H, W) probabilities from 0 to 1, stored as float32.
        like: the image.

    Raises:
        InputError: another shape than the image, values outside 0..1, or not writable.
    """
    values = np.asarray(p_prob, dtype=np.float32)
    target, grid, write = _target(path, values.shape, "p_prob", like, MAPS)
    if not (values.min() >= 0 and values.max() <= 1):
        raise InputError(
            f"p_prob runs from {values.min()} to {values.max()}, wanted probabilities 0 to 1; "
            "apply the sigmoid to logits first."
        )
    assert write is not None
    write(target, values, grid)


def as_labels(array: NDArray[Any], name: str) -> NDArray[np.integer[Any]]:
    """Whole numbers from 0 in the smallest unsigned type that holds them.

    Raises:
        InputError: negative or fractional values; `name` says whose.
    """
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise InputError(f"{name} holds {array.size} {array.dtype} values, wanted whole labels.")
    lo, hi = array.min(), array.max()
    whole = array.dtype.kind != "f" or bool((array == np.rint(array)).all())
    if not (lo >= 0 and hi < 2**32 and whole):
        raise InputError(
            f"{name} holds values from {lo} to {hi} that are no labels; "
            "wanted whole numbers from 0 (background) up."
        )
    return array.astype(np.min_scalar_type(int(hi)), copy=False)


def _target(
    path: StrPath, shape: tuple[int, ...], name: str, like: Volume | Grid, known: tuple[str, ...]
) -> tuple[Path, Grid, Callable[[Path, NDArray[Any], Grid], None] | None]:
    """Check a shape and a file name; the writer is None for .npz."""
    grid = like.grid if isinstance(like, Volume) else like
    if shape != grid.shape:
        raise InputError(
            f"{name} has shape {shape}, wanted the image's {grid.shape} in order (D, H, W)."
        )
    target = Path(path)
    suffix = ending(target, known)
    writers = {**dict.fromkeys(NIFTI, write_nifti), **dict.fromkeys(ITK_WRITABLE, write_itk)}
    return target, grid, writers.get(suffix)


def ending(path: Path, known: tuple[str, ...]) -> str:
    """How a file's name ends.

    Raises:
        InputError: otherwise than with one of `known`.
    """
    for suffix in known:
        if path.name.lower().endswith(suffix):
            return suffix
    raise InputError(f"{path} has no known ending; wanted one of {', '.join(known)}.")


def _refuse_choice(path: Path, channel: int | None, time: int | None) -> None:
    if channel or time:
        raise InputError(f"{path} holds one volume; leave channel and time out.")
