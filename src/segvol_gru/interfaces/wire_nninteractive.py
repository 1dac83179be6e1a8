"""What nnInteractive's clients say, as prompts of a session; for the server and in process.

Their words differ from ours: boxes are half-open and may reach beyond the image, a point is an
array index in any numbers, `reset` begins another object, and nobody says which object is meant:
coming back to one looks like a mask from elsewhere. A mask that the session itself made is known
by its digest, so its object, memory and history are taken up again.

    caller's buffer ◄─ Change ◄─ Dialect ─► SessionLike
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.interfaces.wire import BoolArray, SessionLike
from segvol_gru.simulate import bounds_of

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


class Dialect:
    """One conversation about one session.

    Args:
        session: what is talked about.
        shown: the caller's mask, (D, H, W) bool; None if it is not known what the caller shows,
            so that the first change is the whole volume.
    """

    def __init__(self, session: SessionLike, shown: BoolArray | None) -> None:
        self._session = session
        self._shown = shown
        self._waiting: list[Callable[[], BoolArray]] = []
        self._known = {
            _digest(mask): name for name in session.objects if (mask := session.mask_of(name)).any()
        }

    def point(self, at: Sequence[float], include: bool, run: bool) -> Change | None:
        """A point, array index; None if it waits for `predict`.

        Raises:
            InputError: it lies outside the image.
        """
        _require_inside(at, self._session.volume.shape)
        return self._say(lambda: self._session.click(at, include), run)

    def box(self, bbox: Sequence[Sequence[float]], include: bool, run: bool) -> Change | None:
        """A half-open box, flat or not; None if it waits for `predict`.

        Raises:
            InputError: it is empty, or says where the structure is not.
        """
        if not include:
            raise InputError("a box says where the structure is; to remove, click a point.")
        lo, hi = _inclusive(bbox, self._session.volume.shape)
        return self._say(lambda: self._session.box(lo, hi), run)

    def predict(self) -> Change | None:
        """Say what waits; None if nothing does."""
        if not self._waiting:
            return None
        waiting, self._waiting = self._waiting, []
        for say in waiting:
            mask = say()
        return self._changed(mask)

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
        name = self._known.get(_digest(mask))
        left = self._session.current
        if name is not None and self._has(name, mask):
            self._session.select(name)
            if left != name and left not in self._known.values():
                self._session.remove_object(left)
        else:
            self._fresh()
            self._session.start(mask)
        self._waiting = []
        return self._changed(self._session.mask)

    def reset(self) -> Change:
        """Begin another object; the caller empties its buffer itself."""
        self._waiting = []
        self._fresh()
        self._shown = np.zeros(self._session.volume.shape, np.bool_)
        return _difference(self._shown, self._shown)

    def undo(self) -> Change | None:
        """Take back the last step of the object; None if there is none."""
        if self._waiting:
            self._waiting.pop()
            return _difference(self._session.mask, self._session.mask)
        if not self._session.can_undo:
            return None
        return self._changed(self._session.undo())

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

    def _say(self, say: Callable[[], BoolArray], run: bool) -> Change | None:
        if not run:
            self._waiting.append(say)
            return None
        self._waiting.append(say)
        return self.predict()

    def _has(self, name: str, mask: BoolArray) -> bool:
        """Whether an object has this mask still: it may have been undone or removed."""
        session = self._session
        return name in session.objects and np.array_equal(session.mask_of(name), mask)

    def _changed(self, mask: BoolArray) -> Change:
        """Remember what the caller will show."""
        if mask.any():
            current = self._session.current
            self._known = {k: name for k, name in self._known.items() if name != current}
            self._known[_digest(mask)] = current
        change, self._shown = _difference(self._shown, mask), mask
        return change

    def _fresh(self) -> None:
        """Let prompts go to an object of which nothing was said."""
        session = self._session
        if not session.history:
            return
        if len(session.objects) >= MAX_OBJECTS:
            session.remove_object(session.objects[0])
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


def _require_inside(at: Sequence[float], shape: Sequence[int]) -> None:
    """A prompt that waits is checked when it is said."""
    inside = len(at) == 3 and all(-0.5 <= a <= n - 0.5 for a, n in zip(at, shape, strict=True))
    if not inside:
        raise InputError(f"coordinates are {list(at)}, outside the image of shape {list(shape)}.")


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
