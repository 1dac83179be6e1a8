"""The layers of pyproject.toml hold, and every module can be imported on its own."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import segvol_gru

ROOT = Path(__file__).parent.parent
MODULES = [
    found.name
    for found in pkgutil.walk_packages(segvol_gru.__path__, "segvol_gru.")
    if not found.name.endswith("__main__")
]


def test_import_contracts_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
    ]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name: str) -> None:
    assert import_module(name).__doc__


def test_the_package_alone_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, segvol_gru as sg; sg.Click, sg.Box, sg.InputError;"
        "print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
