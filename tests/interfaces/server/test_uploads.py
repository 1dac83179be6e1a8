"""Files of clients that name other files are refused; those that hold their voxels are read."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from live import post, serving
from tiny import tiny_volume

from segvol_gru.data.io import read_mask, write_mask
from segvol_gru.errors import InputError
from segvol_gru.interfaces.client import RemoteSession
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.uploads import FileFormat, uploaded
from segvol_gru.interfaces.wire import API
from segvol_gru.volume import Volume

META = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
SECRET = b"secret!!"
NAMING: list[tuple[FileFormat, str]] = [
    ("mha", META + "ElementDataFile = {}\n"),
    ("mha", META + "  ElementDataFile: {}\n"),
    ("mha", META + "ElementDataFile = LIST\n{}\n{}\n"),
    ("mha", META + "ElementDataFile = {}\nElementDataFile = LOCAL\n12345678"),
    ("mha", META + "Comment = ElementDataFile = LOCAL\nElementDataFile = {}\n"),
    ("nrrd", NRRD + "data file: {}\n\n"),
    ("nrrd", NRRD + "data file: {}\n"),
    ("nrrd", NRRD + "DataFile: {}\n\n"),
    ("nrrd", NRRD.replace("\n", "\r") + "data file: {}\r\r"),
    ("nrrd", NRRD.replace("\n", "\r\n") + "data file: {}\r\n\r\n"),
]


@pytest.mark.parametrize(("kind", "text"), NAMING)
def test_no_file_of_the_server_is_read(
    address: str, tmp_path: Path, kind: FileFormat, text: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    body = text.format(secret, secret).encode()
    begun = post(f"{address}{API}/sessions/file", params={"format": kind}, content=body)
    assert_refused(begun)
    with RemoteSession(tiny_volume(), address) as session:
        path = f"{address}{API}/sessions/{session.id}/reference"
        assert_refused(post(path, params={"format": kind}, content=body))


def assert_refused(reply: httpx.Response) -> None:
    assert reply.status_code == 400, reply.text
    assert "does not hold its voxels" in reply.json()["detail"]


@pytest.mark.parametrize("kind", ["mha", "nrrd", "nii", "nii.gz"])
def test_a_file_that_holds_its_voxels_is_read(tmp_path: Path, kind: FileFormat) -> None:
    volume = tiny_volume()
    mask = volume.array > 45
    write_mask(tmp_path / f"mask.{kind}", mask, volume)
    with uploaded((tmp_path / f"mask.{kind}").read_bytes(), kind, "upload") as path:
        np.testing.assert_array_equal(read_mask(path, volume), mask)
    assert not path.exists()


def test_a_file_of_another_format_is_not_read_under_a_false_name(address: str) -> None:
    body = (NRRD + "\n12345678").encode()
    reply = post(f"{address}{API}/sessions/file", params={"format": "mha"}, content=body)
    assert reply.status_code == 400
    with (
        pytest.raises(InputError, match="does not hold"),
        uploaded(body, "mha", "upload"),
    ):
        pass


@pytest.mark.parametrize("kind", ["mha", "nrrd", "nii", "nii.gz"])
def test_an_image_that_grows_in_memory_is_refused_before_it_does(
    tmp_path: Path, kind: FileFormat
) -> None:
    side = 60
    volume = Volume(np.zeros((side,) * 3, np.uint8), (1.0, 1.0, 1.0))
    write_mask(tmp_path / f"large.{kind}", volume.array.astype(bool), volume)
    body = (tmp_path / f"large.{kind}").read_bytes()
    limits = Limits(max_upload_bytes=side**3 - 1)
    with serving(tmp_path / "store", limits) as address:
        reply = post(f"{address}{API}/sessions/file", params={"format": kind}, content=body)
    assert reply.status_code == 400
    assert f"takes {side**3} bytes in memory" in reply.json()["detail"]
