"""Work dealt out to processes, each with a tool that is dear to make."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Tool = TypeVar("Tool")
Work = TypeVar("Work")
Result = TypeVar("Result")
Watch = Callable[[int, int], None]  # pieces done, pieces in all


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
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_Worker.begin, initargs=(make, do)
    ) as pool:
        jobs: list[Future[list[Result]]] = [pool.submit(_Worker.run, piece) for piece in work]
        for job in as_completed(jobs):
            yield from job.result()


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
