"""The command line as a whole: help at once, refusals in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segvol_gru.interfaces.cli import app

HEAVY = ("torch", "scipy", "matplotlib", "nibabel", "SimpleITK", "lightning_fabric", "numpy")
COMMANDS = ("segment", "demo", "doctor", "evaluate", "train", "export", "info", "weights")


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_a_pipe_is_wide_enough_for_every_column() -> None:
    """Unless the environment says how wide: 80 letters would cut the tables."""
    code = "from segvol_gru.interfaces import console; print(console.out.width)"
    plain = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    for said, wanted in (({}, 160), ({"COLUMNS": "72"}, 72)):
        found = subprocess.run(
            [sys.executable, "-c", code], env={**plain, **said}, capture_output=True, check=True
        )
        assert int(found.stdout) == wanted


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner;"
        "from segvol_gru.interfaces.cli import app;"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0, r.output;"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_takes_less_than_half_a_second() -> None:
    """Of processor time, which other processes do not change; the best of three."""
    code = (
        "import sys, time; sys.argv = ['segvol-gru', '--help']\n"
        "from segvol_gru.interfaces.cli import app\n"
        "try: app()\n"
        "except SystemExit: sys.stderr.write(str(time.process_time()))"
    )
    seconds = [
        float(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, encoding="utf-8"
            ).stderr
        )
        for _ in range(3)
    ]
    assert min(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    code, shown, _ = run(command, "--help")
    assert code == 0
    assert "Usage" in shown


def test_every_command_is_listed() -> None:
    shown = run("--help")[1]
    assert all(f"\n  {command} " in shown for command in COMMANDS)


def test_version_is_that_of_the_package() -> None:
    assert run("--version") == (0, metadata.version("segvol-gru") + "\n", "")


def test_a_refusal_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    code, shown, said = run("segment", "nothing.nii.gz", "--out", str(tmp_path / "m.nii.gz"))
    assert (code, shown) == (2, "")
    assert said == "no prompt came; give --box, --click, --text or --mask.\n"


def test_a_refusal_of_the_program_itself_has_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "segvol_gru", "segment", str(tmp_path / "no.nii.gz")]
    command += ["--box", "0,0,0,1,1,1", "--out", str(tmp_path / "m.nii.gz")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "there is no file" in done.stderr
