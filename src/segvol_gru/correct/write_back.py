"""The paper's write-back (Eq. 5): corrected probabilities become logits of the asked cells.

    M_t[round(c + offset)] = logit(dp)        in cells of the region, dp in (0, 1)

Eq. 5 stores a probability among logits, where any value in [0, 1] reads as foreground and
nothing can ever be removed; and the authors' code multiplies cell indices by the shape once
more, so that all points land on the volume's far corner. Both are put right here.
"""

from __future__ import annotations

import torch
from torch import Tensor

EDGE_PROB = 1e-3  # probabilities are kept this far from 0 and 1: logits within +-6.9


def replace(
    z_logit: Tensor,
    coordinates: Tensor,
    p_prob: Tensor,
    valid: Tensor,
    offset_cells: Tensor,
) -> Tensor:
    """Write logit(p) at c + offset, rounded and clamped to the grid.

    Cells that no valid point reaches keep their logit to the last bit. A cell that several
    points reach gets the mean of their logits: no order decides, and every point has its share
    of the gradient.

    Rounding has no derivative, so the offsets are trained straight through: forward writes one
    cell per point, backward is that of `_drift`. The gradients of p and z are exact.

    Args:
        z_logit: (B, 1, D, H, W) float32.
        coordinates: (B, P, 3) int64 cell indices (z, y, x).
        p_prob: (B, P) float32 in [0, 1], the new probability of foreground.
        valid: (B, P) bool; other points are never written.
        offset_cells: (B, P, 3) float32.

    Returns:
        (B, 1, D, H, W) float32.

    Source: paper Eq. 5; Bengio et al. 2013, arXiv 1308.3432 (straight-through).
    """
    limit = torch.tensor(z_logit.shape[2:], device=z_logit.device) - 1
    q_logit = p_prob.clamp(EDGE_PROB, 1 - EDGE_PROB).logit()
    target = coordinates + offset_cells
    cell = target.detach().round().long().clamp(min=0).minimum(limit)
    flat = _flat(cell, z_logit.shape)
    z_flat = z_logit.flatten()
    total = torch.zeros_like(z_flat).index_add(0, flat[valid], q_logit[valid])
    count = torch.zeros_like(z_flat).index_add(0, flat[valid], torch.ones_like(q_logit[valid]))
    out = torch.where(count > 0, total / count.clamp(min=1), z_flat).view_as(z_logit)
    if offset_cells.requires_grad:
        q, others = q_logit.detach(), count[flat] - 1
        alone = torch.where(others > 0, (total[flat] - q) / others.clamp(min=1), z_flat[flat])
        fraction = target.clamp(min=0).minimum(limit.float()) - cell
        drift = _drift(out.detach(), alone.detach(), q, cell, fraction, valid)
        out = out + (drift - drift.detach())
    return out


def _flat(cell: Tensor, shape: torch.Size) -> Tensor:
    """Cell indices (B, ..., 3) -> positions in the flattened (B, 1, D, H, W) tensor."""
    batch, _, depth, height, width = shape
    first = torch.arange(batch, device=cell.device).view(-1, *[1] * (cell.ndim - 2))
    z, y, x = cell.unbind(-1)
    return ((first * depth + z) * height + y) * width + x


def _drift(
    written: Tensor,
    alone: Tensor,
    q_logit: Tensor,
    cell: Tensor,
    fraction: Tensor,
    valid: Tensor,
) -> Tensor:
    """What moving each point by itself would change, for the backward pass only.

    A point's answer is spread over 3 x 3 x 3 cells by a quadratic B-spline centred where it
    stands, while all other points stay written: a cell that another point has put right does
    not attract it. The backward pass asks the loss only which side it wants at a cell, and
    measures in probability. Its slopes cannot be compared: they are flat where a write made the
    cell right and steep where a cell is wrong, so a point that followed them would always
    leave the cell it has just put right.

    Args:
        written: (B, 1, D, H, W) float32, the logits with all points written.
        alone: (B, P) float32, what each point's own cell would hold without it.
        q_logit: (B, P) float32, the logit each point writes.
        cell: (B, P, 3) int64, the cell each point writes.
        fraction: (B, P, 3) float32 in [-0.5, 0.5], the point's place minus that cell.
        valid: (B, P) bool.

    Returns:
        (B, 1, D, H, W) float32, differentiable in `fraction`.
    """
    limit = torch.tensor(written.shape[2:], device=written.device) - 1
    lines = torch.stack(  # (B, P, 3 axes, 3 neighbours)
        [(0.5 - fraction) ** 2 / 2, 0.75 - fraction**2, (0.5 + fraction) ** 2 / 2], -1
    )
    weight = torch.einsum("bpi,bpj,bpk->bpijk", *lines.unbind(2)).flatten(2)
    step = torch.arange(-1, 2, device=cell.device)
    around = cell[:, :, None] + torch.cartesian_prod(step, step, step)
    inside = ((around >= 0) & (around <= limit)).all(-1) & valid[..., None]
    flat = _flat(around.clamp(min=0).minimum(limit), written.shape)
    here = torch.arange(27, device=cell.device) == 13  # the middle of 3 x 3 x 3
    without = torch.where(here, alone[..., None], written.flatten()[flat])
    pull = (q_logit.sigmoid()[..., None] - without.sigmoid()) * weight
    out = torch.zeros_like(written).flatten().index_add(0, flat[inside], pull[inside])
    near = torch.zeros_like(out, dtype=torch.bool).index_fill(0, flat[inside], True)

    def sides(slope: Tensor) -> Tensor:
        """The sign of each cell's slope, times the mean slope around the points."""
        return slope.sign() * slope.abs()[near].sum() / near.sum().clamp(min=1)

    if out.requires_grad:
        out.register_hook(sides)  # type: ignore[no-untyped-call]
    return out.view_as(written)
