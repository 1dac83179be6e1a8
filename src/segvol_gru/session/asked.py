"""Prompts as a user writes them, checked and brought to voxel indices. Nothing is changed here."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index, check_index
from segvol_gru.volume import Volume

Frame = Literal["voxel", "ras"]
Point = Sequence[float] | NDArray[np.generic]
NAME_LIMIT = 200  # characters; names go into file headers and one line of a viewer


def asked_volume(volume: Volume) -> Volume:
    """An image.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(volume, Volume):
        raise InputError(f"volume is a {type(volume).__name__}, wanted Volume(array, spacing).")
    return volume


def asked_name(name: str) -> str:
    """What an object may be called.

    Raises:
        InputError: no text, empty, too long, or with letters that cannot be shown.
    """
    words = isinstance(name, str) and name.strip() and name.isprintable()
    if not words or len(name) > NAME_LIMIT:
        raise InputError(f"name is {name!r}, wanted a word or two, at most {NAME_LIMIT} letters.")
    return name


def asked_step(step: int) -> int:
    """How many entries of a history shall count.

    Raises:
        InputError: it is no whole number.
    """
    try:
        return operator.index(step)
    except TypeError:
        raise InputError(f"step is {step!r}, wanted a whole number.") from None


def asked_click(volume: Volume, at: Point, positive: bool, frame: Frame) -> Click:
    """A click.

    Args:
        volume: the image.
        at: (z, y, x) voxel index, or (x, y, z) in RAS mm.
        positive: whether the structure is there.
        frame: 'voxel' or 'ras': which of the two `at` is.

    Raises:
        InputError: not a point of the volume, or `positive` is no bool.
    """
    if not isinstance(positive, bool | np.bool_):
        raise InputError(f"positive is {positive!r}, wanted True (add here) or False (remove).")
    return Click(check_index(_vox(volume, at, frame, "at"), volume.shape, "at"), bool(positive))


def asked_box(volume: Volume, lo: Point, hi: Point, frame: Frame, lift: bool) -> Box:
    """A box.

    Args:
        volume: the image.
        lo: smaller corner (z, y, x), or any corner (x, y, z) in RAS mm.
        hi: larger corner, inclusive, or the opposite one in RAS mm.
        frame: 'voxel' or 'ras'. A box given in mm has its faces along the volume's axes.
        lift: whether a box that is one voxel thick along exactly one axis was drawn on a slice,
            so that its depth is to be guessed; an axis of which the volume has one voxel only
            does not count.

    Raises:
        InputError: a corner is outside the volume or the corners are swapped.
    """
    low, high = _vox(volume, lo, frame, "lo"), _vox(volume, hi, frame, "hi")
    if frame == "ras":  # which corner is the smaller one depends on the volume's axes
        low, high = list(map(min, low, high)), list(map(max, low, high))
    box = Box.checked(low, high, volume.shape)
    flat = [n == 1 < whole for n, whole in zip(box.size, volume.shape, strict=True)]
    if lift and sum(flat) == 1 and max(box.size) > 1:
        return Box.lifted(box.lo, box.hi, volume.shape, volume.spacing_mm)
    return box


def asked_value(volume: Volume, prompt: Box | Click) -> Box | Click:
    """A prompt that is a value already, with its corners inside the volume.

    Raises:
        InputError: it is something else or lies outside.
    """
    if isinstance(prompt, Click):
        return asked_click(volume, prompt.at, prompt.positive, "voxel")
    if isinstance(prompt, Box):
        checked = asked_box(volume, prompt.lo, prompt.hi, "voxel", lift=False)
        z, y, x = map(bool, prompt.tight)
        return Box(checked.lo, checked.hi, (z, y, x))
    raise InputError(f"prompt is a {type(prompt).__name__}, wanted a Box or a Click.")


def asked_mask(volume: Volume, mask: ArrayLike) -> tuple[NDArray[np.bool_], Box]:
    """Another tool's mask and its bounding box.

    Args:
        volume: the image.
        mask: (D, H, W) bool.

    Raises:
        InputError: it is of another type or shape, or empty.
    """
    array = np.asarray(mask)
    if array.dtype != np.bool_ or array.shape != volume.shape:
        raise InputError(
            f"mask holds {array.dtype} of shape {array.shape}, wanted bool of the volume's shape "
            f"{volume.shape}; of a label map give `labels == n`."
        )
    lo, hi, crop = [], [], array
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        at = np.flatnonzero(crop.any(axis=others))
        if not at.size:
            raise InputError("mask is empty, wanted at least one voxel; begin with a box instead.")
        lo.append(int(at[0]))
        hi.append(int(at[-1]))
        crop = crop[tuple([slice(None)] * axis + [slice(lo[axis], hi[axis] + 1)])]
    return array, Box(_index(lo), _index(hi))


def _vox(volume: Volume, point: Point, frame: Frame, name: str) -> list[float]:
    """Three voxel indices, not rounded, not yet known to be inside."""
    if frame not in ("voxel", "ras"):
        raise InputError(f"frame is {frame!r}, wanted 'voxel' (z, y, x) or 'ras' (x, y, z) in mm.")
    try:
        values = [float(v) for v in point]
    except (TypeError, ValueError):
        values = []
    if len(values) != 3:
        raise InputError(f"{name} is {point!r}, wanted three numbers.")
    if frame == "voxel":
        return values
    index = volume.to_voxel(values)
    last = np.array(volume.shape) - 1
    if not ((np.rint(index) >= 0) & (np.rint(index) <= last)).all():
        corners = volume.to_world(last * np.array(list(np.ndindex(2, 2, 2))))
        low, high = (tuple(np.round(f(corners, 0), 1).tolist()) for f in (np.min, np.max))
        raise InputError(
            f"{name} is {tuple(values)} in RAS mm, outside the volume, which lies between {low} "
            f"and {high}; give (x, y, z) in mm."
        )
    return [float(v) for v in index]


def _index(values: Sequence[int]) -> Index:
    z, y, x = values
    return z, y, x
