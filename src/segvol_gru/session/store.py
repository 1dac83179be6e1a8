"""A session in one file: the parts of a journal in a zip archive, written whole or not at all.

Undone events are in it, dropped ones are not. Voxels are deflated; states are not, they are
noise to a compressor.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from segvol_gru.data.files import check_size, whole_file
from segvol_gru.errors import InputError
from segvol_gru.session.blobs import Blobs
from segvol_gru.session.journal import slabs
from segvol_gru.session.log import Command, Scene, commands_of, keys_of
from segvol_gru.session.records import (
    EVENTS,
    HEADER,
    VOXELS,
    Header,
    dump_header,
    dump_record,
    load_header,
    read_records,
)
from segvol_gru.volume import Volume

DEFLATE_LEVEL = 1  # a CT of 105 MB: half the size in 2 s; higher levels cost more than they save
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


def write_session(path: Path, header: Header, volume: Volume, scene: Scene, blobs: Blobs) -> None:
    """Write a session file in place of what was there.

    Args:
        path: the file.
        header: what the session is about.
        volume: its image.
        scene: its objects.
        blobs: the bytes that the scene's snapshots name.

    Raises:
        InputError: the file cannot be written; what was there is untouched.
    """
    commands = commands_of(scene)
    with whole_file(path) as fresh, fresh.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=DEFLATE_LEVEL) as out:
            out.writestr(HEADER, dump_header(replace(header, records=len(commands))))
            with out.open(VOXELS, "w", force_zip64=True) as member:
                for slab in slabs(volume):
                    member.write(slab)
            written: set[str] = set()
            with out.open(zipfile.ZipInfo(EVENTS), "w", force_zip64=True) as member:
                for command in commands:
                    keys = [key for key in keys_of(command) if key not in written]
                    for piece in dump_record(command, [blobs.get(key) for key in keys])[0]:
                        member.write(piece)
                    written.update(keys)
        file.flush()
        os.fsync(file.fileno())


def read_session(path: Path, blobs: Blobs) -> tuple[Header, Volume, list[Command]]:
    """Read a session file.

    Args:
        path: the file.
        blobs: is given the bytes that the commands' snapshots name.

    Returns:
        What the session is about, its volume, and commands that make its scene.

    Raises:
        InputError: no such file, not one of ours, damaged, or of a later format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not {HEADER, VOXELS, EVENTS} <= set(archive.namelist()):
                raise InputError(f"{path} is no session; give a file that `save` wrote.")
            header = load_header(archive.read(HEADER))
            volume = _volume(path, archive, header)
            with archive.open(EVENTS) as stream:
                commands = []
                for record in read_records(stream, archive.getinfo(EVENTS).file_size):
                    for blob in record.blobs:
                        blobs.put(blob)
                    commands.append(record.command)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; give the path of a session.") from None
    except DAMAGED as error:
        raise InputError(f"cannot read {path} ({error}); restore it from a backup.") from None
    if len(commands) != header.records:
        raise InputError(f"{path} lacks records; restore it from a backup.")
    return header, volume, commands


def _volume(path: Path, archive: zipfile.ZipFile, header: Header) -> Volume:
    dtype, shape = header.layout()
    info = archive.getinfo(VOXELS)
    check_size(path, shape, info.file_size, info.compress_size)
    if math.prod(shape) * dtype.itemsize != info.file_size:
        raise InputError(f"{path} has no volume of shape {shape}; restore it from a backup.")
    voxels = np.empty(shape, dtype=dtype)
    with archive.open(info) as file:
        for slab in voxels:
            slab.data.cast("B")[:] = file.read(slab.nbytes)  # too few bytes: ValueError
    return header.place(voxels)
