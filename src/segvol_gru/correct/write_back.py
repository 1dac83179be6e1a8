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

    Rounding has no derivative. The offsets are trained straight through: forward writes one
    cell per point, backward is that of spreading the same value over 3 x 3 x 3 cells with a
    quadratic B-spline centred at c + offset, i.e. an offset follows the slope that the loss
    would have if the write were moved by a fraction of a cell. Only the offsets see this
    surrogate; the gradients of p and z are exact.

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
    flat = _flat(cell, z_logit.shape)[valid]
    total = z_logit.new_zeros(z_logit.numel()).index_add(0, flat, q_logit[valid])
    count = z_logit.new_zeros(z_logit.numel()).index_add(0, flat, torch.ones_like(q_logit[valid]))
    written = (total / count.clamp(min=1)).view_as(z_logit)
    out = torch.where(count.view_as(z_logit) > 0, written, z_logit)
    if offset_cells.requires_grad:
        within = target.clamp(min=0).minimum(limit.float())
        soft = _splat(z_logit.detach(), q_logit.detach(), cell, within - cell, valid)
        out = out + (soft - soft.detach())
    return out


def _flat(cell: Tensor, shape: torch.Size) -> Tensor:
    """Cell indices (B, ..., 3) -> positions in the flattened (B, 1, D, H, W) tensor."""
    batch, _, depth, height, width = shape
    first = torch.arange(batch, device=cell.device).view(-1, *[1] * (cell.ndim - 2))
    z, y, x = cell.unbind(-1)
    return ((first * depth + z) * height + y) * width + x


def _splat(
    z_logit: Tensor, q_logit: Tensor, cell: Tensor, fraction: Tensor, valid: Tensor
) -> Tensor:
    """Change of the logits if every point were spread by a quadratic B-spline.

    Args:
        z_logit: (B, 1, D, H, W) float32.
        q_logit: (B, P) float32, the logit each point writes.
        cell: (B, P, 3) int64, the nearest cell.
        fraction: (B, P, 3) float32 in [-0.5, 0.5], the point's place minus that cell.
        valid: (B, P) bool.

    Returns:
        (B, 1, D, H, W) float32, differentiable in `fraction`.
    """
    limit = torch.tensor(z_logit.shape[2:], device=z_logit.device) - 1
    lines = torch.stack(  # (B, P, 3 axes, 3 neighbours)
        [(0.5 - fraction) ** 2 / 2, 0.75 - fraction**2, (0.5 + fraction) ** 2 / 2], -1
    )
    weight = torch.einsum("bpi,bpj,bpk->bpijk", *lines.unbind(2)).flatten(2)
    step = torch.arange(-1, 2, device=cell.device)
    around = cell[:, :, None] + torch.cartesian_prod(step, step, step)
    inside = ((around >= 0) & (around <= limit)).all(-1) & valid[..., None]
    flat = _flat(around.clamp(min=0).minimum(limit), z_logit.shape)
    pull = (q_logit[..., None] - z_logit.flatten()[flat]) * weight
    out = z_logit.new_zeros(z_logit.numel())
    return out.index_add(0, flat[inside], pull[inside]).view_as(z_logit)
