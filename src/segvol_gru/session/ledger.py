"""The one place where a session changes: a command is tried, written down, and then counts."""

from __future__ import annotations

from collections.abc import Sequence

from segvol_gru.prompts import Index
from segvol_gru.session.blobs import Blobs
from segvol_gru.session.journal import Journal
from segvol_gru.session.log import Add, Command, Prompted, Remove, Scene, apply, commands_of
from segvol_gru.session.snapshot import check

FIRST = "object 1"


class Ledger:
    """A scene that follows commands.

    Args:
        blobs: holds the bytes of the scene's snapshots.

    Attributes:
        scene: all objects, an immutable value.
        journal: where commands are written; None until one is attached.
    """

    def __init__(self, blobs: Blobs) -> None:
        self.scene = Scene()
        self.blobs = blobs
        self.journal: Journal | None = None

    def commit(self, command: Command) -> None:
        """Do one thing.

        Raises:
            InputError: it is refused or cannot be written; nothing has changed.
        """
        scene = apply(self.scene, command)
        if self.journal is not None:
            self.journal.append(command, self.blobs)
        before, self.scene = self.scene, scene
        if _drops(command, before):
            self.forget()
        if self.journal is not None:
            self.journal.tidy(scene, self.blobs)

    def replay(self, commands: Sequence[Command], shape: Index) -> None:
        """Follow commands that were read from disk, without writing them again.

        Args:
            commands: since the beginning.
            shape: (D, H, W) of the volume.

        Raises:
            InputError: one of them does not fit the volume or those before it.
        """
        scene = Scene()
        for command in commands:
            if isinstance(command, Prompted) and command.event.result is not None:
                check(command.event.result, self.blobs, shape)
            scene = apply(scene, command)
        self.scene = scene
        self.forget()

    def attach(self, journal: Journal) -> None:
        """Write everything so far into a new journal, and all that follows.

        Raises:
            InputError: it cannot be written.
        """
        for command in commands_of(self.scene) if self.scene.tracks else ():
            journal.append(command, self.blobs)
        self.journal = journal

    def begin(self) -> None:
        """Add the first object to a scene that has none."""
        if not self.scene.tracks:
            self.commit(Add(FIRST, 1))

    def close(self) -> None:
        """Let go of all files and bytes."""
        self.blobs.close()
        if self.journal is not None:
            self.journal.close()

    def forget(self) -> None:
        """Drop bytes that no event names any more."""
        events = (event for track in self.scene.tracks for event in track.events)
        results = (event.result for event in events if event.result is not None)
        self.blobs.keep_only({array.key for result in results for array in result.arrays})


def _drops(command: Command, before: Scene) -> bool:
    """Whether a command makes events unreachable."""
    if isinstance(command, Prompted):
        track = before.track(command.name)
        return track.cursor < len(track.events)
    return isinstance(command, Remove)
