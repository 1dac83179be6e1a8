"""SegVol, put together: encode a view once, then decode prompts as often as wanted.

    image (32, 256, 256) --encode--> embedding --decode(prompts)--> low-res logits --upsample-->

The names of the parameters are the keys of the released checkpoints: 474 with the text tower,
276 without.

Source: Du et al., SegVol, arXiv 2311.13385; BAAI-DCAI/SegVol@5768c97, re-implemented.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from segvol_gru.base.authors import authors_blocks
from segvol_gru.base.mask_decoder import MaskDecoder
from segvol_gru.base.prompt_encoder import FourierCode, PromptEncoder
from segvol_gru.base.text import TextConfig, TextEncoder
from segvol_gru.base.vit import ImageEncoder
from segvol_gru.errors import InputError
from segvol_gru.prompts import Index


@dataclass(frozen=True, slots=True)
class SegVolConfig:
    """Sizes of the network; the defaults are the released model."""

    width: int = 768
    """Width E of tokens and embedding; divisible by 8 and by both numbers of heads."""
    image: Index = (32, 256, 256)
    """Voxels of the network's frame along (D, H, W)."""
    patch: Index = (4, 16, 16)
    """Voxels of a patch along (D, H, W)."""
    encoder_layers: int = 12
    """Blocks of the image encoder."""
    encoder_heads: int = 12
    """Attention heads of the image encoder."""
    encoder_hidden: int = 3072
    """Width inside the image encoder's MLPs."""
    decoder_layers: int = 2
    """Two-way blocks of the mask decoder."""
    decoder_heads: int = 8
    """Attention heads of the mask decoder."""
    decoder_hidden: int = 2048
    """Width inside the mask decoder's MLPs."""
    iou_hidden: int = 256
    """Width inside the (unused) quality head."""
    text: TextConfig = field(default_factory=TextConfig)
    """Sizes of the optional text tower."""

    def __post_init__(self) -> None:
        if any(n % p for n, p in zip(self.image, self.patch, strict=True)):
            raise InputError(
                f"image {self.image} is not a multiple of patch {self.patch}; change one of them."
            )
        if self.width % 8 or self.width % self.encoder_heads or self.width % self.decoder_heads:
            raise InputError(
                f"width {self.width} is not divisible by 8, {self.encoder_heads} and "
                f"{self.decoder_heads} (encoder and decoder heads); choose a multiple of all."
            )

    @property
    def grid(self) -> Index:
        """Image tokens along (D, H, W)."""
        d, h, w = (n // p for n, p in zip(self.image, self.patch, strict=True))
        return d, h, w

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a weight file's header."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SegVolConfig:
        """Read what `to_dict` wrote, also after a round trip through JSON.

        Raises:
            InputError: a size is missing, unknown or unusable.
        """
        try:
            plain = dict(values)
            text = TextConfig(**plain.pop("text"))
            image, patch = tuple(plain.pop("image")), tuple(plain.pop("patch"))
            return cls(image=image, patch=patch, text=text, **plain)
        except (KeyError, TypeError) as error:
            raise InputError(f"these are not SegVol's sizes: {error}.") from error


SMALL = SegVolConfig(
    width=48,
    image=(16, 64, 96),
    encoder_layers=2,
    encoder_heads=4,
    encoder_hidden=96,
    decoder_hidden=64,
    iou_hidden=32,
    text=TextConfig(vocabulary=64, width=16, layers=2, heads=2, hidden=32, positions=12),
)
"""The size of the golden vectors: every part of the network, in 0.2 M parameters."""

PRESETS = {"segvol": SegVolConfig(), "small": SMALL}


class SegVol(nn.Module):
    """The network. Its weights mean nothing until loaded or drawn by `random_segvol`.

    Args:
        config: sizes.
        text: whether to hold the text tower.
    """

    def __init__(self, config: SegVolConfig, text: bool = False) -> None:
        super().__init__()
        self.config = c = config
        self.image_encoder = ImageEncoder(
            c.grid, c.patch, c.width, c.encoder_layers, c.encoder_heads, c.encoder_hidden
        )
        self.mask_decoder = MaskDecoder(
            c.grid, c.width, c.decoder_layers, c.decoder_heads, c.decoder_hidden, c.iou_hidden
        )
        self.prompt_encoder = PromptEncoder(c.image, c.grid, c.width)
        self.text_encoder = TextEncoder(c.text, c.width) if text else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.prompt_encoder.no_mask_embed.weight.device

    def encode(self, image: Tensor) -> Tensor:
        """Image embedding: the dear step, once per view.

        Args:
            image: (B, 1, D, H, W) float in [0, 1], of the configured size.

        Returns:
            (B, E, gD, gH, gW) float.

        Raises:
            InputError: the image has another size.
        """
        if tuple(image.shape[1:]) != (1, *self.config.image):
            raise InputError(
                f"image has shape {tuple(image.shape)}, wanted (B, 1, *{self.config.image}); "
                "resize or cut the volume first."
            )
        out: Tensor = self.image_encoder(image)
        return out

    def decode(
        self,
        embedding: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        text: Tensor | None = None,
        feedback: Tensor | None = None,
    ) -> Tensor:
        """Low-resolution logits of P prompt sets: the cheap step, at every click.

        Args:
            embedding: (P or 1, E, gD, gH, gW) from `encode`.
            points: (P, N, 3) voxels of the network's frame, (P, N) labels 1, 0, -1.
            boxes: (P, 6) (z0, y0, x0, z1, y1, x1), larger corner inclusive.
            text: (P, E) text vectors.
            feedback: (P, E, gD, gH, gW) from `Feedback`, added to the dense prompt.

        Returns:
            (P, 1, 4gD, 4gH, 4gW) float logits.
        """
        sparse = self.prompt_encoder(points, boxes, text)
        dense = self.prompt_encoder.dense_prompt()
        if feedback is not None:
            dense = dense + feedback
        code = self.prompt_encoder.dense_code()
        logits, _ = self.mask_decoder(embedding, code, sparse, dense, text)
        first: Tensor = logits[:, :1]
        return first

    def features(
        self,
        embedding: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        text: Tensor | None = None,
    ) -> Tensor:
        """What the masks of `decode` are made of: (P, E / 8, 4gD, 4gH, 4gW) float."""
        sparse = self.prompt_encoder(points, boxes, text)
        dense, code = self.prompt_encoder.dense_prompt(), self.prompt_encoder.dense_code()
        _, upscaled = self.mask_decoder.upscale(embedding, code, sparse, dense)
        return upscaled

    def upsample(self, low_res_logits: Tensor) -> Tensor:
        """(P, 1, ...) logits -> (P, 1, D, H, W) float32 logits on the network's frame."""
        return F.interpolate(
            low_res_logits.float(), self.config.image, mode="trilinear", align_corners=False
        )


def random_segvol(config: SegVolConfig, generator: torch.Generator, text: bool = False) -> SegVol:
    """A network with random weights: norms 1, biases 0, the rest small and normal.

    Args:
        config: sizes.
        generator: source of chance, on the CPU.
        text: whether to hold the text tower.
    """
    with torch.device("meta"):
        model = SegVol(config, text)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for module in model.modules():
            std = 1.0 if isinstance(module, FourierCode) else 0.02
            for name, tensor in [
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ]:
                if name == "bias":
                    tensor.zero_()
                elif isinstance(module, nn.LayerNorm):
                    tensor.fill_(1)
                else:
                    tensor.normal_(std=std, generator=generator)
    return model.eval()


@dataclass(frozen=True, slots=True)
class Description:
    """What there is to say about a network without running it."""

    parameters: dict[str, int]
    """Parameters by part."""
    with_text: int
    """Parameters of the whole model."""
    without_text: int
    """Parameters that box and click prompts need."""
    with_authors_gru: int
    """The whole model and the five GRU blocks of the paper's authors."""
    multiply_adds: dict[str, int]
    """Multiply-adds of one encoding and of decoding one box."""
    keys: dict[str, tuple[int, str]]
    """Tensors in a checkpoint with and without the text tower: how many, and the SHA-256 of
    their names and shapes, by which any other file can be compared."""


def describe(config: SegVolConfig | None = None) -> Description:
    """Count parameters and multiply-adds, without memory or arithmetic.

    Args:
        config: sizes; the released model by default.
    """
    config = config or SegVolConfig()
    with torch.device("meta"):
        model = SegVol(config, text=True)
        image, box = torch.zeros(1, 1, *config.image), torch.zeros(1, 6)
    counts = {name: _count(part) for name, part in model.named_children()}
    total = sum(counts.values())
    adds = {}
    with FlopCounterMode(display=False) as counter:
        embedding = model.encode(image)
        adds["encode"] = counter.get_total_flops() // 2
        model.upsample(model.decode(embedding, boxes=box))
        adds["decode"] = counter.get_total_flops() // 2 - adds["encode"]
    everything = model.state_dict()
    model.text_encoder = None
    return Description(
        parameters=counts,
        with_text=total,
        without_text=total - counts["text_encoder"],
        with_authors_gru=total + _count(authors_blocks()),
        multiply_adds=adds,
        keys={
            "with text tower": (len(everything), fingerprint(everything)),
            "without": (len(model.state_dict()), fingerprint(model.state_dict())),
        },
    )


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and shapes, sorted: one line `name 1x2x3` each."""
    lines = sorted(f"{name} {'x'.join(map(str, t.shape))}\n" for name, t in tensors.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _count(part: nn.Module) -> int:
    return sum(prod(p.shape) for p in part.parameters())
