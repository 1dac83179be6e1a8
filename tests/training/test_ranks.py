"""Two processes are one process with twice the batch."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_folder
from lightning_fabric.accelerators import MPSAccelerator

from segvol_gru.training import ranks
from segvol_gru.training.ranks import launched, make_fabric

RECIPE = """
stage = "{stage}"
precision = "32-true"
[base]
widths = [4, 4, 4, 4]
encoder_blocks = [1, 1, 1, 1]
head_width = 4
cells = 16
[field]
widths = [4, 4, 4, 4]
encoder_blocks = [1, 1, 1, 1]
head_width = 4
memory_width = 4
cells = 16
[loop]
steps = 4
batch = {batch}
warmup = 1
[loop.examples]
cells = 16
synthetic_share = 0.0
[loop.rounds]
weights = [0, 1, 1]
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def run(launcher: Sequence[str], recipe: Path, data: Path, out: Path, *more: str) -> list[float]:
    """Train in processes of their own; every loss of every step, the rounds' too."""
    command = [sys.executable, *launcher, "-m", "segvol_gru", "train", str(recipe)]
    command += ["--data", str(data), "--out", str(out), "--device", "cpu", "--workers", "0", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    with (out / "log.csv").open(newline="") as stream:
        return [float(x) for row in csv.DictReader(stream) for x in row["losses"].split()]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    """Base, then corrector on it: gloo under torchrun against a single process."""
    rows = [(name, "cubes", "train") for name in "abc"]
    data, losses = write_folder(tmp_path / "data", rows), {}
    for stage in ("base", "corrector"):
        for name, launcher, batch in (("one", (), 4), ("two", TORCHRUN, 2)):
            recipe = tmp_path / f"{stage}-{name}.toml"
            recipe.write_text(RECIPE.format(stage=stage, batch=batch))
            start = ("--from", str(tmp_path / "base-one")) if stage == "corrector" else ()
            out = tmp_path / f"{stage}-{name}"
            losses[stage, name] = run(launcher, recipe, data, out, *start)
        one, two = losses[stage, "one"], losses[stage, "two"]
        assert len(one) >= 4
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, (3, 1)),
        ({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        ({"SLURM_NTASKS": "16", "SLURM_NNODES": "2"}, (8, 2)),
        ({"SLURM_NTASKS": "1"}, (3, 1)),
        ({"SLURM_NTASKS": "16", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "bash"}, (3, 1)),
    ],
)
def test_the_launcher_says_how_many_processes(
    environment: dict[str, str], wanted: tuple[int, int]
) -> None:
    assert launched(3, environment) == wanted


@pytest.mark.parametrize(("native", "cells"), [(True, 3), (True, 2), (False, 3)])
def test_auto_is_bfloat16_where_that_is_good(
    native: bool, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is imitated, a step takes many times as long; at 2 cells gradients are garbage."""
    monkeypatch.setattr(ranks, "native_bfloat16", lambda device: native)
    fabric = make_fabric("cpu", 1, "auto", cells, {})
    weight, x = torch.nn.Linear(4, 4), torch.ones(2, 4)
    with fabric.autocast():
        assert weight(x).dtype == (torch.bfloat16 if native and cells == 3 else torch.float32)


def test_what_a_recipe_asks_for_is_done_anywhere() -> None:
    for precision, wanted in (("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)):
        with make_fabric("cpu", 1, precision, 2, {}).autocast():
            assert torch.nn.Linear(4, 4)(torch.ones(2, 4)).dtype == wanted


def test_auto_is_never_a_macs_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it for sessions, and `train` refuses it by name."""
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: True)
    fabric = make_fabric("auto", 1, "32-true", 3, {})
    assert fabric.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
