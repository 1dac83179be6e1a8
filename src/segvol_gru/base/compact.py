"""The compact base segmenter: one residual U-Net on a region around the prompt, for CPUs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segvol_gru.likeness import see
from segvol_gru.prompt_maps import COMMON_CHANNELS, CellPrompts, common_maps
from segvol_gru.unet import ResidualUNet


@dataclass(frozen=True)
class CompactConfig:
    """Sizes of the compact base network."""

    widths: tuple[int, ...] = (32, 64, 128, 144)
    """Channels at 1/2, 1/4, ... of the region's resolution."""
    encoder_blocks: tuple[int, ...] = (1, 2, 2, 1)
    """Residual blocks per level on the way down."""
    decoder_blocks: int = 1
    """Residual blocks per level on the way up."""
    head_width: int = 16
    """Channels of the full-resolution head."""
    cells: int = 48
    """Cells along each axis of a region."""
    ranks: tuple[int, ...] = ()
    """Ranks of the convolutions at each resolution, 0 for a full one; none means all full."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a weight file's header."""
        return asdict(self)


class CompactBase(nn.Module):
    """Box and clicks on a region -> logits (paper Eq. 1, in place of SegVol on a laptop).

    Args:
        config: sizes.
    """

    def __init__(self, config: CompactConfig | None = None) -> None:
        super().__init__()
        self.config = config or CompactConfig()
        c = self.config
        self.unet = ResidualUNet(
            COMMON_CHANNELS, 1, c.widths, c.encoder_blocks, c.decoder_blocks, c.head_width, c.ranks
        )

    def forward(self, image: Tensor, logits: Tensor, prompts: CellPrompts) -> Tensor:
        """Segment from all prompts at once.

        Args:
            image: (B, 1, D, H, W) region image, zero mean and unit deviation.
            logits: (B, 1, D, H, W) previous logits, zeros at the start.
            prompts: box and clicks in cells.

        Returns:
            (B, 1, D, H, W) float32 logits.
        """
        maps = torch.cat(common_maps(see(image), logits, prompts), 1)
        out: Tensor = self.unet(maps).float()
        return out
