"""Correctors: a click on a region -> new logits and a new memory (paper Eq. 4 and 5).

Every corrector sees the image, the logits and the prompts of one region, and not the private
features of a base network: one set of weights corrects every base and any tool's mask. What that
costs is a question for an ablation (`FieldConfig.features`), off by default.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.region import Region


class Corrector(nn.Module, ABC):
    """One step of the recurrent correction, batched over regions."""

    @property
    def features(self) -> int:
        """Channels of a base's own features that it can make use of; none by default."""
        return 0

    @abstractmethod
    def initial_memory(self, batch: int) -> Tensor:
        """The memory before the first click, (B, ...)."""

    def carry(self, memory: Tensor, old: Region, new: Region) -> Tensor:
        """The memory after the view moved from one region to another; unchanged by default."""
        return memory

    @abstractmethod
    def correct(
        self, image: Tensor, logits: Tensor, memory: Tensor, prompts: CellPrompts
    ) -> tuple[Tensor, Tensor]:
        """Correct the logits by the newest click.

        Args:
            image: (B, 1, D, H, W) intensities of the region, zero mean and unit deviation;
                behind them may come `features` channels.
            logits: (B, 1, D, H, W) float32, current logits on the cells.
            memory: what `initial_memory` or the last call returned.
            prompts: all prompts so far.

        Returns:
            New logits (B, 1, D, H, W) float32 and the new memory.
        """
