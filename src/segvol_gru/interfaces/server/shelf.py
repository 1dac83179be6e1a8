"""The sessions of a server on disk: a folder of journals. Every call may wait for a disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np

from segvol_gru.pipeline import Model
from segvol_gru.session.engine import WindowChoice
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

ORPHAN_S = 3600.0  # a folder that no session has for so long was left by a killed process
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
        """A new session whose journal has this name."""
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

    def discard(self, journal: str | None) -> None:
        """Delete a journal, if there is one."""
        if journal is not None:
            shutil.rmtree(self.folder / journal, ignore_errors=True)

    def sweep(self, known: Collection[str]) -> None:
        """Delete what a process killed in an upload left.

        Args:
            known: journals that sessions have; younger folders may be getting one.
        """
        for folder in self.folder.iterdir():
            if folder.name not in known and _age_s(folder) > ORPHAN_S:
                self.discard(folder.name)


def _age_s(folder: Path) -> float:
    """Seconds since a folder was changed; 0 if another server deleted it just now."""
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
