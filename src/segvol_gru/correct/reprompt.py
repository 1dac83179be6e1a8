"""The baseline without a memory: the base network again, with all clicks and its own mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from segvol_gru.correct import Corrector
from segvol_gru.prompt_maps import CellPrompts


class Reprompt(Corrector):
    """Ask a base network anew at every click.

    Args:
        base: image, logits and prompts of a region -> logits; shared, not copied.
    """

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def initial_memory(self, batch: int) -> Tensor:
        """Nothing is remembered: (B, 0) float32."""
        return torch.zeros(batch, 0)

    def correct(
        self, image: Tensor, logits: Tensor, memory: Tensor, prompts: CellPrompts
    ) -> tuple[Tensor, Tensor]:
        """See `Corrector.correct`."""
        again: Tensor = self.base(image, logits, prompts)
        return again, memory
