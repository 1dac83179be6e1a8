"""The allocator does as it is told, where it is glibc's; what that saves is a benchmark."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from segvol_gru import memory

SCATTERED = """
from pathlib import Path
from segvol_gru.memory import give_memory_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
blocks = [bytearray(1000) for _ in range(100_000)]
full = resident()
blocks = blocks[::1000]
assert resident() - before > 0.9 * (full - before)
assert give_memory_back()
assert resident() - before < 0.2 * (full - before)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")


@glibc
def test_glibc_takes_every_setting() -> None:
    """In a process of its own: the settings cannot be taken back."""
    code = "from segvol_gru.memory import keep_memory; assert keep_memory()"
    subprocess.run([sys.executable, "-c", code], check=True)


@glibc
def test_glibc_gives_back_what_lies_between_blocks_in_use() -> None:
    subprocess.run([sys.executable, "-c", SCATTERED], check=True)


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
    assert memory.give_memory_back() is False
