"""Several objects of one volume, each with its own history: all that needs no network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.prompts import Index
from segvol_gru.region import Field
from segvol_gru.session.asked import asked_step
from segvol_gru.session.ledger import Ledger
from segvol_gru.session.log import Add, Event, Move, Prompt, Prompted, Remove, Rename, Select, Track
from segvol_gru.session.snapshot import Snapshot
from segvol_gru.session.views import label_map

BoolArray = NDArray[np.bool_]


class Objects(ABC):
    """What was said about every object, and going back and forth in it.

    Args:
        ledger: where it is written.
        shape: (D, H, W) of the volume.
    """

    def __init__(self, ledger: Ledger, shape: Index) -> None:
        self._ledger = ledger
        self._shape = shape

    @abstractmethod
    def _canvas(self, result: Snapshot) -> Field:
        """The logits of a state at rest, on its window."""

    @property
    def objects(self) -> tuple[str, ...]:
        """Names in the order of adding; the first object is there from the start."""
        return tuple(track.name for track in self._ledger.scene.tracks)

    @property
    def labels(self) -> dict[str, int]:
        """The number of every object in `label_map`; it never changes."""
        return {track.name: track.label for track in self._ledger.scene.tracks}

    @property
    def current(self) -> str:
        """Name of the object that prompts go to."""
        return self._ledger.scene.selected

    def mask_of(self, name: str) -> BoolArray:
        """The mask of any object, (D, H, W) bool; masks may overlap."""
        result = self._ledger.scene.track(name).result
        if result is None:
            return np.zeros(self._shape, dtype=np.bool_)
        return result.paint(self._ledger.blobs, self._shape)

    def mask_at(self, step: int) -> BoolArray:
        """The current object's mask as it is at a step of its history; the cursor stays.

        Args:
            step: how many entries of `history` count, undone ones included; 0 is empty.

        Returns:
            (D, H, W) bool.

        Raises:
            InputError: there is no such step.
        """
        events, count = self._current.events, asked_step(step)
        if not 0 <= count <= len(events):
            raise InputError(f"step is {count}, wanted 0 to {len(events)}.")
        result = events[count - 1].result if count else None
        if result is None:
            return np.zeros(self._shape, dtype=np.bool_)
        return result.paint(self._ledger.blobs, self._shape)

    def label_map(self) -> NDArray[Any]:
        """All objects in one (D, H, W) array of unsigned integers; see `labels`.

        Where masks overlap, the object with the highest logit has the voxel.
        """
        scene, blobs = self._ledger.scene, self._ledger.blobs
        return label_map(scene.tracks, blobs, self._shape, self._canvas)

    def add_object(self, name: str) -> None:
        """Add an object and select it.

        Raises:
            InputError: the name is taken or empty.
        """
        self._ledger.commit(Add(name, self._ledger.scene.free_label))

    def select(self, name: str) -> None:
        """Let prompts, undo and redo go to another object.

        Raises:
            InputError: there is no such object.
        """
        if name != self.current:
            self._ledger.commit(Select(name))

    def rename_object(self, name: str, to: str) -> None:
        """Call an object something else.

        Raises:
            InputError: there is no such object, or the new name is taken or empty.
        """
        self._ledger.commit(Rename(name, to))

    def remove_object(self, name: str) -> None:
        """Remove an object and its history; this cannot be undone.

        Raises:
            InputError: there is no such object, or it is the only one.
        """
        self._ledger.commit(Remove(name))

    @property
    def mask(self) -> BoolArray:
        """The current object's mask, (D, H, W) bool; empty before the first prompt."""
        return self.mask_of(self.current)

    def reset(self) -> BoolArray:
        """Empty the current object; like everything said about it, this can be undone."""
        if self._current.result is not None:
            self._ledger.commit(Prompted(self.current, Event("reset", None)))
        return self.mask

    def undo(self) -> BoolArray:
        """Take back the last step of the current object and return the mask before it.

        Raises:
            InputError: nothing was said about it yet.
        """
        if not self.can_undo:
            raise InputError(f"object {self.current!r} has no step to undo; prompt it first.")
        return self.jump(self.cursor - 1)

    def redo(self) -> BoolArray:
        """Do again what was undone last and return the mask after it.

        Raises:
            InputError: nothing is undone, or a prompt came since.
        """
        if not self.can_redo:
            raise InputError(f"object {self.current!r} has no step to redo; undo one first.")
        return self.jump(self.cursor + 1)

    def jump(self, step: int) -> BoolArray:
        """Undo or redo until the first `step` entries of `history` count; return the mask.

        Raises:
            InputError: there is no such step.
        """
        cursor = asked_step(step)
        if cursor != self.cursor:
            self._ledger.commit(Move(self.current, cursor))
        return self.mask

    @property
    def history(self) -> tuple[Prompt, ...]:
        """Everything said about the current object, oldest first, undone steps included."""
        return tuple(event.prompt for event in self._current.events)

    @property
    def cursor(self) -> int:
        """How many entries of `history` count; the rest is undone."""
        return self._current.cursor

    @property
    def can_undo(self) -> bool:
        """Whether `undo` has something to do."""
        return self.cursor > 0

    @property
    def can_redo(self) -> bool:
        """Whether `redo` has something to do."""
        return self.cursor < len(self._current.events)

    @property
    def _current(self) -> Track:
        return self._ledger.scene.current
