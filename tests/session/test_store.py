from __future__ import annotations

import errno
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_volume

from segvol_gru.data.preprocess import Window
from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.pretrained import save_network
from segvol_gru.prompts import Box, Click
from segvol_gru.region import Region
from segvol_gru.session import blobs as blobs_module
from segvol_gru.session import records, store
from segvol_gru.session.blobs import Blobs, Place
from segvol_gru.session.log import Add, Event, Prompted
from segvol_gru.session.records import EVENTS, HEADER, VOXELS, Migration, dump_record
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

LO, HI = (3, 4, 4), (8, 13, 12)
GOLDEN = Path(__file__).with_name("format-1.session")
Json = dict[str, Any]


@pytest.fixture
def saved(session: Session, tmp_path: Path) -> Path:
    session.box(LO, HI)
    session.click((6, 9, 8))
    session.click((1, 1, 1), positive=False)
    session.undo()
    session.add_object("vessel")
    session.start(tiny_volume().array > 40)
    session.save(tmp_path / "case.session")
    return tmp_path / "case.session"


def rewrite(path: Path, name: str, data: bytes) -> None:
    """Put other bytes into a member of a session file."""
    with zipfile.ZipFile(path) as archive:
        members = {n: archive.read(n) for n in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, old in members.items():
            archive.writestr(member, data if member == name else old)


def test_a_loaded_session_goes_on_as_if_nothing_had_happened(
    session: Session, saved: Path, model: Model
) -> None:
    with Session.load(saved, model) as loaded:
        assert loaded._ledger.scene == session._ledger.scene
        assert loaded.history == session.history
        assert np.array_equal(loaded.volume.array, session.volume.array)
        assert np.array_equal(loaded.volume.affine, session.volume.affine)
        for live in (session, loaded):
            live.select("object 1")
            live.redo()
            live.click((6, 10, 8))
        assert loaded._ledger.scene == session._ledger.scene
        assert np.array_equal(loaded.probability, session.probability)


def test_format_1_is_read(model: Model) -> None:
    """Figures as printed by golden.py when the file was written."""
    with Session.load(GOLDEN, model) as session:
        assert session.objects == ("object 1", "ball")
        assert session.current == "object 1"
        assert session.history == (Box(LO, HI), Click((6, 9, 8), False))
        mask = session.mask
        assert mask.sum() == 752
        assert np.argwhere(mask).mean(0) == pytest.approx([6.027, 8.765, 8.657], abs=1e-3)
        assert np.array_equal(session.mask_of("ball"), tiny_volume().array > 30)
        assert np.array_equal(session.volume.array, tiny_volume().array)
        assert session.undo().sum() == 320
        assert np.array_equal(session.redo(), mask)
        assert session.click((0, 0, 0))[0, 0, 0]


def older(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that format 2 calls every object '<name>!' and knows the modality."""

    def header(old: Json) -> Json:
        return {**old, "modality": "MR"}

    def command(old: Json) -> Json:
        return {**old, "name": old["name"] + "!"}

    monkeypatch.setattr(records, "VERSION", 2)
    monkeypatch.setitem(records.MIGRATIONS, 1, Migration(header, command))


def test_a_file_of_an_older_format_is_migrated(
    model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    older(monkeypatch)
    with Session.load(GOLDEN, model) as session:
        assert session.objects == ("object 1!", "ball!")
        assert session.volume.modality == "MR"
        assert session.mask.sum() == 752
        session.save(tmp_path / "new.session")
    with Session.load(tmp_path / "new.session", model) as session:
        assert session.objects == ("object 1!", "ball!")


def test_a_journal_of_an_older_format_is_gone_on_with(
    volume: Volume, model: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Session(volume, model, journal=tmp_path / "j") as session:
        session.box(LO, HI)
    older(monkeypatch)
    with Session.resume(tmp_path / "j", model) as session:
        assert session.objects == ("object 1!",)
        session.add_object("new")
    with Session.resume(tmp_path / "j", model) as session:
        assert session.objects == ("object 1!", "new")
        assert session.volume.modality == "MR"


def test_a_file_of_a_later_format_is_refused(saved: Path, model: Model) -> None:
    with zipfile.ZipFile(saved) as archive:
        header = json.loads(archive.read(HEADER))
    rewrite(saved, HEADER, json.dumps({**header, "version": 99}).encode())
    with pytest.raises(InputError, match="newer release"):
        Session.load(saved, model)


def test_the_model_is_found_by_its_folder(volume: Volume, model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name, network in (("base", model.base), ("field", model.corrector)):
        save_network(folder / f"{name}.safetensors", network, network.config.to_dict(), "card")
    with Session(volume, folder, journal=tmp_path / "j") as session:
        session.box(LO, HI)
        session.save(tmp_path / "a.session")
        mask = session.click((6, 9, 8))
    with Session.load(tmp_path / "a.session") as loaded, Session.resume(tmp_path / "j") as resumed:
        assert np.array_equal(loaded.click((6, 9, 8)), mask)
        assert np.array_equal(resumed.mask, mask)
        assert loaded.model.digest == resumed.model.digest
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="no folder"):
        Session.load(tmp_path / "a.session")


def test_a_model_from_memory_must_be_given_again(saved: Path) -> None:
    with pytest.raises(InputError, match="pass it as `model`"):
        Session.load(saved)


def test_a_file_is_replaced_whole_or_not_at_all(
    session: Session, saved: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    before = saved.read_bytes()
    session.click((2, 2, 2))
    monkeypatch.setattr(store.os, "fsync", broken)
    with pytest.raises(InputError, match="the disk is gone"):
        session.save(saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]
    monkeypatch.undo()
    session.save(saved)
    with Session.load(saved, model) as loaded:
        assert loaded.history == session.history


def test_the_volume_is_not_copied(session: Session, volume: Volume) -> None:
    session.box(LO, HI)
    assert session.volume is volume
    assert session._engine._scan(session._engine.fixed or (0, 1)).array is volume.array


def test_damage_is_refused_or_harmless(session: Session, saved: Path, model: Model) -> None:
    """A file with a few other bytes is refused, or shows the very masks that were saved."""
    rng, refused = np.random.default_rng(0), 0
    whole, masks = saved.read_bytes(), [session.mask_of(name) for name in session.objects]
    for number in range(150):
        damaged = bytearray(whole)
        if number % 3:
            damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        else:
            del damaged[rng.integers(len(whole)) :]
        saved.write_bytes(damaged)
        try:
            with Session.load(saved, model) as loaded:
                assert all(map(np.array_equal, map(loaded.mask_of, loaded.objects), masks))
        except InputError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("member", "data"),
    [
        (HEADER, b"{}"),
        (HEADER, b"[" * 10**5),
        (HEADER, b"\xff"),
        (VOXELS, b"few"),
        (EVENTS, b""),
        (EVENTS, b"SGRU" * 100),
        ("unknown", b""),
    ],
)
def test_strange_members_are_refused(saved: Path, model: Model, member: str, data: bytes) -> None:
    if member == "unknown":
        with zipfile.ZipFile(saved, "w") as archive:
            archive.writestr(member, data)
    else:
        rewrite(saved, member, data)
    with pytest.raises(InputError):
        Session.load(saved, model)


@pytest.mark.parametrize(
    ("key", "value"),
    [("dtype", "|O"), ("dtype", "nonsense"), ("dtype", "<M8[s]"), ("corrector", 5), ("grid", {})],
)
def test_a_strange_header_is_refused(saved: Path, model: Model, key: str, value: object) -> None:
    with zipfile.ZipFile(saved) as archive:
        header = json.loads(archive.read(HEADER))
    rewrite(saved, HEADER, json.dumps({**header, key: value}).encode())
    with pytest.raises(InputError):
        Session.load(saved, model)


def test_a_volume_that_claims_absurd_memory_is_refused(saved: Path, model: Model) -> None:
    with zipfile.ZipFile(saved) as archive:
        header = json.loads(archive.read(HEADER))
    header["grid"]["shape"] = [10**5, 10**5, 10**5]
    rewrite(saved, HEADER, json.dumps(header).encode())
    with pytest.raises(InputError):
        Session.load(saved, model)


def test_states_that_do_not_fit_the_volume_are_refused(
    session: Session, saved: Path, model: Model
) -> None:
    session.select("object 1")
    good = session._current.result
    assert good is not None
    blobs = session._ledger.blobs
    keys = {array.key for array in good.arrays}
    far = Region((0, 0, 0), (99, 9, 9))
    for bad in (
        replace(good, region=far),
        replace(good, window=far),
        replace(good, layers=()),
        replace(good, clicks=(Click((99, 0, 0), True),)),
        replace(good, mask=good.logits),
        replace(good, logits=replace(good.logits, shape=(1, 1, 4))),
        replace(good, memory=replace(good.memory, key="0" * 32)),
    ):
        events = b""
        for command in (Add("a", 1), Prompted("a", Event(Box(LO, HI), bad))):
            held = [blobs.get(key) for key in keys] if isinstance(command, Prompted) else []
            events += b"".join(dump_record(command, held)[0])
        rewrite(saved, EVENTS, events)
        with zipfile.ZipFile(saved) as archive:
            header = json.loads(archive.read(HEADER))
        rewrite(saved, HEADER, json.dumps({**header, "records": 2}).encode())
        with pytest.raises(InputError, match="damaged"):
            Session.load(saved, model)


def test_no_such_file_is_said_so(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        Session.load(tmp_path / "none.session", model)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InputError, match="cannot read"):
        Session.load(tmp_path / "text", model)


def test_blobs_beyond_the_budget_come_back_from_disk() -> None:
    blobs = Blobs(budget=100)
    data = [bytes([n]) * 60 for n in range(5)]
    keys = [blobs.put(piece) for piece in data]
    assert [blobs.put(piece) for piece in data] == keys
    assert len(blobs._held) == 1
    assert [blobs.get(key) for key in keys] == data
    blobs.keep_only(keys[:1])
    assert keys[0] in blobs
    assert keys[1] not in blobs
    assert blobs.get(keys[0]) == data[0]
    blobs.close()


class Disk(io.FileIO):
    """A file on a disk that may have little room left; it gives its bytes in pieces."""

    room = 10**9

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = super().write(data[: self.room])
        self.room -= count
        return count

    def read(self, size: int | None = -1) -> bytes:
        return super().read(max(1, size // 2)) if size else b""


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Disk]:
    with Disk(tmp_path / "overflow", "w+b") as file:
        monkeypatch.setattr(blobs_module.tempfile, "TemporaryFile", lambda **_: file)
        yield file


@pytest.mark.parametrize("journal", [False, True])
def test_a_full_temporary_disk_refuses_the_prompt_and_loses_nothing(
    volume: Volume, model: Model, disk: Disk, tmp_path: Path, journal: bool
) -> None:
    folder = tmp_path / "j" if journal else None
    with Session(volume, model, journal=folder, undo_memory_mb=0) as session:
        masks = [session.box(LO, HI), session.click((6, 9, 8)), session.click((6, 9, 9))]
        scene, blobs = session._ledger.scene, session._ledger.blobs
        stored = {*blobs._held, *blobs._places}
        for room in (0, 100, 5000):
            disk.room = room
            with pytest.raises(InputError, match="No space left on device"):
                session.click((1, 1, 1), positive=False)
            assert session._ledger.scene == scene
            assert {*blobs._held, *blobs._places} == stored
        assert all(map(np.array_equal, map(session.mask_at, (1, 2, 3)), masks))
        session.save(tmp_path / "full.session")
        assert np.array_equal(session.undo(), masks[1])
        session.redo()
        disk.room = 10**9
        after = session.click((1, 1, 1), positive=False)
        assert np.array_equal(session.mask_at(1), masks[0])
    with Session.load(tmp_path / "full.session", model) as loaded:
        assert all(map(np.array_equal, map(loaded.mask_at, (1, 2, 3)), masks))
        assert np.array_equal(loaded.click((1, 1, 1), positive=False), after)


def test_no_place_for_a_temporary_file_is_said_so(
    volume: Volume, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(**_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(blobs_module.tempfile, "TemporaryFile", none)
    with Session(volume, model, undo_memory_mb=0) as session:
        with pytest.raises(InputError, match="No usable temporary directory"):
            session.box(LO, HI)
        assert not session.history


def test_bytes_that_come_in_pieces_are_put_together(disk: Disk) -> None:
    disk.write(b"0123456789")
    assert Place(disk, 2, 6).read() == b"234567"
    with pytest.raises(InputError, match="cut off"):
        Place(disk, 5, 6).read()


@pytest.mark.parametrize("kind", [Window, lambda *ends: ends, lambda *ends: list(ends)])
def test_a_window_in_any_numbers_is_saved(model: Model, tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "case.session"
    window = kind(np.float32(10), np.float32(60)) if kind is Window else kind(10.0, 60.0)
    with Session(tiny_volume(), model, window=window) as session:
        mask = session.box(LO, HI)
        session.save(path)
    with Session.load(path, model) as loaded:
        np.testing.assert_array_equal(loaded.mask, mask)
