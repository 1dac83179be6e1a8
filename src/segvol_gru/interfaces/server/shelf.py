"""The sessions of a server on disk: a folder of journals. Every call may wait for a disk.

    NAME/          a journal
    NAME.waiting   what its viewer said without asking for a mask, if anything
    NAME.loose     an empty file: no session has this journal yet, or none has it any more

A journal without that file is never deleted as a leftover, whatever the index says: it may be
another index, or a backup of one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from segvol_gru.pipeline import Model
from segvol_gru.session.engine import WindowChoice
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

LOOSE = ".loose"
ORPHAN_S = 3600.0  # a journal that is loose for so long was left by a killed process
WARM_SIDE = 32


class Shelf:
    """Journals in a folder, opened with one model.

    Args:
        folder: where they lie; made if it is missing.
        model: on its device.
        undo_memory_mb: see `Session`.
    """

    def __init__(self, folder: Path, model: Model, undo_memory_mb: int) -> None:
        self.folder = folder
        self._model, self._undo_memory_mb = model, undo_memory_mb
        self._device = next(model.base.parameters()).device.type
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, volume: Volume, window: WindowChoice, journal: str) -> Session:
        """A new session whose journal, loose as yet, has this name."""
        self.loosen(journal)
        return Session(
            volume,
            self._model,
            device=self._device,
            window=window,
            journal=self.folder / journal,
            undo_memory_mb=self._undo_memory_mb,
        )

    def resume(self, journal: str) -> Session:
        """The session of a journal."""
        return Session.resume(
            self.folder / journal,
            self._model,
            device=self._device,
            undo_memory_mb=self._undo_memory_mb,
        )

    def warm_up(self) -> None:
        """Run the networks once; nothing is written."""
        voxels = np.arange(WARM_SIDE**3, dtype=np.int32).reshape((WARM_SIDE,) * 3)
        volume = Volume(voxels, (1.0, 1.0, 1.0))
        with Session(volume, self._model, device=self._device) as session:
            session.click((WARM_SIDE // 2,) * 3)

    def bytes(self) -> int:
        """What all journals take on disk."""
        total = 0
        for folder, _, files in os.walk(self.folder):
            for name in files:
                with suppress(FileNotFoundError):  # another server deleted it just now
                    total += os.stat(Path(folder, name)).st_size
        return total

    def loosen(self, journal: str | None) -> None:
        """Let a journal be swept once its session is forgotten, should this process be killed."""
        if journal is not None:
            with suppress(OSError):  # a full disk keeps nobody from deleting
                self._mark(journal).touch()

    def keep(self, journal: str | None) -> None:
        """A session has this journal, if there is one, for good."""
        if journal is not None:
            self._mark(journal).unlink(missing_ok=True)

    def discard(self, journal: str | None) -> None:
        """Delete a journal, if there is one."""
        if journal is not None:
            self.loosen(journal)
            shutil.rmtree(self.folder / journal, ignore_errors=True)
            self.waiting(journal).unlink(missing_ok=True)
            if not (self.folder / journal).exists():
                self.keep(journal)

    def sweep(self, known: Collection[str]) -> None:
        """Delete what a killed process left.

        Args:
            known: journals that sessions have; younger loose ones may be getting a session.
        """
        for mark in self.folder.glob(f"*{LOOSE}"):
            if mark.stem in known:
                self.keep(mark.stem)
            elif _age_s(mark) > ORPHAN_S:
                self.discard(mark.stem)

    def waiting(self, journal: str) -> Path:
        """Where what waits in a conversation is stored."""
        return self.folder / f"{journal}.waiting"

    def _mark(self, journal: str) -> Path:
        return self.folder / f"{journal}{LOOSE}"


def _age_s(path: Path) -> float:
    """Seconds since a file was touched; 0 if another server deleted it just now."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
