"""Journals that are written anew when more of them was dropped than counts."""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.session import journal as journal_module
from segvol_gru.session.records import EVENTS, HEADER, VOXELS
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

PART = f"{EVENTS}.part"


def drop_much(session: Session) -> None:
    """Prompt and take back, so that far more is dropped than counts in the end."""
    session.box((3, 4, 4), (8, 13, 12))
    for z in range(3, 9):
        session.click((z, 9, 8))
        session.undo()
        session.add_object("other")
        session.start(tiny_volume().array > 40)
        session.remove_object("other")
    session.click((6, 9, 8))
    session.click((1, 1, 1), positive=False)
    session.undo()


def hold_off(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything be dropped first; the next command has the journal written anew."""
    journal = session._ledger.journal
    assert journal is not None
    journal._due = 10**9
    drop_much(session)
    journal._due = 0
    monkeypatch.setattr(journal_module, "SPARE", 0)


@pytest.mark.parametrize("memory_mb", [0, 256])
def test_what_was_dropped_does_not_fill_the_disk(
    volume: Volume, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_mb: int
) -> None:
    monkeypatch.setattr(journal_module, "SPARE", 0)
    folder = tmp_path / "j"
    with Session(volume, model, journal=folder, undo_memory_mb=memory_mb) as session:
        drop_much(session)
        session.save(tmp_path / "case.session")
        with zipfile.ZipFile(tmp_path / "case.session") as archive:
            live = archive.getinfo(EVENTS).file_size
        assert (folder / EVENTS).stat().st_size < 2.5 * live
        assert sorted(path.name for path in folder.iterdir()) == [EVENTS, HEADER, VOXELS]
        if os.name == "posix":
            with pytest.raises(InputError, match="in use"):
                Session.resume(folder, model)
        masks = [session.mask_at(step) for step in range(4)]
        scene = session._ledger.scene
    with Session.resume(folder, model, undo_memory_mb=memory_mb) as session:
        assert session._ledger.scene == scene
        for step, mask in enumerate(masks):
            np.testing.assert_array_equal(session.mask_at(step), mask)
        drop_much(session)
        scene = session._ledger.scene
    with Session.resume(folder, model) as session:
        assert session._ledger.scene == scene


def test_a_process_killed_while_it_writes_a_journal_anew_loses_nothing(
    volume: Volume, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moments = tmp_path / "j", 0

    def watched(do: Callable[..., object]) -> Callable[..., None]:
        """Copy the folder before and after something, as a kill would leave it there."""

        def both(*args: object) -> None:
            nonlocal moments
            shutil.copytree(folder, tmp_path / f"{moments}")
            do(*args)
            shutil.copytree(folder, tmp_path / f"{moments + 1}")
            moments += 2

        return both

    with Session(volume, model, journal=folder) as session:
        hold_off(session, monkeypatch)
        with monkeypatch.context() as hooks:
            hooks.setattr(journal_module.os, "fsync", watched(os.fsync))
            hooks.setattr(Path, "replace", watched(Path.replace))
            session.add_object("last")
        scene = session._ledger.scene
    sizes = [(tmp_path / f"{moment}" / EVENTS).stat().st_size for moment in range(moments)]
    assert moments == 8  # the command, the new file, its name, the folder
    assert sizes[:5] == [sizes[0]] * 5
    assert sizes[5:] == [sizes[5]] * 3
    assert sizes[0] > 2 * sizes[5]
    whole = (tmp_path / "4" / PART).read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        shutil.copytree(tmp_path / "0", tmp_path / f"cut {cut}")
        (tmp_path / f"cut {cut}" / PART).write_bytes(whole[:cut])
    left = [path for path in tmp_path.iterdir() if path != folder]
    for path in left:
        with Session.resume(path, model) as session:
            assert session._ledger.scene == scene
        assert not (path / PART).exists()


def test_a_journal_that_cannot_be_written_anew_goes_on(
    volume: Volume, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def full(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "j"
    with Session(volume, model, journal=folder) as session:
        hold_off(session, monkeypatch)
        size = (folder / EVENTS).stat().st_size
        with monkeypatch.context() as hooks:
            hooks.setattr(Path, "replace", full)
            for name in ("one", "two", "three"):
                session.add_object(name)
        assert calls == 1  # not tried at every command
        assert (folder / EVENTS).stat().st_size > size
        assert not (folder / PART).exists()
        mask = session.click((6, 9, 8))
        scene = session._ledger.scene
    with Session.resume(folder, model) as session:
        assert session._ledger.scene == scene
        np.testing.assert_array_equal(session.mask, mask)
