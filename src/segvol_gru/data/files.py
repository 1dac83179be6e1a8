"""What every file format shares: whole-file writes, limits, and which frame of a series."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from segvol_gru.errors import InputError

MAX_VOXELS = 2**31
"""Files that claim more are refused before memory is asked for."""
MAX_INFLATION = 1100
"""Deflate cannot gain more than 1032 : 1, so a file that claims more does not hold its voxels."""
MAX_TRAILING = 2**22
"""Bytes behind the voxels that are read to a checksum; a small file may inflate to far more."""


def make_folder(path: Path) -> Path:
    """Make a folder and those around it, unless it is there.

    Returns:
        The folder.

    Raises:
        InputError: a file is in its place, or we may not write there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {path} ({error.strerror}); give another one."
        ) from None
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file, or a header and its data file, so that it appears whole or not at all.

    Yields a path of the same name in a fresh folder beside the target. What was written there
    moves into place at the end, the named file last; after an error nothing has changed.

    Raises:
        InputError: the path is a folder, or that around it does not exist or let us write.
    """
    try:
        if path.is_dir():
            raise InputError(f"cannot write {path}, which is a folder; give a path inside it.")
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    except OSError as error:
        raise InputError(
            f"cannot write {path} ({error.strerror}); give a path in an existing, writable folder."
        ) from None
    try:
        yield folder / path.name
        for part in sorted(folder.iterdir(), key=lambda part: part.name == path.name):
            part.replace(path.parent / part.name)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error}); free space or mend its rights.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_size(
    path: Path,
    shape: Sequence[int],
    n_bytes: int,
    held: int | None = None,
    limit: int | None = None,
) -> None:
    """Refuse a file whose header asks for absurd memory.

    Args:
        path: the file, for the error.
        shape: array shape its header claims, any number of axes.
        n_bytes: bytes that array takes.
        held: bytes the file really has, compressed or not; None where the data lie elsewhere.
        limit: most bytes that the caller wants to spend; None for no limit.

    Raises:
        InputError: more than `MAX_VOXELS` values, more bytes than the file can hold or than
            `limit`.
    """
    if limit is not None and n_bytes > limit:
        raise InputError(
            f"{path} takes {n_bytes} bytes in memory, wanted at most {limit}; crop the image."
        )
    voxels = 1
    for n in shape:
        voxels *= max(int(n), 0)
    if voxels > MAX_VOXELS or (held is not None and n_bytes > held * MAX_INFLATION):
        raise InputError(
            f"{path} claims {voxels} voxels of shape {tuple(shape)}, which it cannot hold or which "
            f"is above the limit of {MAX_VOXELS}; crop the image or fetch the file again."
        )


def pick(
    path: Path, frames: int, channels: int, time: int | None, channel: int | None
) -> tuple[int, int]:
    """Which frame and channel of a file to read; nothing is guessed where there are several.

    Args:
        path: the file, for the error.
        frames: how many volumes the file has along time.
        channels: how many values a voxel has.
        time: the caller's choice of frame, from 0.
        channel: the caller's choice of channel, from 0.

    Returns:
        (frame, channel). With only one of the two axes longer than one, either name selects
        along it: programs disagree on whether a fourth axis is time or channel.

    Raises:
        InputError: a choice is missing, out of range, or chooses twice.
    """
    if frames > 1 and channels == 1 and time is None:
        time, channel = channel, None
    elif channels > 1 and frames == 1 and channel is None:
        channel, time = time, None
    chosen = []
    for name, index, count in (("time", time, frames), ("channel", channel, channels)):
        if index is None and count > 1:
            raise InputError(
                f"{path} holds {frames} frames of {channels} channels, wanted one volume; "
                f"choose with {name}=0 to {count - 1}."
            )
        if not 0 <= (index or 0) < count:
            raise InputError(
                f"{name} is {index}, but {path} has {count} along it; count from 0 or leave it out."
            )
        chosen.append(index or 0)
    return chosen[0], chosen[1]
