"""The allocator keeps large blocks, where it is glibc's."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from segvol_gru.training import memory

FAULTS = """
import resource, torch
from segvol_gru.training.memory import keep_memory
if {kept}:
    assert keep_memory()
def work():
    for _ in range(3):
        torch.ones(24, 1024, 1024)  # 96 MB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept: bool) -> int:
    code = FAULTS.format(kept=kept)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_large_blocks_are_fetched_once() -> None:
    """Without it every block of 96 MB faults again (24576 times, or 48 with huge pages)."""
    assert faults(kept=True) < 0.2 * faults(kept=False)


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
