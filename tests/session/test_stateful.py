"""A session under random use, against lists of what it has shown."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from tiny import SHAPE, tiny_model, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click
from segvol_gru.session.log import Seed, Track
from segvol_gru.session.session import Session
from segvol_gru.session.snapshot import Snapshot

MODEL, VOLUME = tiny_model(), tiny_volume()
EMPTY = np.zeros(SHAPE, dtype=np.bool_)
VOXEL = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))


@dataclass
class Shown:
    """What an object has shown: entry k after k steps."""

    masks: list[NDArray[np.bool_]] = field(default_factory=lambda: [EMPTY])
    results: list[Snapshot | None] = field(default_factory=lambda: [None])
    cursor: int = 0


class AnyUse(RuleBasedStateMachine):
    """Prompts, steps back and forth, objects, saving and crashing in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.files = 0
        self.shown = {"object 1": Shown()}
        self.current = "object 1"

    @initialize(journalled=st.booleans(), memory_mb=st.sampled_from([0, 256]))
    def open(self, journalled: bool, memory_mb: int) -> None:
        self.journal = self._fresh() if journalled else None
        self.memory_mb = memory_mb
        self.session = Session(VOLUME, MODEL, journal=self.journal, undo_memory_mb=memory_mb)

    def teardown(self) -> None:
        if hasattr(self, "session"):
            for track in self.session._ledger.scene.tracks:
                self._replay(track)
            self.session.close()
        shutil.rmtree(self.folder)

    @rule(a=VOXEL, b=VOXEL)
    def box(self, a: tuple[int, ...], b: tuple[int, ...]) -> None:
        lo, hi = [list(map(f, a, b)) for f in (min, max)]
        self._said(self.session.box(lo, hi))

    @rule(clicks=st.lists(st.tuples(VOXEL, st.booleans()), min_size=1, max_size=3))
    def click(self, clicks: list[tuple[tuple[int, int, int], bool]]) -> None:
        for at, positive in clicks:
            mask = self.session.click(at, positive)
            assert mask[at] == positive
            self._said(mask)

    @rule(threshold=st.integers(5, 58))
    def start(self, threshold: int) -> None:
        given = VOLUME.array > threshold
        mask = self.session.start(given)
        assert np.array_equal(mask, given)
        self._said(mask)

    @precondition(lambda self: self._now.results[self._now.cursor] is not None)
    @rule()
    def reset(self) -> None:
        self._said(self.session.reset())

    @precondition(lambda self: self._now.cursor > 0)
    @rule()
    def undo(self) -> None:
        self._now.cursor -= 1
        self._same(self.session.undo())

    @precondition(lambda self: self._now.cursor < len(self._now.masks) - 1)
    @rule()
    def redo(self) -> None:
        self._now.cursor += 1
        self._same(self.session.redo())

    @rule(share=st.floats(0, 1))
    def jump(self, share: float) -> None:
        self._now.cursor = round(share * (len(self._now.masks) - 1))
        self._same(self.session.jump(self._now.cursor))

    @rule(at=VOXEL, axis=st.integers(0, 2), beyond=st.sampled_from([-1, 99]))
    def refused(self, at: tuple[int, int, int], axis: int, beyond: int) -> None:
        outside = list(at)
        outside[axis] = beyond
        for attempt in (
            lambda: self.session.click(outside),
            lambda: self.session.box(at, outside),
            lambda: self.session.start(EMPTY),
            lambda: self.session.jump(len(self._now.masks)),
            lambda: self.session.add_object(self.current),
        ):
            with pytest.raises(InputError):
                attempt()

    @precondition(lambda self: len(self.shown) < 3)
    @rule(name=st.sampled_from("abc"))
    def add(self, name: str) -> None:
        if name not in self.shown:
            self.session.add_object(name)
            self.shown[name] = Shown()
            self.current = name

    @rule(data=st.data())
    def select(self, data: st.DataObject) -> None:
        self.current = data.draw(st.sampled_from(sorted(self.shown)))
        self.session.select(self.current)

    @precondition(lambda self: len(self.shown) > 1)
    @rule()
    def remove(self) -> None:
        self.session.remove_object(self.current)
        del self.shown[self.current]
        self.current = self.session.current

    @rule()
    def save_and_load(self) -> None:
        file = self._fresh()
        self.session.save(file)
        self.session.close()
        self.journal = self._fresh() if self.journal else None
        self.session = Session.load(
            file, MODEL, journal=self.journal, undo_memory_mb=self.memory_mb
        )

    @precondition(lambda self: self.journal is not None)
    @rule()
    def crash_and_resume(self) -> None:
        self.session.close()
        assert self.journal is not None
        self.session = Session.resume(self.journal, MODEL, undo_memory_mb=self.memory_mb)

    @invariant()
    def as_it_was(self) -> None:
        if not hasattr(self, "session"):
            return
        assert set(self.session.objects) == set(self.shown)
        assert self.session.current == self.current
        assert self.session.cursor == self._now.cursor
        assert len(self.session.history) == len(self._now.masks) - 1
        self._same(self.session.mask)
        union = np.any([s.masks[s.cursor] for s in self.shown.values()], axis=0)
        labels = self.session.label_map()
        assert np.array_equal(labels > 0, union)
        assert set(np.unique(labels)) <= {0, *self.session.labels.values()}

    @property
    def _now(self) -> Shown:
        return self.shown[self.current]

    def _fresh(self) -> Path:
        self.files += 1
        return self.folder / str(self.files)

    def _said(self, mask: NDArray[np.bool_]) -> None:
        now = self._now
        now.masks = [*now.masks[: now.cursor + 1], mask.copy()]
        now.results = [*now.results[: now.cursor + 1], self.session._current.result]
        now.cursor += 1

    def _same(self, mask: NDArray[np.bool_]) -> None:
        """The mask, and by their digests logits, layers and memory, are those of that step."""
        assert np.array_equal(mask, self._now.masks[self._now.cursor])
        assert self.session._current.result == self._now.results[self._now.cursor]

    def _replay(self, track: Track) -> None:
        """Saying everything again to a new session leads to the same bits."""
        with Session(VOLUME, MODEL) as again:
            for event in track.events:
                match event.prompt:
                    case Box() | Click():
                        again.prompt(event.prompt)
                    case Seed():
                        assert event.result is not None
                        again.start(event.result.paint(self.session._ledger.blobs, SHAPE))
                    case "reset":
                        again.reset()
            live: Any = [event.result for event in track.events]
            assert [event.result for event in again._current.events] == live


AnyUse.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestAnyUse = AnyUse.TestCase
