"""Where work is done that would hold up the event loop.

one worker thread    prompts: networks of all sessions, one at a time
a few other threads  uploads, files, masks, the index
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from segvol_gru.errors import InputError

T = TypeVar("T")
THREADS = 4  # beside the worker: uploads and downloads of a few users at a time


class Threads:
    """The threads of a service.

    Args:
        folder: its name is left out of sentences for users.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._worker = ThreadPoolExecutor(1, "prompts")
        self._files = ThreadPoolExecutor(THREADS, "files")

    async def network(self, do: Callable[..., T], *args: object) -> T:
        """Call something in the worker thread."""
        return await self._call(self._worker, do, *args)

    async def beside(self, do: Callable[..., T], *args: object) -> T:
        """Call something in one of the other threads."""
        return await self._call(self._files, do, *args)

    def close(self) -> None:
        """Wait for what is being done, and end."""
        self._worker.shutdown()
        self._files.shutdown()

    async def _call(self, on: Executor, do: Callable[..., T], *args: object) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(on, do, *args)
        except InputError as error:  # its sentence goes to users: no folders of this machine
            raise InputError(str(error).replace(self._folder, "the store")) from None
