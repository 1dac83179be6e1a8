"""What `RemoteSession` keeps of an image, and what becomes of wrong arguments and other servers."""

from __future__ import annotations

import base64
import http.server
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from live import get, post
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.data.io import read_volume, write_mask
from segvol_gru.errors import InputError
from segvol_gru.interfaces.client import RemoteSession, ServerError
from segvol_gru.interfaces.connection import Connection
from segvol_gru.interfaces.wire import API, HEADER_LIMIT
from segvol_gru.interfaces.wire_arrays import pack, unpack
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

ONLY_NEAR = {"find", "load", "model", "resume"}  # as docs/server.md says
DOCS = Path(__file__).parents[3] / "docs" / "server.md"


@pytest.fixture
def remote(address: str) -> Iterator[RemoteSession]:
    with RemoteSession(tiny_volume(), address) as session:
        yield session


@pytest.fixture(params=["nii.gz", "nrrd", "mha"])
def scan(request: pytest.FixtureRequest, tmp_path: Path, image: Path) -> Volume:
    """An image whose file says more of itself than an affine."""
    if request.param == "nii.gz":
        made = nib.load(image)
        made.header["descrip"] = b"mine"
        made.set_sform(made.affine, code="mni")
        nib.save(made, image)
        return read_volume(image)
    volume = read_volume(image)
    write_mask(tmp_path / f"scan.{request.param}", volume.array, volume)
    return read_volume(tmp_path / f"scan.{request.param}")


def test_the_header_of_a_file_goes_there_and_back(
    scan: Volume, address: str, tmp_path: Path
) -> None:
    assert scan.grid.header is not None
    with RemoteSession(scan, address) as session:
        session.save(tmp_path / "case.session")
        with RemoteSession.join(address, session.id) as joined:
            assert joined.volume.grid.header == scan.grid.header
        sent = get(f"{address}{API}/sessions/{session.id}/export?format=nii.gz&what=mask")
    with Session.load(tmp_path / "case.session", tiny_model(), device="cpu") as opened:
        assert opened.volume.grid.header == scan.grid.header
    write_mask(tmp_path / "near.nii.gz", np.zeros(scan.shape, bool), scan)
    assert sent.content == (tmp_path / "near.nii.gz").read_bytes()


def begin(address: str, header: object, **more: object) -> tuple[int, str]:
    """Begin a session as another program does; the status, and the id or why not."""
    text = {"spacing": [2, 1, 1], "header": header, **more}
    said = post(f"{address}{API}/sessions", content=pack(tiny_volume().array, text, image=True))
    return said.status_code, said.json().get("id") or said.json()["detail"]


@pytest.mark.parametrize(
    "header",
    [
        "nifti",
        {"kind": "nifti"},
        {"kind": "dicom", "raw": ""},
        {"kind": "nifti", "raw": 5},
        {"kind": "nifti", "raw": "A"},
        {"kind": "nifti", "raw": ""},
        {"kind": "nifti", "raw": base64.b64encode(bytes(HEADER_LIMIT + 1)).decode()},
        {"kind": "nrrd", "raw": base64.b64encode(b'{"data file": "/etc/passwd"}').decode()},
        {"kind": "itk", "raw": base64.b64encode(b"[").decode()},
    ],
)
def test_a_header_that_is_none_is_refused_and_no_session_is_left(
    address: str, header: object
) -> None:
    status, words = begin(address, header)
    assert (status, "header" in words) == (400, True)
    assert get(f"{address}/health").json()["sessions"] == 0


def test_a_program_that_sends_no_header_goes_on_as_before(address: str) -> None:
    for header in ({}, {"header": None}):
        text = {"spacing": [2, 1, 1], **header}
        body = pack(tiny_volume().array, text, image=True)
        said = post(f"{address}{API}/sessions", content=body)
        assert said.status_code == 201, said.text
        sent = get(f"{address}{API}/sessions/{said.json()['id']}/image")
        assert unpack(sent.content, 10**6)[1]["header"] is None


def test_it_has_the_methods_of_a_session_but_those_that_the_docs_name(
    remote: RemoteSession,
) -> None:
    names = {name for name, _ in inspect.getmembers(Session) if not name.startswith("_")}
    assert {name for name in names if not hasattr(remote, name)} == ONLY_NEAR
    words = DOCS.read_text(encoding="utf-8")
    assert all(f"`{name}`" in words for name in ONLY_NEAR)


def test_masks_of_the_past_are_those_of_a_session(remote: RemoteSession) -> None:
    with Session(tiny_volume(), tiny_model(), device="cpu") as near:
        for session in (near, remote):
            session.box((3, 4, 4), (8, 13, 12))
            session.click((6, 9, 8))
            session.undo()
        for step in range(3):
            np.testing.assert_array_equal(near.mask_at(step), remote.mask_at(np.int64(step)))


def test_every_array_may_be_written_to(remote: RemoteSession, address: str) -> None:
    remote.start(np.ones(SHAPE, bool))
    with RemoteSession.join(address, remote.id) as joined:
        image = joined.volume.array
    for array in (remote.mask, remote.mask_at(1), remote.label_map(), remote.probability, image):
        assert array.flags.writeable
        assert array.flags.aligned


@pytest.mark.parametrize(
    ("say", "words"),
    [
        *((lambda s, step=step: s.jump(step), "step is") for step in (1.0, "1", 1.5, None)),
        *((lambda s, step=step: s.mask_at(step), "step is") for step in (1.0, "1", None, 7)),
        (lambda s: s.mask_at(-1), "step"),
        (lambda s: s.add_object(5), "name is 5"),
        (lambda s: s.add_object("\ud800"), "name is"),
        (lambda s: s.select(None), "None"),
        (lambda s: s.mask_of(5), "5"),
        (lambda s: s.mask_of("\ud800"), "ud800"),
        (lambda s: s.rename_object("object 1", 3), "name is 3"),
        (lambda s: s.remove_object(b"object 1"), "b'object 1'"),
    ],
)
def test_a_wrong_argument_is_an_input_error_near_and_far(
    remote: RemoteSession, say: Callable[[object], object], words: str
) -> None:
    with Session(tiny_volume(), tiny_model(), device="cpu") as near:
        for session in (near, remote):
            session.start(tiny_volume().array > 45)
            with pytest.raises(InputError, match=words):
                say(session)
            assert (session.cursor, session.objects) == (1, ("object 1",))
            session.reset()
            session.undo()


@pytest.mark.parametrize(
    "window", [(np.float32(0), np.float32(9)), (5, 1), (1,), "foggy", b"lung", None, {"lo": 1}]
)
def test_a_window_that_is_none_is_an_input_error_near_and_far(address: str, window: object) -> None:
    for begin in (
        lambda: Session(tiny_volume(), tiny_model(), device="cpu", window=window),
        lambda: RemoteSession(tiny_volume(), address, window=window),
    ):
        with pytest.raises(InputError, match="window"):
            begin()


def test_what_is_no_volume_address_key_or_id_is_an_input_error(address: str) -> None:
    for begin, words in (
        (lambda: RemoteSession(tiny_volume().array, address), "volume is a ndarray"),
        (lambda: RemoteSession(tiny_volume(), "http://h:port"), "server is 'http://h:port'"),
        (lambda: RemoteSession(tiny_volume(), address, api_key="Schlüssel"), "api_key"),
        (lambda: RemoteSession.join("http://h:port", "x"), "server is 'http://h:port'"),
        (lambda: RemoteSession.join(address, "\ud800"), "session is"),
        (lambda: RemoteSession.join(address, 5), "session is 5"),
    ):
        with pytest.raises(InputError, match=words):
            begin()


@pytest.fixture(params=[b"<html>", b'{"id": 5}', b"[]", b"null", b"\xff"])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that answers 200 with something else."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-length", str(len(request.param)))
            self.end_headers()
            self.wfile.write(request.param)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_another_server_is_a_server_error_and_the_connection_is_closed(
    stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Connection] = []
    close = Connection.close

    def noted(self: Connection) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr(Connection, "close", noted)
    for begin in (
        lambda: RemoteSession(tiny_volume(), stranger),
        lambda: RemoteSession.join(stranger, "x"),
    ):
        with pytest.raises(ServerError, match="no server of segvol-gru"):
            begin()
    assert len(closed) == 2
    connection = Connection(stranger, None)
    with pytest.raises(ServerError, match="no server of segvol-gru"):
        connection.array("GET", "/mask")
    connection.close()
