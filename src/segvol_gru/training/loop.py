"""The training loop: resumable to the bit, on a CPU, a GPU or many (Lightning Fabric)."""

from __future__ import annotations

import copy
import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from segvol_gru.data.dataset import LoadedCase
from segvol_gru.training.examples import ExampleConfig, Examples
from segvol_gru.training.rounds import Rounds, RoundsConfig


@dataclass(frozen=True)
class LoopConfig:
    """One training run."""

    steps: int = 4000
    """Optimizer steps."""
    batch: int = 4
    """Examples per step and process."""
    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-3
    """Decoupled weight decay."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay_from: float = 0.6
    """Share of the run after which the rate falls linearly to zero."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones exported."""
    seed: int = 2025
    """Seed of data, rounds and clicks."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    examples: ExampleConfig = field(default_factory=ExampleConfig)
    """How examples are drawn."""
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    """How rounds are played."""


class _From(Sampler[int]):
    """Indices of one rank from a step on: rank r of n takes r, r + n, r + 2n, ..."""

    def __init__(self, first: int, stop: int, rank: int, world: int) -> None:
        self.indices = range(first + rank, stop, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, constant, linear decay to zero."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    start = config.decay_from * config.steps
    fall = (config.steps - step) / max(config.steps - start, 1)
    return config.lr * warm * min(1.0, max(fall, 0.0))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's; early steps average less."""
    keep = min(decay, (1 + step) / (10 + step))
    for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - keep)


def fit(
    model: Rounds,
    cases: Sequence[LoadedCase],
    config: LoopConfig,
    out: Path,
    fabric: Fabric,
    workers: int = 1,
) -> nn.Module:
    """Train, or go on where a checkpoint in `out` ended.

    Args:
        model: base and corrector.
        cases: real cases in memory.
        config: the run.
        out: folder for `last.ckpt` and `log.csv`.
        fabric: devices and precision.
        workers: processes that draw examples.

    Returns:
        The averaged model.
    """
    out.mkdir(parents=True, exist_ok=True)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    trained, optimizer = fabric.setup(model, optimizer)
    fabric.to_device(average)
    first = _resume(out / "last.ckpt", fabric, model, average, optimizer)
    per_step = config.batch * fabric.world_size
    data = Examples(cases, config.examples, config.seed, config.steps * per_step)
    sampler = _From(first * per_step, len(data), fabric.global_rank, fabric.world_size)
    loader = DataLoader(data, config.batch, sampler=sampler, num_workers=workers)
    batches: Iterator[Any] = iter(fabric.setup_dataloaders(loader, use_distributed_sampler=False))
    started = time.monotonic()
    for step in range(first, config.steps):
        batch = next(batches)
        schedule = np.random.default_rng([config.seed, step])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        result = trained(batch, schedule)
        fabric.backward(result.loss)
        norm = fabric.clip_gradients(trained, optimizer, max_norm=config.clip)
        optimizer.step()
        optimizer.zero_grad()
        update_average(average, model, config.ema, step)
        if fabric.is_global_zero:
            seconds = (time.monotonic() - started) / (step + 1 - first)
            _log(out / "log.csv", step, result.losses, result.dice, norm, seconds)
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _save(out / "last.ckpt", fabric, model, average, optimizer, step + 1, config)
    return average


def _resume(
    path: Path,
    fabric: Fabric,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> int:
    """Load a checkpoint if there is one; the step to go on from."""
    if not path.is_file():
        return 0
    state: Mapping[str, Any] = torch.load(path, map_location=fabric.device, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _save(
    path: Path,
    fabric: Fabric,
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    config: LoopConfig,
) -> None:
    """Write a checkpoint in one piece: to the side first, then renamed."""
    if not fabric.is_global_zero:
        return
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "config": asdict(config),
    }
    aside = path.with_suffix(".part")
    torch.save(state, aside)
    aside.replace(path)


def _log(
    path: Path,
    step: int,
    losses: Sequence[float],
    dice: Sequence[float],
    norm: Tensor | None,
    seconds: float,
) -> None:
    """Append one row: step, seconds per step, gradient norm, then loss and Dice per round."""
    new = not path.exists()
    with path.open("a", newline="") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(["step", "seconds", "norm", "losses", "dice"])
        writer.writerow(
            [
                step,
                f"{seconds:.3f}",
                f"{float(norm) if norm is not None else 0:.3f}",
                " ".join(f"{x:.4f}" for x in losses),
                " ".join(f"{x:.4f}" for x in dice),
            ]
        )
