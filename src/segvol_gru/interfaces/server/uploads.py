"""Image files that clients send. What a file says about other files is never followed.

MetaImage and NRRD headers may name the file that holds the voxels, and ITK would open whatever
they name on this machine. So such names are refused here, by rules that do not depend on how ITK
splits a header into lines.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from segvol_gru.errors import InputError

FileFormat = Literal["nii", "nii.gz", "nrrd", "mha"]
META_FIELD = b"ElementDataFile"  # MetaIO knows it in these letters only
META_LOCAL = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*LOCAL[ \t]*\r?$", re.MULTILINE)
NRRD_FIELD = re.compile(rb"data ?file:", re.IGNORECASE)


@contextmanager
def uploaded(body: bytes | bytearray, kind: FileFormat, name: str) -> Iterator[Path]:
    """A body as a file, in a folder that is deleted afterwards.

    Args:
        body: what came.
        kind: of the file.
        name: shown to users in sentences, without a folder.

    Raises:
        InputError: its voxels are said to be in another file.
    """
    whole = {"mha": _whole_meta, "nrrd": _whole_nrrd}.get(kind)
    if whole is not None and not whole(body):
        raise InputError(f"{name}.{kind} does not hold its voxels; send one file that does.")
    with tempfile.TemporaryDirectory(prefix="segvol-gru-") as folder:
        path = Path(folder) / f"{name}.{kind}"
        path.write_bytes(body)
        try:
            yield path
        except InputError as error:
            raise InputError(str(error).replace(f"{folder}/", "")) from None


def _whole_meta(body: bytes | bytearray) -> bool:
    """Whether the only place where a MetaImage could name a file says that it is this one."""
    return body.count(META_FIELD) == 1 and META_LOCAL.search(body) is not None


def _whole_nrrd(body: bytes | bytearray) -> bool:
    """Whether an NRRD names no file before the first blank line, where its header ends at last."""
    end = body.find(b"\n\n")
    return NRRD_FIELD.search(body, 0, len(body) if end < 0 else end) is None
