"""SegVol's prompt encoder: points, a box and a text vector -> tokens.

Two of its conventions look like faults and are kept, because the released weights were trained
with them:

    dense code of grid cell (d, h, w):  (h / Gh, d / Gd, w / Gw)   height first
    point or box corner (z, y, x):      (z / H,  y / D,  x / W)    depth over height

Source: SegVol, arXiv 2311.13385; BAAI-DCAI/SegVol@5768c97, re-implemented.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import pi

import torch
from torch import Tensor, nn

from segvol_gru.errors import InputError
from segvol_gru.prompts import Index

PADDING, NEGATIVE, POSITIVE = -1, 0, 1  # labels of a point
CORNER_LO, CORNER_HI = 2, 3  # rows of the table after the two for points


class FourierCode(nn.Module):
    """Random Fourier features of a 3-vector; the matrix belongs to the weights.

    Args:
        width: E, even.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(3, width // 2))

    def forward(self, coordinates: Tensor) -> Tensor:
        """(..., 3) float32, nominally in [0, 1], -> (..., E): sines, then cosines.

        In float32 whatever the arithmetic around: in bfloat16 neighbours get the same code.
        """
        device = coordinates.device.type
        castable = torch.amp.is_autocast_available(device)  # "meta", which only counts, is not
        with torch.autocast(device, enabled=False) if castable else nullcontext():
            matrix = self.positional_encoding_gaussian_matrix.float()
            phase = 2 * pi * ((2 * coordinates.float() - 1) @ matrix)
        return torch.cat([phase.sin(), phase.cos()], -1)


class PromptEncoder(nn.Module):
    """Prompts -> sparse tokens, and the two dense codes of the image grid.

    Args:
        image: voxels of the network's frame along (D, H, W).
        grid: image tokens along (D, H, W).
        width: E.
    """

    def __init__(self, image: Index, grid: Index, width: int) -> None:
        super().__init__()
        self.image, self.grid = image, grid
        self.pe_layer = FourierCode(width)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        # A left-over of 2-D SAM that cannot take a 3-D mask: in every checkpoint, never called.
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            nn.LayerNorm(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            nn.LayerNorm(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def dense_code(self) -> Tensor:
        """Positions of the image tokens: (1, E, gD, gH, gW) float32."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        d, h, w = (
            (torch.arange(n, device=matrix.device, dtype=matrix.dtype) + 0.5) / n for n in self.grid
        )
        dd, hh, ww = torch.meshgrid(d, h, w, indexing="ij")
        code: Tensor = self.pe_layer(torch.stack([hh, dd, ww], -1))
        return code.permute(3, 0, 1, 2)[None]

    def dense_prompt(self) -> Tensor:
        """What "no previous mask" adds to every image token: (1, E, 1, 1, 1)."""
        out: Tensor = self.no_mask_embed.weight.view(1, -1, 1, 1, 1)
        return out

    def locate(self, points: Tensor) -> Tensor:
        """Code of voxel positions.

        Args:
            points: (..., 3) float (z, y, x) voxels of the network's frame.

        Returns:
            (..., E) float32.
        """
        depth, height, width = self.image
        code: Tensor = self.pe_layer((points + 0.5) / points.new_tensor([height, depth, width]))
        return code

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        text: Tensor | None = None,
    ) -> Tensor:
        """Sparse tokens: points, then box corners, then text.

        Args:
            points: (B, N, 3) float (z, y, x) voxels of the network's frame and (B, N) labels:
                1 positive, 0 negative, -1 padding.
            boxes: (B, 6) float (z0, y0, x0, z1, y1, x1), the larger corner inclusive. Six
                times -1 is the reference's empty box: a place like any other.
            text: (B, E) float.

        Returns:
            (B, tokens, E) float; (1, 0, E) without any prompt.
        """
        rows: list[Tensor] = []
        if points is not None:
            rows.append(self._points(*points, pad=boxes is None))
        if boxes is not None:
            corners = torch.stack([self._table(CORNER_LO), self._table(CORNER_HI)], 1)
            rows.append(self.locate(boxes.view(-1, 2, 3)) + corners)
        if text is not None:
            rows.append(text[:, None])
        if not rows:
            return self._table(POSITIVE)[:, None][:, :0]
        if len({len(r) for r in rows}) > 1:
            raise InputError(
                f"the prompts have batch sizes {[len(r) for r in rows]}; "
                "give every kind of prompt for every item."
            )
        return torch.cat(rows, 1)

    def _points(self, points: Tensor, labels: Tensor, pad: bool) -> Tensor:
        """Tokens of points; the reference adds one padding point when there is no box."""
        if pad:
            points = torch.cat([points, points.new_zeros(len(points), 1, 3)], 1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), PADDING)], 1)
        code, kind = self.locate(points), labels[..., None]
        code = torch.where(kind == PADDING, self.not_a_point_embed.weight, code)
        code = torch.where(kind == NEGATIVE, code + self._table(NEGATIVE), code)
        return torch.where(kind == POSITIVE, code + self._table(POSITIVE), code)

    def _table(self, row: int) -> Tensor:
        """(1, E) learned vector."""
        table = self.point_embeddings[row]
        assert isinstance(table, nn.Embedding)
        return table.weight
