"""Stopping a run without losing it: Ctrl-C, or the signal a cluster sends before it takes over."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While it is open, the first signal asks the loop to stop, the second stops it at once.

    Signals belong to the main thread; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._on_signal) for s in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def agreed(self, fabric: Fabric) -> bool:
        """Whether any rank was asked to stop. All ranks call this, and all get one answer."""
        if fabric.world_size == 1:
            return self.asked
        asked = torch.tensor(float(self.asked), device=fabric.device)
        total = fabric.all_reduce(asked, reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        return bool(total > 0)


def leave_signals_to_parent(worker: int) -> None:
    """Let a loading process ignore what a terminal or a cluster sends to it, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
