"""What was done, as immutable values: commands, and the scene they add up to.

    Add, Prompted, Move, ...  ─► apply ─► Scene: objects, each with its events and a cursor

A live session, a journal and a session file all go through `apply`, so what is replayed is what
was. An undone event stays in the log until a new prompt takes its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click
from segvol_gru.session.asked import asked_name
from segvol_gru.session.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Seed:
    """A mask of another tool was taken over; the snapshot beside it holds its bits.

    Attributes:
        voxels: how many voxels it has.
    """

    voxels: int


Prompt = Box | Click | Seed | Literal["reset"]


@dataclass(frozen=True, slots=True)
class Event:
    """A prompt and what came of it.

    Attributes:
        prompt: what the user said.
        result: everything known afterwards; None after a reset.
    """

    prompt: Prompt
    result: Snapshot | None


@dataclass(frozen=True, slots=True)
class Track:
    """One object.

    Attributes:
        name: unique in the scene.
        label: its number in a label map, from 1; never changes.
        events: everything said about it, oldest first, undone events included.
        cursor: how many of them count.
    """

    name: str
    label: int
    events: tuple[Event, ...] = ()
    cursor: int = 0

    @property
    def result(self) -> Snapshot | None:
        """What is known now; None for an object of which nothing was said."""
        return self.events[self.cursor - 1].result if self.cursor else None

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The unbroken run of clicks that ends at the cursor, oldest first."""
        run: list[Click] = []
        for event in reversed(self.events[: self.cursor]):
            if not isinstance(event.prompt, Click):
                break
            run.append(event.prompt)
        return tuple(reversed(run))


@dataclass(frozen=True, slots=True)
class Scene:
    """All objects of a volume.

    Attributes:
        tracks: the objects in the order they were added.
        selected: name of the one that prompts go to.
    """

    tracks: tuple[Track, ...] = ()
    selected: str = ""

    @property
    def current(self) -> Track:
        """The selected object."""
        return self.track(self.selected)

    @property
    def free_label(self) -> int:
        """The number that the next object gets."""
        return max((track.label for track in self.tracks), default=0) + 1

    def track(self, name: str) -> Track:
        """The object of a name.

        Raises:
            InputError: there is none.
        """
        for track in self.tracks:
            if track.name == name:
                return track
        known = ", ".join(repr(track.name) for track in self.tracks)
        raise InputError(f"there is no object {name!r}; the objects are {known}.")

    def with_track(self, old: str, new: Track) -> Scene:
        """The same scene with one object in place of another."""
        return replace(self, tracks=tuple(new if t.name == old else t for t in self.tracks))


@dataclass(frozen=True, slots=True)
class Add:
    """A new object, selected at once."""

    name: str
    label: int
    do: Literal["add"] = "add"


@dataclass(frozen=True, slots=True)
class Select:
    """Prompts go to another object."""

    name: str
    do: Literal["select"] = "select"


@dataclass(frozen=True, slots=True)
class Rename:
    """An object is called something else."""

    name: str
    to: str
    do: Literal["rename"] = "rename"


@dataclass(frozen=True, slots=True)
class Remove:
    """An object and its log are gone."""

    name: str
    do: Literal["remove"] = "remove"


@dataclass(frozen=True, slots=True)
class Move:
    """Undo, redo or jump: the cursor of an object is put elsewhere."""

    name: str
    cursor: int
    do: Literal["move"] = "move"


@dataclass(frozen=True, slots=True)
class Prompted:
    """Something was said about an object; undone events before it are dropped."""

    name: str
    event: Event
    do: Literal["prompt"] = "prompt"


Command = Add | Select | Rename | Remove | Move | Prompted


def apply(scene: Scene, command: Command) -> Scene:
    """One step: the scene after a command.

    Raises:
        InputError: the command names no object, a name that is taken or a cursor out of range.
    """
    if isinstance(command, Add):
        _require_free(scene, command.name)
        track = Track(command.name, command.label)
        return Scene((*scene.tracks, track), track.name)
    track = scene.track(command.name)
    match command:
        case Select():
            return replace(scene, selected=track.name)
        case Rename(to=to):
            if to == track.name:
                return scene
            _require_free(scene, to)
            selected = to if scene.selected == track.name else scene.selected
            return replace(scene.with_track(track.name, replace(track, name=to)), selected=selected)
        case Remove():
            return _without(scene, track)
        case Move(cursor=cursor):
            if not 0 <= cursor <= len(track.events):
                raise InputError(
                    f"step {cursor} of object {track.name!r} was asked for, "
                    f"wanted 0 (nothing said) to {len(track.events)} (everything said)."
                )
            return scene.with_track(track.name, replace(track, cursor=cursor))
        case Prompted(event=event):
            events = (*track.events[: track.cursor], event)
            return scene.with_track(track.name, replace(track, events=events, cursor=len(events)))


def commands_of(scene: Scene) -> list[Command]:
    """The shortest list of commands that makes this scene from an empty one."""
    commands: list[Command] = []
    for track in scene.tracks:
        commands.append(Add(track.name, track.label))
        commands.extend(Prompted(track.name, event) for event in track.events)
        if track.cursor < len(track.events):
            commands.append(Move(track.name, track.cursor))
    return [*commands, Select(scene.selected)]


def keys_of(command: Command) -> list[str]:
    """Blobs that a command names, each once."""
    if not isinstance(command, Prompted) or command.event.result is None:
        return []
    return list(dict.fromkeys(array.key for array in command.event.result.arrays))


def _require_free(scene: Scene, name: str) -> None:
    asked_name(name)
    if any(track.name == name for track in scene.tracks):
        raise InputError(f"there is an object {name!r} already; choose another name.")


def _without(scene: Scene, track: Track) -> Scene:
    if len(scene.tracks) == 1:
        raise InputError(f"{track.name!r} is the only object; reset it instead of removing it.")
    tracks = tuple(t for t in scene.tracks if t is not track)
    selected = scene.selected if scene.selected != track.name else tracks[-1].name
    return Scene(tracks, selected)
