"""Everything a run needs to go on as if it had never stopped, and its checkpoint files."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segvol_gru.errors import InputError

LAST = "last.ckpt"
BEST = "best.ckpt"


@dataclass
class TrainState:
    """Networks and optimizer under training. Data and chance need no state: they follow `step`.

    Attributes:
        model: what learns.
        average: its averaged weights.
        optimizer: with its moments.
        step: optimizer steps made.
        best: highest validation score, -inf before the first.
        stale: validations since then.
        validated: steps made before the last validation, -1 before the first.
    """

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -math.inf
    stale: int = 0
    validated: int = -1

    def save(self, path: Path, config: Mapping[str, Any]) -> None:
        """Write a checkpoint in one piece: to the side first, then renamed."""
        values = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "validated": self.validated,
            "config": dict(config),
        }
        aside = path.with_suffix(".part")
        torch.save(values, aside)
        aside.replace(path)

    def load(self, path: Path, device: torch.device) -> None:
        """Take over what `save` wrote."""
        values = read_checkpoint(path, device)
        self.model.load_state_dict(values["model"])
        self.average.load_state_dict(values["average"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.step = int(values["step"])
        self.best = float(values.get("best", -math.inf))
        self.stale = int(values.get("stale", 0))
        self.validated = int(values.get("validated", self.step))


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> Mapping[str, Any]:
    """Read a checkpoint without running anything in it.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path.parent} holds no {path.name}; give the --out folder of a run.")
    try:
        values: Mapping[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds on damaged and on hostile files
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no checkpoint ({reason}); begin a new run.") from None
    return values


def copied(model: nn.Module) -> nn.Module:
    """A copy that does not learn: the first average."""
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's; early steps average less."""
    keep = min(decay, (1 + step) / (10 + step))
    for a, b in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - keep)
