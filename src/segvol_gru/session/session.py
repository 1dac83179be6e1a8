"""One volume, its objects, and what a user says about them.

    session = Session(volume)                        # the volume is not copied
    mask = session.box((z, y, x), (z, y, x))         # bool (D, H, W), a new array every time
    mask = session.click((z, y, x), positive=False)
    session.undo(); session.redo(); session.save("case.session")

Every prompt is checked first; a refused one (`InputError`) leaves everything as it was. What is
known is an immutable log of events per object and a cursor in it (`log`), and every event holds
the state that it led to (`snapshot`): undo, redo and loading restore the same bits, the memory
of the corrector included, and compute nothing.

A session is for one thread at a time: whoever shares one (a server) holds a lock around each
call. Different sessions may run side by side, also with one `Model`.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from segvol_gru.base.zoom import Watch
from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field
from segvol_gru.session.asked import (
    Frame,
    Point,
    asked_box,
    asked_click,
    asked_mask,
    asked_value,
    asked_volume,
)
from segvol_gru.session.blobs import Blobs
from segvol_gru.session.engine import Engine, Large, WindowChoice, header_of, make_engine
from segvol_gru.session.journal import Journal
from segvol_gru.session.ledger import Ledger
from segvol_gru.session.log import Event, Prompt, Prompted, Seed
from segvol_gru.session.objects import BoolArray, Objects
from segvol_gru.session.records import Header
from segvol_gru.session.snapshot import Snapshot, Step, freeze, thaw
from segvol_gru.session.store import read_session, write_session
from segvol_gru.session.suggest import most_doubtful
from segvol_gru.volume import Volume

StrPath = str | PathLike[str]
ModelChoice = StrPath | Model
MB = 2**20


class Session(Objects):
    """Interactive segmentation of one volume.

    Args:
        volume: the image; treat its array as read-only from now on.
        model: "default", a folder of weights, or a `Model`.
        device: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "mps".
        corrector: "field", "paper" or "reprompt"; a `Model` brings its own.
        base: "compact", or "segvol" with weights of your own; a `Model` brings its own.
        weights: SegVol's, a file made by `segvol-gru weights import`. With text prompts or in
            the way of the reference, give `load_model(..., text=..., compat=...)` as `model`.
        watch: progress and cancel of SegVol, which takes seconds per view. A prompt that is
            stopped (`Cancelled`) leaves everything as it was.
        window: how intensities are windowed, see `segvol_gru.data.preprocess.window_for`; "auto"
            looks into the first box of each object.
        journal: a new folder in which every step is written down before it counts, so that
            `resume` goes on after a crash; None keeps the session in memory.
        undo_memory_mb: megabytes of past states kept in memory; older ones wait on disk.

    Raises:
        InputError: any of these is not usable.
    """

    def __init__(
        self,
        volume: Volume,
        model: ModelChoice = "default",
        *,
        device: str = "auto",
        corrector: str = "field",
        base: str = "compact",
        weights: StrPath | None = None,
        watch: Watch | None = None,
        window: WindowChoice = "auto",
        journal: StrPath | None = None,
        undo_memory_mb: int = 256,
    ) -> None:
        large = Large(base, weights, watch)
        engine = make_engine(asked_volume(volume), model, corrector, window, device, large)
        header = header_of(engine, model, corrector)
        ledger = Ledger(Blobs(undo_memory_mb * MB))
        if journal is not None:
            ledger.attach(Journal.create(Path(journal), header, volume))
        self._set_up(engine, header, ledger)

    def _set_up(self, engine: Engine, header: Header, ledger: Ledger) -> None:
        super().__init__(ledger, engine.volume.shape)
        self._engine, self._header = engine, header
        self._live: tuple[Snapshot, Step] | None = None
        ledger.begin()

    @classmethod
    def load(
        cls,
        path: StrPath,
        model: ModelChoice | None = None,
        *,
        device: str = "auto",
        watch: Watch | None = None,
        journal: StrPath | None = None,
        undo_memory_mb: int = 256,
    ) -> Self:
        """Open a session file; masks and states are those that were saved, to the bit.

        Args:
            path: what `save` wrote, on any machine.
            model: refines from here on; None for the one that the session was made with. A
                model with other weights keeps the masks and starts with an empty memory. For
                SegVol give `load_model(..., base="segvol", weights=...)`.
            device: as for `Session`, like the others below.
            watch: progress and cancel.
            journal: a new folder.
            undo_memory_mb: megabytes.

        Raises:
            InputError: no session file, damaged, of a later release, or its model is missing.
        """
        ledger = Ledger(Blobs(undo_memory_mb * MB))
        header, volume, commands = read_session(Path(path), ledger.blobs)
        ledger.replay(commands, volume.shape)
        session = cls._restored(ledger, volume, header, model, device, watch)
        if journal is not None:
            ledger.attach(Journal.create(Path(journal), session._header, volume))
        return session

    @classmethod
    def resume(
        cls,
        journal: StrPath,
        model: ModelChoice | None = None,
        *,
        device: str = "auto",
        watch: Watch | None = None,
        undo_memory_mb: int = 256,
    ) -> Self:
        """Go on with a journal after a crash; nothing is lost but the prompt in flight.

        Args:
            journal: the folder that was given to `Session`; new steps go there too.
            model: as for `load`, like the others below.
            device: where the networks run.
            watch: progress and cancel.
            undo_memory_mb: megabytes.

        Raises:
            InputError: no journal, damaged, of a later release, or in use by another session.
        """
        ledger = Ledger(Blobs(undo_memory_mb * MB))
        ledger.journal, header, volume, commands = Journal.open(Path(journal), ledger.blobs)
        try:
            ledger.replay(commands, volume.shape)
            return cls._restored(ledger, volume, header, model, device, watch)
        except InputError:
            ledger.close()  # others may open the journal at once
            raise

    @classmethod
    def _restored(
        cls,
        ledger: Ledger,
        volume: Volume,
        header: Header,
        model: ModelChoice | None,
        device: str,
        watch: Watch | None,
    ) -> Self:
        chosen = header.model if model is None else model
        if chosen is None:
            raise InputError(
                "the session was made with SegVol or a Model from memory; make that by "
                "`load_model` and pass it as `model`."
            )
        large = Large(watch=watch)
        engine = make_engine(volume, chosen, header.corrector, header.window, device, large)
        session = cls.__new__(cls)
        session._set_up(engine, header_of(engine, chosen, header.corrector), ledger)
        return session

    def save(self, path: StrPath) -> None:
        """Write everything, the volume and undone steps included, into one file.

        The file appears whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        ledger = self._ledger
        write_session(Path(path), self._header, self.volume, ledger.scene, ledger.blobs)

    def close(self) -> None:
        """Let go of files and memory; the session cannot be used any more."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a user says ---------------------------------------------------------------------

    def box(self, lo: Point, hi: Point, *, frame: Frame = "voxel", lift: bool = True) -> BoolArray:
        """Start the current object anew from a box.

        Args:
            lo: smaller corner, voxel index (z, y, x), inclusive.
            hi: larger corner, inclusive. Equal to `lo` along exactly one axis it is a box drawn
                on one slice, whose depth is guessed.
            frame: "ras" if the corners are (x, y, z) in mm, in any order, instead.
            lift: False to take a box that is one voxel thick at its word.

        Returns:
            The mask, (D, H, W) bool.

        Raises:
            InputError: a corner is outside the volume or the corners are swapped.
        """
        return self.prompt(asked_box(self.volume, lo, hi, frame, lift))

    def click(self, at: Point, positive: bool = True, *, frame: Frame = "voxel") -> BoolArray:
        """Correct the current object, or start it: no box is needed.

        Args:
            at: voxel index (z, y, x).
            positive: True where the structure should be, False where not.
            frame: "ras" if `at` is (x, y, z) in mm instead.

        Returns:
            The mask, (D, H, W) bool.

        Raises:
            InputError: `at` is outside the volume.
        """
        return self.prompt(asked_click(self.volume, at, positive, frame))

    def find(self) -> BoolArray:
        """Start the current object anew from nothing but the text that the model was given.

        Returns:
            The mask, (D, H, W) bool.

        Raises:
            InputError: the model was given no text, or nothing is found.
        """
        step = self._engine.text()
        voxels = int(self._engine.mask_of(step).logits.sum())
        return self._take(Seed(voxels), step)

    def prompt(self, prompt: Box | Click) -> BoolArray:
        """The same with a value, such as `Box.from_challenge(record, volume.shape)`.

        Returns:
            The mask, (D, H, W) bool.

        Raises:
            InputError: it lies outside the volume.
        """
        asked = asked_value(self.volume, prompt)
        if isinstance(asked, Box):
            return self._take(asked, self._engine.box(asked))
        track, before = self._current, self._current.result
        if before is None or before.blank:
            return self._take(asked, self._engine.first_click(asked, track.clicks))
        return self._take(asked, self._engine.click(self._step_at(before), asked))

    def start(self, mask: ArrayLike) -> BoolArray:
        """Start the current object anew from the mask of another tool.

        Args:
            mask: (D, H, W) bool, not empty.

        Returns:
            The same mask, (D, H, W) bool, in an array of its own.

        Raises:
            InputError: the mask is empty or of another shape or type.
        """
        array, box = asked_mask(self.volume, mask)
        return self._take(Seed(int(array.sum())), self._engine.mask(array, box))

    # What is known ------------------------------------------------------------------------

    @property
    def volume(self) -> Volume:
        """The image."""
        return self._engine.volume

    @property
    def model(self) -> Model:
        """What answers the prompts."""
        return self._engine.model

    @property
    def probability(self) -> NDArray[np.float32]:
        """The current object, (D, H, W) float32 in [0, 1]; 0 where nobody looked."""
        result = self._current.result
        p_prob = np.zeros(self.volume.shape, dtype=np.float32)
        if result is not None:
            whole = self._engine.canvas(self._step_at(result))
            p_prob[whole.region.slices()] = whole.logits.sigmoid().numpy()
        return p_prob

    def suggest(self) -> Index | None:
        """Where to look next: voxel index (z, y, x) amid the widest band of doubt.

        None before the first prompt and when nothing is in doubt. See `suggest`.
        """
        result = self._current.result
        return None if result is None else most_doubtful(self._step_at(result).state)

    # How ----------------------------------------------------------------------------------

    def _canvas(self, result: Snapshot) -> Field:
        """See `Objects`."""
        return self._engine.canvas(thaw(result, self._ledger.blobs))

    def _step_at(self, result: Snapshot) -> Step:
        """The state of a snapshot, from memory if it is the last one asked for."""
        if self._live is None or self._live[0] is not result:
            self._live = result, thaw(result, self._ledger.blobs)
        return self._live[1]

    def _take(self, prompt: Prompt, step: Step) -> BoolArray:
        """Write a step down and show its mask."""
        shown = self._engine.mask_of(step)
        known = {}
        if self._live is not None:
            stored, before = self._live
            for layer, at_rest in zip(before.state.layers, stored.layers, strict=True):
                known[id(layer.logits)] = at_rest.logits
        try:
            snapshot = freeze(step, shown, self._ledger.blobs, known)
            self._ledger.commit(Prompted(self.current, Event(prompt, snapshot)))
        except InputError:
            self._ledger.forget()  # the arrays that were stored already
            raise
        self._live = snapshot, step
        mask = np.zeros(self.volume.shape, dtype=np.bool_)
        mask[shown.region.slices()] = shown.logits.numpy()
        return mask
