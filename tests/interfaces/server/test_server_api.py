"""Our own API by `RemoteSession` and by hand: parity, refusals, places, files."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from live import Clock, get, post, serving
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.data.io import read_mask
from segvol_gru.errors import InputError
from segvol_gru.interfaces.client import RemoteSession, ServerError
from segvol_gru.interfaces.server.guard import LOOPBACK, Gate
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.wire import API, Seed, SessionLike
from segvol_gru.interfaces.wire_arrays import pack, unpack
from segvol_gru.prompts import Box, Click
from segvol_gru.session.session import Session

BOX = ((3, 4, 4), (8, 13, 12))


@pytest.fixture
def local() -> Iterator[Session]:
    with Session(tiny_volume(), tiny_model(), device="cpu") as session:
        yield session


@pytest.fixture
def remote(address: str) -> Iterator[RemoteSession]:
    with RemoteSession(tiny_volume(), address) as session:
        yield session


def same(near: SessionLike, far: SessionLike) -> None:
    """Everything that a session shows, to the bit."""
    assert near.objects == far.objects
    assert near.labels == far.labels
    assert (near.current, near.cursor) == (far.current, far.cursor)
    assert (near.can_undo, near.can_redo) == (far.can_undo, far.can_redo)
    assert near.suggest() == far.suggest()
    for here, there in (
        (near.mask, far.mask),
        (near.label_map(), far.label_map()),
        (near.probability, far.probability),
        *((near.mask_of(name), far.mask_of(name)) for name in near.objects),
    ):
        assert here.dtype == there.dtype
        np.testing.assert_array_equal(here, there)


def test_a_remote_session_is_a_session(local: Session, remote: RemoteSession) -> None:
    same(local, remote)
    steps = (
        lambda s: s.box(*BOX),
        lambda s: s.click((6, 9, 8)),
        lambda s: s.click((1.0, 1.0, 1.0), positive=False),
        lambda s: s.undo(),
        lambda s: s.redo(),
        lambda s: s.jump(1),
        lambda s: s.add_object("vessel / 2?"),
        lambda s: s.start(tiny_volume().array > 45),
        lambda s: s.click(tiny_volume().to_world((2, 3, 4)), frame="ras"),
        lambda s: s.reset(),
        lambda s: s.undo(),
        lambda s: s.rename_object("vessel / 2?", "vessel"),
        lambda s: s.add_object("third"),
        lambda s: s.prompt(Box(*BOX, (True, False, False))),
        lambda s: s.prompt(Click((2, 2, 2), positive=True)),
        lambda s: s.select("object 1"),
        lambda s: s.remove_object("third"),
        lambda s: s.box((6, 4, 4), (6, 13, 12)),
        lambda s: s.box((6, 4, 4), (6, 13, 12), lift=False),
    )
    for step in steps:
        here, there = step(local), step(remote)
        assert (here is None) == (there is None)
        if here is not None:
            np.testing.assert_array_equal(here, there)
        same(local, remote)
    assert remote.history == local.history
    local.select("vessel")
    remote.select("vessel")
    assert remote.history[0] == Seed(int((tiny_volume().array > 45).sum()))
    assert remote.history[1:] == local.history[1:]


def test_other_programs_may_use_millimetres_and_slices(
    local: Session, remote: RemoteSession, address: str
) -> None:
    path = f"{address}{API}/sessions/{remote.id}"
    low, high = (tiny_volume().to_world(corner).tolist() for corner in BOX)
    for ask, expected in (
        ({"lo": low, "hi": high, "frame": "ras"}, local.box(*BOX)),
        ({"lo": [6, 4, 4], "hi": [6, 13, 12]}, local.box((6, 4, 4), (6, 13, 12))),
        (
            {"lo": [6, 4, 4], "hi": [6, 13, 12], "lift": False},
            local.box((6, 4, 4), (6, 13, 12), lift=False),
        ),
    ):
        sent = post(f"{path}/box", json=ask)
        np.testing.assert_array_equal(unpack(sent.content, 10**6)[0], expected)
    at = tiny_volume().to_world((6, 9, 8)).tolist()
    sent = post(f"{path}/click", json={"at": at, "positive": False, "frame": "ras"})
    np.testing.assert_array_equal(
        unpack(sent.content, 10**6)[0], local.click((6, 9, 8), positive=False)
    )
    assert post(f"{path}/click", json={"at": [99, 1, 1]}).status_code == 400


def test_a_session_saved_from_afar_opens_here(remote: RemoteSession, tmp_path: Path) -> None:
    mask = remote.box(*BOX)
    remote.save(tmp_path / "case.session")
    with Session.load(tmp_path / "case.session", tiny_model(), device="cpu") as opened:
        np.testing.assert_array_equal(opened.mask, mask)
        assert opened.history == remote.history


def test_joining_goes_on_with_the_same_session(remote: RemoteSession, address: str) -> None:
    mask = remote.box(*BOX)
    with RemoteSession.join(address, remote.id) as joined:
        np.testing.assert_array_equal(joined.mask, mask)
        np.testing.assert_array_equal(joined.volume.array, tiny_volume().array)
        np.testing.assert_array_equal(joined.volume.affine, tiny_volume().affine)
        joined.end()
    with pytest.raises(ServerError, match="no such session"):
        remote.undo()


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (lambda s: s.box((8, 4, 4), (3, 13, 12)), "smaller corner"),
        (lambda s: s.click((99, 1, 1)), "outside the volume"),
        (lambda s: s.click((float("nan"), 1, 1)), "finite"),
        (lambda s: s.click((1, 1)), "three numbers"),
        (lambda s: s.click((1, 1, 1), positive=1), "wanted True"),
        (lambda s: s.prompt("box"), "wanted a Box or a Click"),
        (lambda s: s.undo(), "no step to undo"),
        (lambda s: s.redo(), "no step to redo"),
        (lambda s: s.jump(7), "step 7"),
        (lambda s: s.select("nobody"), "no object 'nobody'"),
        (lambda s: s.add_object(""), "a word or two"),
        (lambda s: s.remove_object("object 1"), "only object"),
        (lambda s: s.mask_of("no/body"), "no object 'no/body'"),
        (lambda s: s.start(np.zeros(SHAPE, bool)), "empty"),
    ],
)
def test_a_refused_prompt_is_an_input_error_near_and_far(
    local: Session, remote: RemoteSession, say: object, words: str
) -> None:
    for session in (local, remote):
        with pytest.raises(InputError, match=words):
            say(session)  # type: ignore[operator]
    same(local, remote)


def test_an_image_file_is_taken_and_given_back(address: str, image: Path, tmp_path: Path) -> None:
    begun = post(
        f"{address}{API}/sessions/file", params={"format": "nii.gz"}, content=image.read_bytes()
    )
    assert begun.status_code == 201, begun.text
    path = f"{address}{API}/sessions/{begun.json()['id']}"
    assert begun.json()["shape"] == [22, 26, 30]
    box = {"lo": [5, 5, 5], "hi": [14, 14, 14]}
    assert post(f"{path}/box", json=box).status_code == 200
    for what in ("mask", "labels", "probability"):
        sent = get(f"{path}/export", params={"what": what, "format": "nii.gz"})
        (tmp_path / f"{what}.nii.gz").write_bytes(sent.content)
        given = nib.load(tmp_path / f"{what}.nii.gz")
        np.testing.assert_array_equal(given.affine, nib.load(image).affine)
    assert read_mask(tmp_path / "mask.nii.gz").any()


@pytest.mark.parametrize("content", [b"", b"not a file", b"\x1f\x8b" + b"\0" * 40])
def test_a_damaged_file_is_refused_without_a_path_of_this_machine(
    address: str, content: bytes
) -> None:
    for kind in ("nii", "nii.gz", "nrrd", "mha"):
        said = post(f"{address}{API}/sessions/file", params={"format": kind}, content=content)
        assert said.status_code == 400, said.text
        assert "/" not in said.json()["detail"].replace("n/a", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SGVA",
        b"SGVA\x02\0\x02\0\0\0{}",
        b"SGVA\x01\0\x02\0\0\0{}",
        b"SGVA\x01\0\x04\0\0\0null",
        b"SGVA\x01\0\xff\xff\xff\x7f{}",
        pack(tiny_volume().array, {"spacing": [1, 1, 1]}, image=True)[:-1],
        pack(tiny_volume().array, image=True),
        pack(tiny_volume().array, {"spacing": [1, 1, 1], "window": [5]}, image=True),
        pack(tiny_volume().array, {"spacing": [1, 1, 1], "window": "foggy"}, image=True),
        pack(tiny_volume().array, {"spacing": [1, 1, 0]}, image=True),
        pack(tiny_volume().array, {"spacing": [1, 1, 1], "modality": 7}, image=True),
        pack(tiny_volume().array, {"affine": [[1]]}, image=True),
        pack(tiny_volume().array, {"affine": "north"}, image=True),
    ],
)
def test_a_damaged_array_is_refused(address: str, body: bytes) -> None:
    said = post(f"{address}{API}/sessions", content=body)
    assert said.status_code == 400, said.text
    assert get(f"{address}/health").json()["sessions"] == 0


@pytest.mark.parametrize(
    "ask",
    [
        {"lo": [1, 1, 1]},
        {"lo": [1, 1, 1], "hi": [2, 2, "x"]},
        {"lo": [1, 1, 1], "hi": [2, 2, 2], "depth": 3},
        [],
    ],
)
def test_a_request_of_another_form_is_422_with_a_sentence(
    remote: RemoteSession, address: str, ask: object
) -> None:
    said = post(f"{address}{API}/sessions/{remote.id}/box", json=ask)
    assert said.status_code == 422
    assert isinstance(said.json()["detail"], str)
    not_a_number = b'{"lo": [NaN, 1, 1], "hi": [1e999, 1, 1]}'
    headers = {"Content-Type": "application/json"}
    said = post(f"{address}{API}/sessions/{remote.id}/box", content=not_a_number, headers=headers)
    assert said.status_code == 422


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    limits = Limits(max_upload_bytes=5000)
    with serving(tmp_path, limits, Gate(max_upload_bytes=5000)) as address:
        assert post(f"{address}{API}/sessions", content=bytes(6000)).status_code == 413
        pieces = iter([bytes(3000)] * 3)
        assert post(f"{address}{API}/sessions", content=pieces).status_code == 413
        said = post(f"{address}/set_do_autozoom", json={"do_autozoom": "y" * 2_000_000})
        assert said.status_code == 413
        zeros = pack(np.zeros((99, 99, 99), np.uint8), {"spacing": [1, 1, 1]}, image=False)
        assert post(f"{address}{API}/sessions", content=zeros).status_code == 400


def test_a_key_is_asked_for_where_there_is_one(tmp_path: Path) -> None:
    with serving(tmp_path, gate=Gate(api_key="sesame")) as address:
        assert get(f"{address}/health").status_code == 200
        assert get(f"{address}/metrics").status_code == 401
        with pytest.raises(ServerError, match="API key"):
            RemoteSession(tiny_volume(), address, api_key="Sesame")
        with RemoteSession(tiny_volume(), address, api_key="sesame") as session:
            assert session.box(*BOX).shape == SHAPE


def test_pages_of_other_sites_are_kept_out(address: str) -> None:
    def status(**headers: str) -> int:
        return get(f"{address}/health", headers=headers).status_code

    assert status(Origin=address) == 200
    assert status(Origin="http://evil.example") == 403
    assert status(Origin="null") == 403
    assert status(Host="evil.example") == 403  # a name that was made to point to this machine
    assert status(Host="[::1") == 403
    assert Gate(hosts=LOOPBACK | {"clinic"}).hosts


def test_sessions_that_lapse_give_their_place_and_come_back(tmp_path: Path) -> None:
    clock = Clock()
    with (
        serving(tmp_path, Limits(max_sessions=1, idle_s=100), clock=clock) as address,
        RemoteSession(tiny_volume(), address) as first,
    ):
        mask = first.box(*BOX)
        clock.now = 99
        with pytest.raises(ServerError, match="HTTP 503"):
            RemoteSession(tiny_volume(1), address)
        clock.now = 100
        with RemoteSession(tiny_volume(1), address) as second:
            other = second.box(*BOX)
            clock.now = 200
            np.testing.assert_array_equal(first.mask, mask)
            clock.now = 300
            np.testing.assert_array_equal(second.mask, other)
        assert get(f"{address}/health").json()["sessions"] == 1


def test_memory_is_capped(tmp_path: Path) -> None:
    with (
        serving(tmp_path, Limits(max_bytes=10_000)) as address,
        RemoteSession(tiny_volume(), address),
    ):
        with pytest.raises(ServerError, match="HTTP 503"):
            RemoteSession(tiny_volume(1), address)
        assert get(f"{address}/health").json()["sessions"] == 1


def test_the_disk_is_capped(tmp_path: Path) -> None:
    with serving(tmp_path, Limits(max_store_bytes=10_000, max_records=1)) as address:
        with RemoteSession(tiny_volume(), address) as session:
            with pytest.raises(ServerError, match="which is the limit"):
                RemoteSession(tiny_volume(1), address)
            session.end()
        assert not list((tmp_path / "journals").iterdir())


def test_users_side_by_side_do_not_mix(address: str) -> None:
    """Each of eight gets the masks that it would get alone; the server answers meanwhile."""
    wrong: list[int] = []
    model = tiny_model()  # drawn here: the random state is one for all threads

    def use(seed: int) -> None:
        volume = tiny_volume(seed)
        with (
            RemoteSession(volume, address) as far,
            Session(volume, model, device="cpu") as near,
        ):
            for say in (
                lambda s: s.box(*BOX),
                lambda s: s.click((6, 9, 8)),
                lambda s: s.undo(),
                lambda s: s.click((seed, 2, 2)),
            ):
                wrong.extend([seed] * (not np.array_equal(say(near), say(far))))

    users = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        assert get(f"{address}/health").status_code == 200
    assert wrong == []


def test_metrics_name_routes_and_never_sessions(remote: RemoteSession, address: str) -> None:
    remote.box(*BOX)
    text = get(f"{address}/metrics").text
    assert f'route="{API}/sessions/{{session}}/box",status="200"}} 1' in text
    assert "segvol_gru_prompt_seconds_count 1" in text
    assert "segvol_gru_sessions_open 1" in text
    assert remote.id not in text


def test_the_client_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "import segvol_gru.interfaces.client, segvol_gru.interfaces.wire_nninteractive\n"
        "print([m for m in ('torch', 'fastapi', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_that_is_none_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="is the server running"):
        RemoteSession(tiny_volume(), "127.0.0.1:9")
