"""Work dealt out to processes, each with a tool that is dear to make."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

Tool = TypeVar("Tool")
Work = TypeVar("Work")
Result = TypeVar("Result")
Watch = Callable[[int, int], None]  # pieces done, pieces in all
THREADS = "OMP_NUM_THREADS"


def rank_and_world(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Which of how many processes this is, as torchrun or srun says.

    A batch script that SLURM runs once is alone, however many tasks its job may have.
    """
    if "RANK" in environment:
        return int(environment["RANK"]), int(environment.get("WORLD_SIZE", "1"))
    if "SLURM_STEP_NUM_TASKS" in environment:  # only where srun started it
        return int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
    return 0, 1


def spread(
    work: Sequence[Work],
    make: Callable[[], Tool],
    do: Callable[[Tool, Work], Iterator[Result]],
    workers: int,
) -> Iterator[Result]:
    """Results as they come, in any order if there are several workers.

    Args:
        work: what is to be done.
        make: makes a tool, once per worker; not called where there is no work.
        do: does one piece of work with it.
        workers: processes; with several, all of this must be importable by name.
    """
    if workers == 1 or not work:
        tool = make() if work else None
        for piece in work:
            assert tool is not None
            yield from do(tool, piece)
        return
    # Forking after torch has made threads can hang, so workers start afresh.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_Worker.begin, initargs=(make, do)
    )
    with cores_shared(workers), pool:
        jobs: list[Future[list[Result]]] = [pool.submit(_Worker.run, piece) for piece in work]
        for job in as_completed(jobs):
            yield from job.result()


@contextmanager
def cores_shared(workers: int) -> Iterator[None]:
    """Processes begun meanwhile share the cores; whoever set `OMP_NUM_THREADS` knows better.

    Where each takes all of them, their threads wait for one another: six times as long on 2 cores.
    """
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = str(max(1, (os.cpu_count() or 1) // workers))
    try:
        yield
    finally:
        del os.environ[THREADS]


def watched(results: Iterator[Result], count: int, watch: Watch | None) -> Iterator[Result]:
    """The same results; `watch` is told after each how many of `count` are done."""
    if watch is not None:
        watch(0, count)
    for done, result in enumerate(results, start=1):
        yield result
        if watch is not None:
            watch(done, count)


class _Worker:
    """State of one worker process."""

    tool: Any
    do: Callable[[Any, Any], Iterator[Any]]

    @classmethod
    def begin(cls, make: Callable[[], Any], do: Callable[[Any, Any], Iterator[Any]]) -> None:
        cls.tool, cls.do = make(), staticmethod(do)

    @classmethod
    def run(cls, piece: Any) -> list[Any]:
        return list(cls.do(cls.tool, piece))
