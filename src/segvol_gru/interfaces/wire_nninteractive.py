"""What nnInteractive's clients say, as prompts of a session; for the server and in process.

Their words differ from ours: boxes are half-open and may reach beyond the image, a point is an
array index in any numbers, `reset` begins another object, and nobody says which object is meant:
coming back to one looks like a mask from elsewhere. A mask that the session itself made is known
by its digest, so its object, memory and history are taken up again. Taking up a mask is one step
to them, so its undo leads back to the object that was left.

    caller's buffer ◄─ Change ◄─ Dialect ─► SessionLike
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire import BoolArray, SessionLike
from segvol_gru.prompts import Box, Click, check_index
from segvol_gru.session.asked import asked_box
from segvol_gru.simulate import bounds_of

UNKNOWN_LICENCE = "!!MISSING!!"
"""What clients take for a licence that nobody knows."""
MAX_OBJECTS = 64
"""Objects that a conversation keeps; the one added first gives way."""
NO_STROKES = (
    "scribbles and lassos are not understood here; click a point on the structure, or draw a box."
)
Bounds = list[list[int]]

CAPABILITIES: dict[str, Any] = {
    "supported_interactions": {
        "points": True,
        "bbox2d": True,
        "bbox3d": True,
        "scribble": False,
        "lasso": False,
    },
    "channel_mapping": {},
    "num_interaction_channels": 0,
    "supports_initial_label": True,
    "supports_zero_shot_label_refinement": False,
    "preferred_scribble_thickness": [2, 2, 2],
    "interaction_decay": 1.0,
    "inference_session_version": "segvol-gru",
    "supports_undo": True,
    "do_autozoom": True,
}


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """What a caller has to paste.

    Attributes:
        bbox: half-open, per axis; None if nothing changed.
        crop: uint8, the mask inside it.
    """

    bbox: Bounds | None
    crop: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Switch:
    """An `initial` that led from one object to another.

    Attributes:
        left: the object that was left.
        before: cursor of the other one before it.
        after: the other one, and its cursor after it.
    """

    left: str
    before: int
    after: tuple[str, int]


class Dialect:
    """One conversation about one session.

    Args:
        session: what is talked about.
        shown: the caller's mask, (D, H, W) bool; None if it is not known what the caller shows,
            so that the first change is the whole volume.
        waiting: what an earlier conversation about the session left unanswered.
    """

    def __init__(
        self,
        session: SessionLike,
        shown: BoolArray | None,
        waiting: Sequence[Box | Click] = (),
    ) -> None:
        self._session = session
        self._shown = shown
        self._waiting = list(waiting)
        self._switches: list[Switch] = []
        self._known = {
            name: _digest(mask) for name in session.objects if (mask := session.mask_of(name)).any()
        }

    def point(self, at: Sequence[float], include: bool, run: bool) -> Change | None:
        """A point, array index; None if it waits for `predict`.

        Raises:
            InputError: it lies outside the image.
        """
        index = check_index(at, self._session.volume.shape, "coordinates")
        return self._say(Click(index, include), run)

    def box(self, bbox: Sequence[Sequence[float]], include: bool, run: bool) -> Change | None:
        """A half-open box, flat or not; None if it waits for `predict`.

        Raises:
            InputError: it is empty, or says where the structure is not.
        """
        if not include:
            raise InputError("a box says where the structure is; to remove, click a point.")
        shape = self._session.volume.shape
        lo, hi = _inclusive(bbox, shape)
        thin = [round(b) - round(a) == 1 < n for (a, b), n in zip(bbox, shape, strict=True)]
        lift = sum(thin) == 1  # as drawn: what the image cuts to one slice is no box on a slice
        return self._say(asked_box(self._session.volume, lo, hi, "voxel", lift), run)

    def predict(self) -> Change | None:
        """Say what waits; None if nothing does. If any of it is refused, all of it waits on."""
        return self._say_all(self._waiting) if self._waiting else None

    def initial(self, mask: BoolArray) -> Change:
        """Go on with a mask: with its object if the session made it, else with a new one.

        Args:
            mask: (D, H, W) bool; an empty one is a `reset`.

        Raises:
            InputError: it is of another shape.
        """
        self.require_shape(mask.shape)
        if not mask.any():
            return self.reset()
        session, name = self._session, self._name_of(mask)
        left = session.current
        if name is not None:
            blank = not session.history
            session.select(name)
            if left != name and blank:
                self._remove(left)
            before = session.cursor
        else:
            self._fresh()
            before = session.cursor
            try:
                session.start(mask)
            except InputError:
                if session.current != left:
                    self._remove(session.current)
                    session.select(left)
                raise
        if left != session.current and left in session.objects:
            self._switches.append(Switch(left, before, (session.current, session.cursor)))
        self._waiting = []
        return self._changed(session.mask)

    def reset(self) -> Change:
        """Begin another object; the caller empties its buffer itself."""
        self._waiting, self._switches = [], []
        self._fresh()
        self._shown = np.zeros(self._session.volume.shape, np.bool_)
        return _difference(self._shown, self._shown)

    def undo(self) -> Change | None:
        """Take back the last step, be it an `initial`; None if there is none."""
        session = self._session
        if self._waiting:
            self._waiting.pop()
            return _difference(session.mask, session.mask)
        if self._switches and self._switches[-1].after == (session.current, session.cursor):
            switch = self._switches.pop()
            if switch.left in session.objects:
                session.jump(switch.before)
                session.select(switch.left)
                return self._changed(session.mask)
        if not session.can_undo:
            return None
        return self._changed(session.undo())

    @property
    def waiting(self) -> tuple[Box | Click, ...]:
        """What waits for `predict`."""
        return tuple(self._waiting)

    @property
    def mask(self) -> BoolArray:
        """The whole mask of the object, (D, H, W) bool."""
        return self._session.mask

    def require_shape(self, shape: Sequence[int]) -> None:
        """Demand the image's shape.

        Raises:
            InputError: it is another one.
        """
        wanted = self._session.volume.shape
        if tuple(shape) != wanted:
            raise InputError(f"the shape is {list(shape)}, wanted the image's, {list(wanted)}.")

    def clear_buffer(self) -> None:
        """The caller has a new, empty buffer."""
        self._shown = np.zeros(self._session.volume.shape, np.bool_)

    def _say(self, prompt: Box | Click, run: bool) -> Change | None:
        if run:
            return self._say_all([*self._waiting, prompt])
        self._waiting.append(prompt)
        return None

    def _say_all(self, prompts: Sequence[Box | Click]) -> Change:
        """Say prompts one after the other, all or none."""
        before = self._session.cursor
        try:
            for prompt in prompts:
                mask = self._session.prompt(prompt)
        except BaseException:
            self._session.jump(before)
            raise
        self._waiting = []
        return self._changed(mask)

    def _name_of(self, mask: BoolArray) -> str | None:
        """The object whose mask this is still, the one shown last if there are several."""
        session, digest = self._session, _digest(mask)
        for name, known in reversed(self._known.items()):
            alike = known == digest and name in session.objects  # it may have been removed
            if alike and np.array_equal(session.mask_of(name), mask):  # or undone
                return name
        return None

    def _changed(self, mask: BoolArray) -> Change:
        """Remember what the caller will show."""
        if mask.any():
            current = self._session.current
            self._known.pop(current, None)  # the newest last
            self._known[current] = _digest(mask)
        change, self._shown = _difference(self._shown, mask), mask
        return change

    def _remove(self, name: str) -> None:
        """Let an object go; no undo leads to it, nor to a later one of its name."""
        self._session.remove_object(name)
        self._switches = [s for s in self._switches if name not in (s.left, s.after[0])]

    def _fresh(self) -> None:
        """Let prompts go to an object of which nothing was said."""
        session = self._session
        if not session.history:
            return
        if len(session.objects) >= MAX_OBJECTS:
            self._remove(next(n for n in session.objects if n != session.current))
        number = max(session.labels.values()) + 1
        while f"object {number}" in session.objects:
            number += 1
        session.add_object(f"object {number}")


def _difference(before: BoolArray | None, after: BoolArray) -> Change:
    at = (slice(0, n) for n in after.shape) if before is None else bounds_of(before != after)
    if at is None:
        return Change(None, np.zeros((0, 0, 0), np.uint8))
    z, y, x = at
    crop = np.ascontiguousarray(after[z, y, x]).view(np.uint8)
    return Change([[s.start, s.stop] for s in (z, y, x)], crop)


def _inclusive(
    bbox: Sequence[Sequence[float]], shape: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Corners of a half-open box, cut to the image."""
    if len(bbox) != 3 or any(len(pair) != 2 for pair in bbox):
        raise InputError("bbox_coords are not three pairs; wanted [[z0, z1], [y0, y1], [x0, x1]].")
    lo = [max(0, round(a)) for a, _ in bbox]
    hi = [min(n, round(b)) - 1 for (_, b), n in zip(bbox, shape, strict=True)]
    if any(a > b for a, b in zip(lo, hi, strict=True)):
        raise InputError(
            f"the box {[list(pair) for pair in bbox]} has no voxel in the image of shape "
            f"{list(shape)}; its ends are exclusive, so draw it at least one voxel wide."
        )
    return lo, hi


def _digest(mask: BoolArray) -> bytes:
    return hashlib.blake2b(np.packbits(mask).data, digest_size=16).digest()
