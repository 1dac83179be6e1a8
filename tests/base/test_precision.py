"""bfloat16 exactly where it is wanted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from segvol_gru.base.precision import Precision, autocast, native_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_products_run_in_the_chosen_arithmetic(precision: Precision, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_auto_takes_what_is_native() -> None:
    with autocast(CPU, "auto"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype == torch.bfloat16) == native_bfloat16(CPU)


def test_a_processor_held_back_takes_float32() -> None:
    code = (
        "import torch; from segvol_gru.base.precision import native_bfloat16;"
        "print(native_bfloat16(torch.device('cpu')))"
    )
    held = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert held.stdout.strip() == "False"


def test_a_pytorch_without_onednn_takes_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As its wheels for Macs are built; the question to oneDNN is not even registered there."""
    monkeypatch.setattr(torch.ops, "mkldnn", torch.ops.a_library_that_was_not_built)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with autocast(CPU, "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
