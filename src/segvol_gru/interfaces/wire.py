"""What a session is to its users, near or far, and how its prompts are said in JSON.

    SessionLike ◄─ Session        in this process
                ◄─ RemoteSession  on a server, over `/api/v1`

No PyTorch here: a client installs without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from segvol_gru.grid import Grid
from segvol_gru.interfaces.wire_arrays import Json
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.session.asked import Frame, Point
from segvol_gru.volume import Volume

API = "/api/v1"
HEADER_LIMIT = 2**16  # bytes of an image file's header; longer ones are not sent
BoolArray = NDArray[np.bool_]


class SessionLike(Protocol):
    """One volume and its objects; see `segvol_gru.session.session.Session` for every method."""

    @property
    def volume(self) -> Volume: ...  # noqa: D102
    @property
    def objects(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def labels(self) -> dict[str, int]: ...  # noqa: D102
    @property
    def current(self) -> str: ...  # noqa: D102
    @property
    def mask(self) -> BoolArray: ...  # noqa: D102
    @property
    def probability(self) -> NDArray[np.float32]: ...  # noqa: D102
    @property
    def history(self) -> tuple[object, ...]: ...  # noqa: D102
    @property
    def cursor(self) -> int: ...  # noqa: D102
    @property
    def can_undo(self) -> bool: ...  # noqa: D102
    @property
    def can_redo(self) -> bool: ...  # noqa: D102

    def box(  # noqa: D102
        self, lo: Point, hi: Point, *, frame: Frame = "voxel", lift: bool = True
    ) -> BoolArray: ...
    def click(  # noqa: D102
        self, at: Point, positive: bool = True, *, frame: Frame = "voxel"
    ) -> BoolArray: ...
    def prompt(self, prompt: Box | Click) -> BoolArray: ...  # noqa: D102
    def start(self, mask: ArrayLike) -> BoolArray: ...  # noqa: D102
    def reset(self) -> BoolArray: ...  # noqa: D102
    def undo(self) -> BoolArray: ...  # noqa: D102
    def redo(self) -> BoolArray: ...  # noqa: D102
    def jump(self, step: int) -> BoolArray: ...  # noqa: D102
    def suggest(self) -> Index | None: ...  # noqa: D102
    def mask_of(self, name: str) -> BoolArray: ...  # noqa: D102
    def mask_at(self, step: int) -> BoolArray: ...  # noqa: D102
    def label_map(self) -> NDArray[Any]: ...  # noqa: D102
    def add_object(self, name: str) -> None: ...  # noqa: D102
    def select(self, name: str) -> None: ...  # noqa: D102
    def rename_object(self, name: str, to: str) -> None: ...  # noqa: D102
    def remove_object(self, name: str) -> None: ...  # noqa: D102
    def save(self, path: str | PathLike[str]) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Seed:
    """In a remote history: a mask of another tool was taken over.

    Attributes:
        voxels: how many voxels it has.
    """

    voxels: int


class Ask(BaseModel):
    """A request; unknown fields are refused, so that a typing error is not half obeyed."""

    model_config = ConfigDict(extra="forbid")


Number = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Number, Number, Number]


class BoxAsk(Ask):
    """A box.

    Attributes:
        lo: smaller corner, voxel index (z, y, x), inclusive.
        hi: larger corner, inclusive.
        frame: 'ras' if both corners are (x, y, z) in mm instead.
        lift: whether to guess the depth of a box that is one voxel thick.
        tight: per axis whether the box touches the object; if given, the box is taken at its
            word and `frame` and `lift` do not count.
    """

    lo: Triple
    hi: Triple
    frame: Frame = "voxel"
    lift: bool = True
    tight: tuple[bool, bool, bool] | None = None


class ClickAsk(Ask):
    """A click: where, in which frame, and whether the structure is there."""

    at: Triple
    positive: bool = True
    frame: Frame = "voxel"


class StepAsk(Ask):
    """How many entries of the history shall count."""

    step: int


class NameAsk(Ask):
    """The name of an object."""

    name: str


class RenameAsk(NameAsk):
    """Another name for an object."""

    to: str


class SaidBox(BaseModel):
    """In a history: a box, both corners inclusive."""

    kind: Literal["box"] = "box"
    lo: tuple[int, int, int]
    hi: tuple[int, int, int]
    tight: tuple[bool, bool, bool]


class SaidClick(BaseModel):
    """In a history: a click."""

    kind: Literal["click"] = "click"
    at: tuple[int, int, int]
    positive: bool


class SaidSeed(BaseModel):
    """In a history: a mask of another tool."""

    kind: Literal["seed"] = "seed"
    voxels: int


class SaidReset(BaseModel):
    """In a history: the object was emptied."""

    kind: Literal["reset"] = "reset"


Said = Annotated[SaidBox | SaidClick | SaidSeed | SaidReset, Field(discriminator="kind")]


class ObjectInfo(BaseModel):
    """One object: its name and its number in the label map."""

    name: str
    label: int


class SessionInfo(BaseModel):
    """What is known of a session but its arrays.

    Attributes:
        id: names the session in addresses; whoever has it may use the session.
        shape: (D, H, W).
        objects: in the order of adding.
        current: name of the object that prompts go to.
        history: of the current object, undone entries included.
        cursor: how many of them count.
    """

    id: str
    shape: tuple[int, int, int]
    objects: list[ObjectInfo]
    current: str
    history: list[Said]
    cursor: int


class Suggestion(BaseModel):
    """Where to look next: voxel index (z, y, x), or null."""

    at: tuple[int, int, int] | None


class Lease(BaseModel):
    """Seconds until an untouched session gives up its place; it can be taken up again."""

    remaining_seconds: float
    idle_timeout_seconds: float


def about(volume: Volume) -> Json:
    """What the text of an image's bytes says: `affine`, `modality` and `header`."""
    grid = volume.grid.to_json()
    header = volume.grid.header
    sent = header is not None and len(header.raw) <= HEADER_LIMIT
    return {
        "affine": grid["affine"],
        "modality": volume.modality,
        "header": grid["header"] if sent else None,
    }


def placed(array: NDArray[Any], text: Json) -> Volume:
    """The volume of an image's bytes, of which `about` wrote the text.

    Args:
        array: (D, H, W) voxels.
        text: what came with them; an older server sends no `header`.

    Raises:
        InputError: the text is of something else.
    """
    record = {"header": None, **text, "shape": array.shape}
    grid, modality = Grid.from_json(record), text.get("modality")
    return Volume(array, affine=grid.affine, modality=modality, header=grid.header)


def said(prompt: object) -> Said:
    """An entry of a session's history as JSON's model."""
    if isinstance(prompt, Box):
        return SaidBox(lo=prompt.lo, hi=prompt.hi, tight=prompt.tight)
    if isinstance(prompt, Click):
        return SaidClick(at=prompt.at, positive=prompt.positive)
    if prompt == "reset":
        return SaidReset()
    return SaidSeed(voxels=int(getattr(prompt, "voxels")))  # noqa: B009 (its class needs PyTorch)


def heard(entry: Said) -> Box | Click | Seed | str:
    """An entry of a history from JSON's model."""
    match entry:
        case SaidBox():
            return Box(entry.lo, entry.hi, entry.tight)
        case SaidClick():
            return Click(entry.at, entry.positive)
        case SaidSeed():
            return Seed(entry.voxels)
        case SaidReset():
            return "reset"
