"""What a click means whatever a network says: the mask obeys every click."""

from __future__ import annotations

import torch
from torch import Tensor

from segvol_gru.prompt_maps import CellPrompts

MARGIN = 1.0  # logit that a clicked point has at least, on its own side
REACH_CELLS = 1.5  # standard deviation of the bump that enforces it
PASSES = 3  # each with half the reach, for what a neighbour of the other label undid


def obey(logits: Tensor, prompts: CellPrompts) -> Tensor:
    """Lift or lower the logits around every click that they contradict.

    The logit *at the click* (interpolated between cells, as the mask is) gets the margin. A
    click that already has it changes nothing, to the last bit. Neighbours of opposite labels,
    at least a cell apart, are both obeyed; nearer ones cannot be, and the newest is.

    Args:
        logits: (B, 1, D, H, W) float32.
        prompts: the clicks, in the order given; later ones are enforced last.

    Returns:
        (B, 1, D, H, W) float32.
    """
    out = logits.clone()
    for item, points, labels in zip(out[:, 0], prompts.points, prompts.labels, strict=True):
        for reach in (REACH_CELLS / 2**n for n in range(PASSES)):
            for point, label in zip(points, labels.tolist(), strict=True):
                if label >= 0:
                    _enforce(item, point, 1.0 if label == 1 else -1.0, reach)
    return out


def _enforce(logits: Tensor, point: Tensor, sign: float, reach: float) -> None:
    """Give (D, H, W) logits the margin at one point, in place."""
    lines, near, shares = [], [], []
    for n, at in zip(logits.shape, point.unbind(), strict=True):
        cells = torch.arange(n, device=logits.device, dtype=torch.float32)
        at = at.clamp(0, n - 1)
        first = min(int(at), max(n - 2, 0))
        near.append(slice(first, first + 2))
        shares.append((1 - (cells[near[-1]] - at).abs()).clamp(min=0))
        lines.append(torch.exp(-((cells - at) ** 2) / (2 * reach**2)))
    here = torch.einsum("dhw,d,h,w->", logits[tuple(near)], *shares)
    missing = MARGIN - sign * float(here)
    if missing <= 0:
        return
    reached = 1.0
    for line, place, share in zip(lines, near, shares, strict=True):
        reached *= float(line[place] @ share)
    bump = lines[0][:, None, None] * lines[1][:, None] * lines[2]
    logits += sign * missing / reached * bump
