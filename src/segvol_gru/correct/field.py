"""The field corrector: the paper's idea with its two sets taken whole.

The paper samples K voxels of the uncertain set U (Eq. 2) and K of the error set E (Eq. 3),
corrects those voxels only, and so cannot gain more than some thousandths of DSC on an organ
(400 voxels of 80,000). Here U and E enter as *fields* over the whole region, the GRU is
convolutional so that memory stays where it was made, and the answer is a gated residual for
every cell:

    z' = z + g * (n - z),    g in (0, 1), n = what the network would say afresh

A cell with g = 0 keeps its logit to the last bit; the network learns where a click reaches, and
what a negative click may take away has a bound (`spoken_for`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from segvol_gru.correct import Corrector
from segvol_gru.correct.rules import spoken_for
from segvol_gru.likeness import Seen, joined, part_likeness, see
from segvol_gru.prompt_maps import (
    BROAD_CELLS,
    COMMON_CHANNELS,
    SHARP_CELLS,
    CellPrompts,
    click_maps,
    common_maps,
    newest,
)
from segvol_gru.region import Region, regrid
from segvol_gru.unet import Conv3d, ResidualUNet

CHANNELS = COMMON_CHANNELS + 6
MARKED = 0.5  # of a click's mark: where its structure is followed from


@dataclass(frozen=True)
class FieldConfig:
    """Sizes of the field corrector."""

    widths: tuple[int, ...] = (32, 64, 128, 144)
    """Channels at 1/2, 1/4, ... of the region's resolution."""
    encoder_blocks: tuple[int, ...] = (1, 2, 2, 1)
    """Residual blocks per level on the way down."""
    decoder_blocks: int = 1
    """Residual blocks per level on the way up."""
    head_width: int = 16
    """Channels of the full-resolution head."""
    memory_width: int = 32
    """Channels of the GRU's hidden state, which lives at 1/4 of the region's resolution."""
    cells: int = 48
    """Cells along each axis of a region."""
    features: int = 0
    """Channels of a base's own features that are added to what it sees, for an ablation: 96 of
    SegVol's decoder. Weights trained without them load all the same and act as before."""
    ranks: tuple[int, ...] = ()
    """Ranks of the convolutions at each resolution, 0 for a full one; none means all full."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a weight file's header."""
        return asdict(self)


class ConvGRU(nn.Module):
    """A GRU whose matrices are 3x3x3 convolutions.

    Args:
        inputs: channels of the input.
        width: channels of the hidden state.

    Source: Ballas et al. 2015, arXiv 1511.06432, Eq. 8-11.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = Conv3d(inputs + width, 2 * width, 3, padding=1)
        self.proposal = Conv3d(inputs + width, width, 3, padding=1)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """One step: (B, inputs, d, h, w), (B, width, d, h, w) -> new hidden, float32."""
        both = torch.cat([x, hidden.to(x.dtype)], 1)
        update, reset = self.gates(both).float().sigmoid().chunk(2, 1)
        gated = torch.cat([x, (reset * hidden).to(x.dtype)], 1)
        proposal = self.proposal(gated).float().tanh()
        out: Tensor = hidden + update * (proposal - hidden)
        return out


def field_channels(seen: Seen, logits: Tensor, prompts: CellPrompts) -> Tensor:
    """What the corrector sees of an image, its logits and prompts: (B, CHANNELS, D, H, W) float32.

    The common maps come first, so that the base's weights can be the start of training; then the
    uncertain set U as 4 p (1 - p), the signed mark of the newest click, the error set E (the reach
    of every click where the mask disagrees with it, signed), what the mask is mostly made of, and
    what is joined to the positive and to the negative clicks by cells that rank alike.
    """
    _, _, d, h, w = logits.shape
    labels = prompts.labels
    last = newest(labels)

    def marks(chosen: Tensor, sigma: float) -> Tensor:
        return click_maps(prompts.points, chosen, (d, h, w), sigma)

    add, remove = labels == 1, labels == 0
    p_prob = logits.sigmoid()
    predicted = (logits > 0).float()
    error = marks(add, BROAD_CELLS) * (1 - predicted) - marks(remove, BROAD_CELLS) * predicted
    common = common_maps(seen, logits, prompts)
    return torch.cat(
        [
            *common,
            4 * p_prob * (1 - p_prob),
            marks(last & add, SHARP_CELLS) - marks(last & remove, SHARP_CELLS),
            error,
            part_likeness(seen, p_prob),
            joined(common.ranks_add, common.add > MARKED),
            joined(common.ranks_remove, common.remove > MARKED),
        ],
        1,
    )


class FieldCorrector(Corrector):
    """Image, logits, prompts and memory -> corrected logits and memory.

    Args:
        config: sizes.
    """

    def __init__(self, config: FieldConfig | None = None) -> None:
        super().__init__()
        self.config = config or FieldConfig()
        c = self.config
        self.unet = ResidualUNet(
            CHANNELS, 2, c.widths, c.encoder_blocks, c.decoder_blocks, c.head_width, c.ranks
        )
        self.gru = ConvGRU(c.widths[1], c.memory_width)
        self.recall = nn.Conv3d(c.memory_width, c.widths[1], 1)
        if c.features:
            self.project = nn.Conv3d(c.features, CHANNELS, 1, bias=False)
            nn.init.zeros_(self.project.weight)

    @property
    def features(self) -> int:
        """See `Corrector.features`."""
        return self.config.features

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """As ever; to weights that know no features, they count for nothing."""
        if self.features:
            silent = torch.zeros_like(self.project.weight)
            state_dict.setdefault(f"{prefix}project.weight", silent)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def initial_memory(self, batch: int) -> Tensor:
        """Zeros (B, memory_width, cells/4, cells/4, cells/4) float32."""
        side = self.config.cells // 4
        device = self.recall.weight.device
        return torch.zeros(batch, self.config.memory_width, side, side, side, device=device)

    def carry(self, memory: Tensor, old: Region, new: Region) -> Tensor:
        """The memory on the cells of the new region, zero where nothing was seen before."""
        return regrid(memory, old, new)

    def correct(
        self, image: Tensor, logits: Tensor, memory: Tensor, prompts: CellPrompts
    ) -> tuple[Tensor, Tensor]:
        """See `Corrector.correct`."""
        kept: list[Tensor] = []

        def remember(features: Tensor) -> Tensor:
            kept.append(self.gru(features, memory))
            recalled: Tensor = features + self.recall(kept[0].to(features.dtype))
            return recalled

        seen = see(image[:, :1])
        channels = field_channels(seen, logits, prompts)
        if image.shape[1] > 1:
            channels = channels + self.project(image[:, 1:])
        out = self.unet(channels, remember).float()
        fresh, gate = out[:, :1], out[:, 1:].sigmoid()
        change = gate * (fresh - logits)
        change = torch.where(change < 0, change * spoken_for(seen, prompts), change)
        corrected: Tensor = logits + change
        return corrected, kept[0]
