"""How many processes train together: one, those of --devices, of torchrun or of a SLURM job."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from segvol_gru.base.precision import native_bfloat16

FEWEST_CELLS = 3  # along an axis of a level in bfloat16


def make_fabric(
    accelerator: str,
    devices: int,
    precision: str,
    fewest_cells: int,
    environment: Mapping[str, str] = os.environ,
) -> Fabric:
    """The processes and devices of a run.

    Args:
        accelerator: "cpu", "cuda" or "auto", which is CUDA if there is any, else the CPU.
        devices: processes on this machine, each with a device; torchrun and SLURM know better.
        precision: "bf16-mixed", "32-true", or "auto" for the first where it is native and no level
            of the networks is too small. Imitated, it takes many times as long as float32; and in
            oneDNN (PyTorch 2.13.0) weight gradients of levels of 2x2x2 cells hold garbage in it.
        fewest_cells: along an axis of the smallest level of what is trained.
        environment: where torchrun and SLURM say how many processes there are.
    """
    devices, nodes = launched(devices, environment)
    if accelerator == "auto":  # Fabric's own would take a Mac's GPU before anything else
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "auto":
        native = native_bfloat16(torch.device(accelerator))
        precision = "bf16-mixed" if native and fewest_cells >= FEWEST_CELLS else "32-true"
    several = devices * nodes > 1
    return Fabric(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=precision,  # type: ignore[arg-type]  # the recipe holds a word of theirs
        # A step trains the base or not, by chance, the same on all ranks.
        strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
    )


def launched(devices: int, environment: Mapping[str, str]) -> tuple[int, int]:
    """(processes per machine, machines) as a launcher set them, else those asked for."""
    if "LOCAL_WORLD_SIZE" in environment:  # torchrun
        local = int(environment["LOCAL_WORLD_SIZE"])
        return local, int(environment["WORLD_SIZE"]) // local
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and not interactive:  # srun
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return devices, 1
