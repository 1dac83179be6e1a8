"""The allocator keeps large blocks, where it is glibc's; what that saves is a benchmark."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from segvol_gru.training import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_glibc_takes_every_setting() -> None:
    """In a process of its own: the settings cannot be taken back."""
    code = "from segvol_gru.training.memory import keep_memory; assert keep_memory()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_memory() is False
