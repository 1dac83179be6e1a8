"""SegVol's mask decoder: image embedding and prompt tokens -> low-resolution logits.

    tokens Q = [IoU token, 4 mask tokens, prompts]     image tokens K
       two layers:  Q <-> Q,  Q <- K,  MLP(Q),  K <- Q
       Q <- K
    K -> upscaled U (4x);   mask m = <hypernetwork_m(Q), U>  (+ <align(text), U>)

Source: SegVol, arXiv 2311.13385; BAAI-DCAI/SegVol@5768c97, re-implemented.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segvol_gru.errors import InputError
from segvol_gru.prompts import Index

MASKS = 4  # mask tokens; the released models only ever use the first


class Attention(nn.Module):
    """Multi-head attention through an inner width.

    Args:
        width: E.
        inner: width of queries, keys and values together, divisible by `heads`.
        heads: number of heads.
    """

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, Nq, E), (B, Nk, E), (B, Nk, E) -> (B, Nq, E)."""
        split = (self.heads, -1)
        q = self.q_proj(q).unflatten(2, split).transpose(1, 2)
        k = self.k_proj(k).unflatten(2, split).transpose(1, 2)
        v = self.v_proj(v).unflatten(2, split).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(mixed)
        return out


class TokenMlp(nn.Module):
    """Two linear layers with a ReLU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        out: Tensor = self.lin2(F.relu(self.lin1(x)))
        return out


class TwoWayBlock(nn.Module):
    """Tokens among themselves, tokens from image, MLP, image from tokens.

    Args:
        width: E.
        heads: attention heads.
        hidden: width inside the MLP.
        first: the first layer attends without positions and replaces its queries.
    """

    def __init__(self, width: int, heads: int, hidden: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, width // 2, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TokenMlp(width, hidden)
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, width // 2, heads)

    def forward(
        self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T, E), (B, N, E) and their positions -> both, renewed."""
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_code
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        seen = self.cross_attn_token_to_image(tokens + token_code, image + image_code, image)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        told = self.cross_attn_image_to_token(image + image_code, tokens + token_code, tokens)
        return tokens, self.norm4(image + told)


class TwoWayTransformer(nn.Module):
    """The blocks and a last look of the tokens at the image."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(width, heads, hidden, first=i == 0) for i in range(layers)
        )
        self.final_attn_token_to_image = Attention(width, width // 2, heads)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, image: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        """Let tokens and image speak.

        Args:
            tokens: (B, T, E); also their own positions, at every layer.
            image: (B, N, E) image tokens, D-major.
            image_code: (1, N, E) positions of the image tokens.

        Returns:
            Tokens (B, T, E) and image tokens (B, N, E).
        """
        token_code = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_code, image_code)
        seen = self.final_attn_token_to_image(tokens + token_code, image + image_code, image)
        return self.norm_final_attn(tokens + seen), image


class Head(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Linear(width, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        a, b, c = self.layers
        out: Tensor = c(F.relu(b(F.relu(a(x)))))
        return out


class MaskDecoder(nn.Module):
    """Image embedding and prompt tokens -> four low-resolution masks.

    Args:
        grid: image tokens along (D, H, W).
        width: E.
        layers: two-way blocks.
        heads: attention heads.
        hidden: width inside the blocks' MLPs.
        iou_hidden: width inside the quality head, on which no loss was ever put.
    """

    def __init__(
        self, grid: Index, width: int, layers: int, heads: int, hidden: int, iou_hidden: int
    ) -> None:
        super().__init__()
        half, narrow = width // 4, width // 8
        doubled = [half, *(2 * n for n in grid)]
        self.transformer = TwoWayTransformer(layers, width, heads, hidden)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASKS, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, half, 2, stride=2),
            # Over the whole (C, D, H, W) block at once, not over channels: it ties the network
            # to its input size and holds 6.3 M parameters of the full model.
            nn.LayerNorm(doubled),
            nn.GELU(),
            nn.ConvTranspose3d(half, narrow, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Head(width, width, narrow) for _ in range(MASKS)
        )
        self.iou_prediction_head = Head(width, iou_hidden, MASKS)
        self.txt_align_upscaled_embedding = nn.Linear(width, narrow)

    def forward(
        self, embedding: Tensor, code: Tensor, sparse: Tensor, dense: Tensor, text: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Decode P prompt sets.

        Args:
            embedding: (P or 1, E, gD, gH, gW); one image serves many prompt sets.
            code: (1, E, gD, gH, gW) positions of the image tokens.
            sparse: (P, tokens, E).
            dense: (P or 1, E, ...) added to the embedding, broadcast over the grid.
            text: (P, E) or None; its similarity to every voxel is added to every mask.

        Returns:
            Logits (P, 4, 4gD, 4gH, 4gW) and predicted quality (P, 4).
        """
        tokens, upscaled = self.upscale(embedding, code, sparse, dense)
        weights = torch.stack(
            [net(tokens[:, 1 + m]) for m, net in enumerate(self.output_hypernetworks_mlps)], 1
        )
        if text is not None:
            weights = weights + self.txt_align_upscaled_embedding(text)[:, None]
        logits = (weights @ upscaled.flatten(2)).view(*weights.shape[:2], *upscaled.shape[2:])
        return logits, self.iou_prediction_head(tokens[:, 0])

    def upscale(
        self, embedding: Tensor, code: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What masks are made of: arguments as of `forward`.

        Returns:
            Tokens (P, 5 + tokens, E) and features of the cells (P, E / 8, 4gD, 4gH, 4gW).
        """
        prompts = len(sparse)
        if len(embedding) not in (1, prompts):
            raise InputError(
                f"{len(embedding)} images came with {prompts} prompt sets; "
                "give one image, or one image per prompt set."
            )
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(prompts, -1, -1), sparse], 1)
        image = (embedding + dense).expand(prompts, -1, -1, -1, -1)
        tokens, keys = self.transformer(
            tokens, image.flatten(2).transpose(1, 2), code.flatten(2).transpose(1, 2)
        )
        keys = keys.transpose(1, 2).unflatten(2, image.shape[2:])
        return tokens, self.output_upscaling(keys)
