"""Which arithmetic a device does fast: bfloat16 where it is native, float32 elsewhere."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware.

    On a CPU both the processor and oneDNN are asked: `ONEDNN_MAX_CPU_ISA` may forbid what the
    processor has, and AVX-512 without its BF16 part only imitates it. A PyTorch without oneDNN,
    as for Macs, has no fast bfloat16 and cannot even be asked.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not able or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # torch 2.6 cannot say what the processor has, and then takes float32.
    have: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(have.get(part, False) for part in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context in which matrix products run in the chosen arithmetic.

    Args:
        device: where the tensors are.
        precision: `auto` takes bfloat16 exactly where it is native.
    """
    bf16 = precision == "bfloat16" or (precision == "auto" and native_bfloat16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
