"""Correctors: a click on a region -> new logits and a new memory (paper Eq. 4 and 5).

Every corrector sees the image, the logits and the prompts of one region, never the private
features of a base network: one set of weights corrects every base and any tool's mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class CellPrompts:
    """The prompts of a batch of regions, in cell coordinates (cell c has its centre at c).

    Attributes:
        points: (B, N, 3) float32, clicks (z, y, x) in the order given; the newest click of
            item b is the last one whose label is not -1.
        labels: (B, N) int64: 1 positive, 0 negative, -1 padding.
        box: (B, 6) float32 (z0, y0, x0, z1, y1, x1): the box's *outer faces* in cell
            coordinates; NaN throughout where there is no box.
        cell_mm: (B, 3) float32, cell size along (D, H, W) in mm.
    """

    points: Tensor
    labels: Tensor
    box: Tensor
    cell_mm: Tensor


class Corrector(Protocol):
    """One step of the recurrent correction, batched over regions."""

    def initial_memory(self, batch: int) -> Tensor:
        """The memory before the first click, (B, ...)."""
        ...

    def correct(
        self, image: Tensor, logits: Tensor, memory: Tensor, prompts: CellPrompts
    ) -> tuple[Tensor, Tensor]:
        """Correct the logits by the newest click.

        Args:
            image: (B, 1, D, H, W) intensities of the region, roughly zero mean, unit deviation.
            logits: (B, 1, D, H, W) current logits on the cells.
            memory: what `initial_memory` or the last call returned.
            prompts: all prompts so far.

        Returns:
            New logits (B, 1, D, H, W) and new memory.
        """
        ...
