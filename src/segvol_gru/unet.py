"""The residual 3-D U-Net that the compact base and the field corrector are built from.

It works at half the region's resolution (stride-2 stem) and returns to full resolution in a head
that sees the input again, cell by cell: on a CPU, convolutions at full resolution are what costs.

    input (48³) ──────────────────────────────────────────────┐
      stem /2 → 24³ ──────────────────────────────┐           │
        down → 12³ ──────────── [memory] ──┐      │           │
          down → 6³ ─────────────────┐     │      │           │
            down → 3³ → up ── 6³ ── up ── 12³ ── up ── 24³ ── head → logits (48³)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segvol_gru.errors import InputError

GROUP_WIDTH = 16  # channels per normalisation group


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, width // GROUP_WIDTH), width)


class Conv3d(nn.Conv3d):
    """A convolution that oneDNN computes however small its input is.

    For one small float32 input PyTorch (2.13) takes a loop of its own, four times slower for a
    whole network; processors without native bfloat16 compute in float32.
    """

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
        quick = plain and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
        out: Tensor
        able: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if quick and able and not isinstance(self.padding, str):
            out = torch.mkldnn_convolution(
                x, weight, bias, self.padding, self.stride, self.dilation, self.groups
            )
        else:
            out = super()._conv_forward(x, weight, bias)
        return out


def _spatial(width: int, rank: int) -> nn.Module:
    """A 3x3x3 convolution; with a rank, `rank` filters and what each channel takes of them."""
    filters = Conv3d(width, rank or width, 3, padding=1, bias=False)
    return nn.Sequential(filters, Conv3d(rank, width, 1, bias=False)) if rank else filters


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions, each after GroupNorm and SiLU, added to the input.

    Args:
        width: channels.
        rank: of the convolutions' (width, 27 width) matrices; 0 for a full one.
    """

    def __init__(self, width: int, rank: int = 0) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(width), _norm(width)
        self.conv1, self.conv2 = _spatial(width, rank), _spatial(width, rank)
        nn.init.zeros_(self.norm2.weight)  # each block starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, D, H, W) -> the same shape."""
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        out: Tensor = x + y
        return out


class Up(nn.Module):
    """Double the resolution, add the skip connection, refine."""

    def __init__(self, width_in: int, width_out: int, blocks: int, rank: int) -> None:
        super().__init__()
        self.reduce = Conv3d(width_in, width_out, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(width_out, rank) for _ in range(blocks)))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, width_in, d, h, w) and (B, width_out, 2d, 2h, 2w) -> the latter's shape."""
        y = F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        out: Tensor = self.blocks(y + skip)
        return out


class ResidualUNet(nn.Module):
    """Residual U-Net from `inputs` to `outputs` channels at the same resolution.

    Args:
        inputs: input channels.
        outputs: output channels.
        widths: channels at 1/2, 1/4, 1/8, ... of the input resolution.
        encoder_blocks: residual blocks per level on the way down.
        decoder_blocks: residual blocks per level on the way up.
        head_width: channels of the full-resolution head.
        ranks: of the convolutions at each resolution, 0 for a full one; none means all full.

    Raises:
        InputError: not one block count, or rank, for each width.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int],
        encoder_blocks: Sequence[int],
        decoder_blocks: int,
        head_width: int,
        ranks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        ranks = ranks or [0] * len(widths)
        if not 0 < len(widths) == len(encoder_blocks) == len(ranks):
            raise InputError(
                f"widths are {list(widths)}, encoder_blocks {list(encoder_blocks)} and ranks "
                f"{list(ranks)}, wanted one of each for every resolution."
            )
        self.stem = Conv3d(inputs, widths[0], 4, stride=2, padding=1)
        self.levels = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(w, rank) for _ in range(n)))
            for w, rank, n in zip(widths, ranks, encoder_blocks, strict=True)
        )
        pairs = list(pairwise(widths))
        self.downs = nn.ModuleList(Conv3d(a, b, 2, stride=2) for a, b in pairs)
        self.ups = nn.ModuleList(
            Up(b, a, decoder_blocks, rank) for (a, b), rank in zip(pairs, ranks, strict=False)
        )
        self.to_head = Conv3d(widths[0], head_width, 1)
        self.from_input = Conv3d(inputs, head_width, 1)
        self.head_norm = _norm(head_width)
        self.head = Conv3d(head_width, outputs, 1)

    def forward(self, x: Tensor, at_quarter: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Map the input to logits.

        Args:
            x: (B, inputs, D, H, W); each side divisible by 2 ** len(widths).
            at_quarter: applied to the features at 1/4 resolution, (B, widths[1], D/4, H/4,
                W/4), on the way down; the corrector's memory sits here.

        Returns:
            (B, outputs, D, H, W), in the network's precision.
        """
        kind = x.device.type
        if torch.is_autocast_enabled(kind):  # once, for the two convolutions that read it
            x = x.to(torch.get_autocast_dtype(kind))
        x = x.contiguous(memory_format=torch.channels_last_3d)
        y = self.stem(x)
        skips = []
        for i, level in enumerate(self.levels):
            y = level(y if i == 0 else self.downs[i - 1](y))
            if i == 1 and at_quarter is not None:
                y = at_quarter(y)
            skips.append(y)
        for i in reversed(range(len(self.ups))):
            y = self.ups[i](y, skips[i])
        full = F.interpolate(self.to_head(y), scale_factor=2.0, mode="trilinear")
        out: Tensor = self.head(F.silu(self.head_norm(full + self.from_input(x))))
        return out
