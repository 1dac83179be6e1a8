"""What the loop trains: a program plays one batch and says what it cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Turn(NamedTuple):
    """Which step it is; the same on every rank.

    Attributes:
        step: optimizer steps made before this one.
        of: optimizer steps of the whole run.
        chance: decides what the step does (rounds played, parts trained), never the data.
    """

    step: int
    of: int
    chance: np.random.Generator


class RoundsResult(NamedTuple):
    """What one training step computed.

    Attributes:
        loss: scalar to backpropagate.
        losses: loss per round, 0 = the base.
        dice: hard Dice per round, mean over the batch.
    """

    loss: Tensor
    losses: tuple[float, ...]
    dice: tuple[float, ...]


class Program(nn.Module, ABC):
    """Networks and what is done with a batch of examples."""

    @abstractmethod
    def forward(self, batch: Any, turn: Turn) -> RoundsResult:
        """Play one batch, collated and on the networks' device."""

    @abstractmethod
    def heavy(self) -> Iterable[nn.Module]:
        """The parts whose activations fill the memory."""


def recompute(parts: Iterable[nn.Module]) -> None:
    """Let parts forget their activations and compute them again in the backward pass.

    Memory then holds one part at a time; a step takes about a third longer. Names of the
    parameters stay as they are.

    Source: Chen et al. 2016, arXiv 1604.06174.
    """
    for part in parts:
        # No part draws random numbers, so there is no state of chance to keep.
        again = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)
        part.forward = again
