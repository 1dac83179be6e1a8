"""The service without HTTP: one thread at a time, clocks, hang-ups, the index, leftovers."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from live import Clock, begun, running
from tiny import tiny_model, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.index import Index, Row, key_of
from segvol_gru.interfaces.server.limits import Limits
from segvol_gru.interfaces.server.refusals import Full, Unknown, Unopened, Unreachable
from segvol_gru.interfaces.server.service import Service
from segvol_gru.interfaces.server.shelf import LOOSE
from segvol_gru.session.session import Session

MODEL = tiny_model()
BOX = ((3, 4, 4), (8, 13, 12))


def test_prompts_of_all_sessions_take_turns_in_one_thread(tmp_path: Path) -> None:
    threads: set[str] = set()
    inside = 0

    def say(session: Session) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        threads.add(threading.current_thread().name)
        session.box(*BOX)
        inside -= 1

    async def play() -> None:
        async with running(tmp_path) as service:
            tokens = [await begun(service, seed) for seed in range(3)]
            await asyncio.gather(*(service.prompt(token, say) for token in tokens * 3))

    asyncio.run(play())
    assert len(threads) == 1


def test_the_loop_and_other_sessions_go_on_during_a_long_prompt(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            slow, other = await begun(service), await begun(service, 1)
            free = threading.Event()
            prompt = asyncio.create_task(service.prompt(slow, lambda _: free.wait(20)))
            mask = await service.ask(other, lambda session: session.mask)
            assert not mask.any()
            assert await service.remaining_s(slow, alive=True) > 0
            assert not prompt.done()
            free.set()
            assert await prompt

    asyncio.run(play())


def test_a_client_that_hangs_up_does_not_let_another_one_in_too_early(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
            free, order = threading.Event(), []

            def first(session: Session) -> None:
                free.wait(20)
                order.append("first")
                session.box(*BOX)

            task = asyncio.create_task(service.prompt(token, first))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            second = asyncio.create_task(service.ask(token, lambda _: order.append("second")))
            await asyncio.sleep(0.05)
            free.set()
            await second
            assert order == ["first", "second"]
            assert await service.ask(token, lambda session: session.cursor) == 1

    asyncio.run(play())


def test_two_clocks_run_for_a_viewer_and_one_for_programs(tmp_path: Path) -> None:
    async def play() -> None:
        clock = Clock()
        async with running(tmp_path, clock, idle_s=100, liveness_s=10) as service:
            program, viewer = await begun(service), await service.claim("viewer")
            clock.now = 9
            assert await service.remaining_s(viewer, alive=True) == 91
            clock.now = 18
            await service.reap()
            assert service.open_sessions == 2
            clock.now = 20
            await service.reap()
            assert service.open_sessions == 1
            assert await service.remaining_s(viewer, alive=True) == 0
            assert await service.remaining_s(program, alive=False) == 80
            clock.now = 100
            await service.reap()
            assert (service.open_sessions, service.open_bytes) == (0, 0)
            assert await service.ask(program, lambda session: session.cursor) == 0
            assert service.open_sessions == 1

    asyncio.run(play())


def test_what_nobody_comes_back_to_is_deleted(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path, idle_s=0.01, keep_s=0.02) as service:
            token = await begun(service)
            left = tmp_path / "journals" / f"left by a killed upload{LOOSE}"
            fresh = tmp_path / "journals" / f"being written{LOOSE}"
            for mark in (left, fresh):
                mark.touch()
                mark.with_suffix("").mkdir()
            os.utime(left, (0, 0))
            await asyncio.sleep(0.05)
            await service.reap()
            await asyncio.sleep(0.05)
            await service.reap()
            assert set((tmp_path / "journals").iterdir()) == {fresh, fresh.with_suffix("")}
            with pytest.raises(Unknown):
                await service.ask(token, lambda session: session.cursor)

    asyncio.run(play())


def test_a_service_with_another_index_deletes_no_journal(tmp_path: Path) -> None:
    """As after a move to PostgreSQL, or with an index.db from a backup."""

    def service(index: str) -> Service:
        return Service(MODEL, tmp_path / "journals", Index(f"sqlite:///{tmp_path / index}"))

    async def play() -> None:
        one = service("a.db")
        token = await begun(one)
        await one.close()
        [folder] = (tmp_path / "journals").iterdir()
        os.utime(folder, (0, 0))
        other = service("b.db")
        await other.reap()
        await other.close()
        again = service("a.db")
        assert await again.ask(token, lambda session: session.cursor) == 0
        await again.close()

    asyncio.run(play())


@pytest.mark.parametrize("step", ["move", "remove"])
def test_where_the_index_fails_a_journal_stays_that_of_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)

            def away(*_: object) -> None:
                raise Unreachable("the index is away.")

            asked = {"move": lambda: service.load(token, tiny_volume(1))}
            with monkeypatch.context() as patch:
                patch.setattr(service._index, step, away)
                with pytest.raises(Unreachable):
                    await asked.get(step, lambda: service.release(token))()
            assert not list((tmp_path / "journals").glob(f"*{LOOSE}"))
            assert await service.ask(token, lambda session: session.cursor) == 0

    asyncio.run(play())


def test_a_journal_whose_session_a_killed_process_had_just_begun_is_kept(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
            [folder] = (tmp_path / "journals").iterdir()
            mark = folder.with_suffix(LOOSE)
            mark.touch()  # the index knew it, but this was not taken away
            os.utime(mark, (0, 0))
            await service.reap()
            assert folder.exists()
            assert not mark.exists()
            assert await service.ask(token, lambda session: session.cursor) == 0

    asyncio.run(play())


def test_what_a_process_killed_in_deleting_left_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
            [folder] = (tmp_path / "journals").iterdir()
            monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
            await service.release(token)
            monkeypatch.undo()
            os.utime(folder.with_suffix(LOOSE), (0, 0))
            await service.reap()
            assert not list((tmp_path / "journals").iterdir())

    asyncio.run(play())


def test_another_image_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
            await service.prompt(token, lambda session: session.box(*BOX))
            await service.load(token, tiny_volume(1))
            array = await service.ask(token, lambda session: session.volume.array)
            np.testing.assert_array_equal(array, tiny_volume(1).array)
            assert await service.ask(token, lambda session: session.history) == ()
            assert len(list((tmp_path / "journals").iterdir())) == 1
            with pytest.raises(InputError, match="window"):
                await service.load(token, tiny_volume(2), "foggy")
            array = await service.ask(token, lambda session: session.volume.array)
            np.testing.assert_array_equal(array, tiny_volume(1).array)
            assert service.open_bytes == array.nbytes

    asyncio.run(play())


def test_a_damaged_journal_is_a_refusal_without_a_folder_of_this_machine(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
        [folder] = (tmp_path / "journals").iterdir()
        (folder / "session.json").write_text("{}")
        async with running(tmp_path) as service:
            with pytest.raises(Unopened) as refused:
                await service.ask(token, lambda session: session.mask)
            assert str(tmp_path) not in str(refused.value)
            await service.release(token)
            assert not folder.exists()

    asyncio.run(play())


def test_places_are_counted_and_a_session_without_an_image_says_so(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path, max_sessions=1) as service:
            token = await service.claim("api")
            with pytest.raises(InputError, match="no image yet"):
                await service.ask(token, lambda session: session.mask)
            with pytest.raises(Full, match="try again in 10 s"):
                await service.claim("api")
            await service.release(token)
            await service.release(token)
            assert await service.claim("api")

    asyncio.run(play())


def test_requests_side_by_side_of_one_stored_session_share_its_place(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
        async with running(tmp_path, max_sessions=1) as service:
            asked = (service.ask(token, lambda session: session.cursor) for _ in range(4))
            assert await asyncio.gather(*asked) == [0] * 4
            assert service.open_sessions == 1

    asyncio.run(play())


def test_they_share_it_too_if_another_session_gives_it_up_for_them(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path) as service:
            token = await begun(service)
        clock = Clock()
        async with running(tmp_path, clock, max_sessions=1, idle_s=10) as service:
            await begun(service, 1)
            clock.now = 10.0
            asked = (service.ask(token, lambda session: session.cursor) for _ in range(4))
            assert await asyncio.gather(*asked) == [0] * 4

    asyncio.run(play())


def test_steps_count_as_disk_space(tmp_path: Path) -> None:
    async def play() -> None:
        limit = 3 * tiny_volume().array.nbytes
        async with running(tmp_path, max_store_bytes=limit) as service:
            token = await begun(service)
            await begun(service, 1)
            await service.prompt(token, lambda session: session.box(*BOX))
            assert service._shelf.bytes() > limit
            with pytest.raises(Full, match="disk space"):
                await begun(service, 2)

    asyncio.run(play())


def test_the_index_holds_no_id_that_could_be_used(tmp_path: Path) -> None:
    index = Index(f"sqlite:///{tmp_path / 'index.db'}")
    index.add(Row(key_of("secret"), "api", None, 0))
    index.add(Row(key_of("secret"), "viewer", None, 7))  # who comes second changes nothing
    index.move(key_of("secret"), "folder", 12)
    assert index.find(key_of("secret")) == Row(key_of("secret"), "api", "folder", 12)
    assert index.find("secret") is None
    assert (index.count(), index.journals()) == (1, {"folder"})
    assert index.stale(60.0) == []
    index.remove(key_of("secret"))
    index.close()
    assert b"secret" not in (tmp_path / "index.db").read_bytes()


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
def test_limits_are_positive(bad: float) -> None:
    with pytest.raises(InputError, match="idle_s"):
        Limits(idle_s=bad)
