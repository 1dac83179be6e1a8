"""How much a server gives to its users."""

from __future__ import annotations

from dataclasses import dataclass, fields

from segvol_gru.errors import InputError

MB = 2**20
GB = 2**30
DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps in number, bytes and seconds."""

    max_sessions: int = 8
    """Sessions that are open at a time; others wait on disk."""

    max_bytes: int = 4 * GB
    """Voxels of all open sessions."""

    max_upload_bytes: int = 1 * GB
    """One upload, as it is sent and as it is in memory."""

    max_store_bytes: int = 64 * GB
    """Voxels and steps of all sessions on disk; beyond it no image is taken."""

    max_records: int = 10_000
    """Sessions on disk."""

    idle_s: float = 600.0
    """A session that nobody says anything to for so long gives up its place."""

    liveness_s: float = 60.0
    """So does one whose viewer gives no sign of life for so long."""

    keep_s: float = 7 * DAY_S
    """A session that was not used for so long is deleted."""

    undo_memory_mb: int = 64
    """Past states of a session kept in memory; older ones are read from its journal."""

    retry_after_s: int = 10
    """When to come back if there is no place."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0:
                raise InputError(f"{item.name} is {value}, wanted a positive number.")
