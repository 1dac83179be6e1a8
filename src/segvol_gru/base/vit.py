"""SegVol's image encoder: a plain pre-norm 3-D ViT without class token.

Parameter names are those of the released checkpoints. Current MONAI cannot hold them (it
renamed an argument and adds a norm to every block), so the network is written out here.

Source: SegVol, arXiv 2311.13385; BAAI-DCAI/SegVol@5768c97 on MONAI 0.9.0, re-implemented.
"""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segvol_gru.prompts import Index


class PatchEmbedding(nn.Module):
    """Cut the volume in patches, one linear map each, plus a learned table of positions.

    Args:
        grid: patches along (D, H, W).
        patch: voxels of a patch along (D, H, W).
        width: E.
    """

    def __init__(self, grid: Index, patch: Index, width: int) -> None:
        super().__init__()
        self.grid, self.patch = grid, patch
        # The released keys say `patch_embeddings.1`: number 0 rearranged and had no weights.
        self.patch_embeddings = nn.Sequential(nn.Identity(), nn.Linear(prod(patch), width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, prod(grid), width))

    def forward(self, image: Tensor) -> Tensor:
        """(B, 1, D, H, W) float -> (B, N, E) tokens, D-major."""
        (gd, gh, gw), (pd, ph, pw) = self.grid, self.patch
        cut = image.reshape(len(image), gd, pd, gh, ph, gw, pw).permute(0, 1, 3, 5, 2, 4, 6)
        tokens: Tensor = self.patch_embeddings(cut.reshape(len(image), prod(self.grid), -1))
        return tokens + self.position_embeddings


class SelfAttention(nn.Module):
    """Multi-head self-attention with one joint projection, fused.

    Args:
        width: E, divisible by `heads`.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.out_proj = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, E) -> (B, N, E)."""
        batch, tokens, width = x.shape
        # The 3E outputs are all q, then all k, then all v, each split in heads.
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        out: Tensor = self.linear2(F.gelu(self.linear1(x)))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.mlp = Mlp(width, hidden)
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, E) -> (B, N, E)."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ImageEncoder(nn.Module):
    """Volume -> image embedding.

    Args:
        grid: patches along (D, H, W).
        patch: voxels of a patch along (D, H, W).
        width: E.
        layers: number of blocks.
        heads: attention heads.
        hidden: width inside the blocks' MLPs.
    """

    def __init__(
        self, grid: Index, patch: Index, width: int, layers: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.patch_embedding = PatchEmbedding(grid, patch, width)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Encode.

        Args:
            image: (B, 1, D, H, W) float in [0, 1], D = grid x patch exactly.

        Returns:
            (B, E, gD, gH, gW) float.
        """
        x: Tensor = self.patch_embedding(image)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x.transpose(1, 2).reshape(len(x), -1, *self.patch_embedding.grid)
