"""What a click means whatever a network says: the mask obeys every click."""

from __future__ import annotations

import torch
from torch import Tensor

from segvol_gru.prompt_maps import CellPrompts

MARGIN = 1.0  # logit that a clicked cell has at least, on its own side
REACH_CELLS = 1.5  # standard deviation of the bump that enforces it


def obey(logits: Tensor, prompts: CellPrompts) -> Tensor:
    """Lift or lower the logits around every click that they contradict.

    A click whose cell already lies beyond the margin changes nothing.

    Args:
        logits: (B, 1, D, H, W) float32.
        prompts: the clicks, in the order given; later ones are enforced last.

    Returns:
        (B, 1, D, H, W) float32.
    """
    out = logits.clone()
    cells = out.shape[2:]
    limits = torch.tensor(cells, device=out.device) - 1
    for b in range(len(out)):
        for point, label in zip(prompts.points[b], prompts.labels[b], strict=True):
            if int(label) < 0:
                continue
            sign = 1.0 if int(label) == 1 else -1.0
            z, y, x = (int(v) for v in point.round().long().clamp(min=0).minimum(limits))
            missing = MARGIN - sign * float(out[b, 0, z, y, x])
            if missing <= 0:
                continue
            bump = torch.ones((), device=out.device)
            for axis, (n, at) in enumerate(zip(cells, (z, y, x), strict=True)):
                line = torch.arange(n, device=out.device, dtype=torch.float32) - at
                shape = [1, 1, 1]
                shape[axis] = n
                bump = bump * torch.exp(-(line**2) / (2 * REACH_CELLS**2)).view(shape)
            out[b, 0] += sign * missing * bump
    return out
