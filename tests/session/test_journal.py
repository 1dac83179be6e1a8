from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import STEPS
from tiny import tiny_model, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.session import journal as journal_module
from segvol_gru.session.log import Scene
from segvol_gru.session.records import EVENTS, HEADER, START
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def scenes() -> Iterator[list[Scene]]:
    """What an undisturbed session knows after 0, 1, 2, ... steps."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with Session(tiny_volume(), tiny_model()) as session:
        seen = [session._ledger.scene]
        for step in STEPS:
            step(session)
            seen.append(session._ledger.scene)
        yield seen
    torch.set_num_threads(threads)


def run_killed(folder: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, str(HERE / "killed.py"), str(folder), *words],
        check=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )


@posix
def test_a_process_killed_after_any_step_resumes_to_the_same_bits(
    tmp_path: Path, scenes: list[Scene], model: Model
) -> None:
    run_killed(tmp_path, "after")
    for steps, scene in enumerate(scenes):
        with Session.resume(tmp_path / str(steps), model) as session:
            assert session._ledger.scene == scene
            for step in STEPS[steps:]:  # and goes on to the same end
                step(session)
            assert session._ledger.scene == scenes[-1]


@posix
def test_a_process_killed_while_it_writes_loses_that_step_only(
    tmp_path: Path, scenes: list[Scene], model: Model
) -> None:
    cuts = ("1", "15", "16", "20", "300", "20000")
    run_killed(tmp_path, "within", *cuts)
    for cut in cuts:
        with Session.resume(tmp_path / cut, model) as session:
            assert session._ledger.scene == scenes[-2]
            STEPS[-1](session)
            assert session._ledger.scene == scenes[-1]
        with Session.resume(tmp_path / cut, model) as session:
            assert session._ledger.scene == scenes[-1]


@pytest.fixture
def closed(tmp_path: Path, volume: Volume, model: Model) -> tuple[Path, int, np.ndarray]:
    """A journal of a box and a click, where its last record starts, the mask before it."""
    folder = tmp_path / "journal"
    with Session(volume, model, journal=folder) as session:
        mask = session.box((3, 4, 4), (8, 13, 12))
        before = (folder / EVENTS).stat().st_size
        session.click((6, 9, 8))
    return folder, before, mask


def test_a_record_cut_at_any_byte_is_as_if_never_begun(
    closed: tuple[Path, int, np.ndarray], model: Model
) -> None:
    folder, before, mask = closed
    whole = (folder / EVENTS).read_bytes()
    cuts = [*range(before, before + START + 30), *range(before + 100, len(whole), 4001)]
    for cut in (*cuts, len(whole) - 1):
        for granted in (0, 4096):  # a file system may leave zeros behind the cut
            zeros = min(granted, len(whole) - cut - 1)
            (folder / EVENTS).write_bytes(whole[:cut] + bytes(zeros))
            with Session.resume(folder, model) as session:
                assert np.array_equal(session.mask, mask)
            assert (folder / EVENTS).stat().st_size == before
    lost = bytearray(whole)
    lost[before : before + 4000] = bytes(4000)  # pages reach the disk in any order
    (folder / EVENTS).write_bytes(lost)
    with Session.resume(folder, model) as session:
        assert np.array_equal(session.mask, mask)


def test_a_record_damaged_at_rest_is_not_taken_for_a_torn_one(
    closed: tuple[Path, int, np.ndarray], model: Model
) -> None:
    folder, before, _ = closed
    whole = bytearray((folder / EVENTS).read_bytes())
    for at in (3, START + 10, before - 5):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (folder / EVENTS).write_bytes(damaged)
        with pytest.raises(InputError, match="damaged at byte"):
            Session.resume(folder, model)
        assert (folder / EVENTS).read_bytes() == damaged


def test_a_journal_belongs_to_one_session(volume: Volume, model: Model, tmp_path: Path) -> None:
    with Session(volume, model, journal=tmp_path / "j") as session:
        session.box((3, 4, 4), (8, 13, 12))
        with pytest.raises(InputError, match=r"Session\.resume"):
            Session(volume, model, journal=tmp_path / "j")
        if os.name == "posix":
            with pytest.raises(InputError, match="in use"):
                Session.resume(tmp_path / "j", model)
        assert session.click((6, 9, 8))[6, 9, 8]


def test_a_full_disk_refuses_the_prompt_and_keeps_the_journal(
    volume: Volume, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Session(volume, model, journal=tmp_path / "j") as session:
        mask = session.box((3, 4, 4), (8, 13, 12))
        monkeypatch.setattr(journal_module.os, "fsync", full)
        with pytest.raises(InputError, match="No space left"):
            session.click((6, 9, 8))
        assert np.array_equal(session.mask, mask)
        monkeypatch.undo()
        after = session.click((1, 1, 1), positive=False)
    with Session.resume(tmp_path / "j", model) as session:
        assert np.array_equal(session.mask, after)
        assert session.cursor == 2


def test_a_journal_begun_but_not_finished_is_no_journal(
    volume: Volume, model: Model, tmp_path: Path
) -> None:
    folder = tmp_path / "j"
    Session(volume, model, journal=folder).close()
    (folder / HEADER).unlink()  # written last
    with pytest.raises(InputError, match="holds no session"):
        Session.resume(folder, model)
    with Session(volume, model, journal=folder) as session:
        assert session.objects == ("object 1",)


def test_a_journal_where_none_can_be_is_refused(
    volume: Volume, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write a journal"):
        Session(volume, model, journal=tmp_path / "file" / "j")


def test_a_journal_that_lost_its_voxels_is_refused(
    closed: tuple[Path, int, np.ndarray], model: Model
) -> None:
    folder = closed[0]
    voxels = (folder / "volume.raw").read_bytes()
    (folder / "volume.raw").write_bytes(voxels[:-1])
    with pytest.raises(InputError, match="damaged"):
        Session.resume(folder, model)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="holds no session"):
        Session.resume(folder, model)


def test_the_volume_comes_back_with_its_grid(tmp_path: Path, model: Model) -> None:
    affine = np.array([[0, -1.0, 0.1, 40], [0, 0.2, 1.0, -7], [-2.0, 0, 0, 3], [0, 0, 0, 1]])
    array = np.asfortranarray(np.random.default_rng(0).normal(size=(9, 10, 11)))
    for dtype in (np.float64, np.float32, np.float16, np.uint8, np.bool_):
        image = Volume((array * 40).astype(dtype), affine=affine, modality="MR")
        folder = tmp_path / np.dtype(dtype).name
        Session(image, model, journal=folder).close()
        with Session.resume(folder, model) as session:
            back = session.volume
            assert back.array.dtype == dtype
            assert np.array_equal(back.array, image.array)
            assert np.array_equal(back.affine, affine)
            assert back.modality == "MR"
