"""What a click means whatever a network says.

The mask obeys every click, and a negative one takes nothing away that neither lies near it nor
looks like it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from segvol_gru.likeness import Seen, alike_maps
from segvol_gru.prompt_maps import CellPrompts, click_maps, newest

MARGIN = 1.0  # logit that a clicked point has at least, on its own side
REACH_CELLS = 1.5  # standard deviation of the bump that enforces it
PASSES = 3  # each with half the reach, for what a neighbour of the other label undid
NEAR_CELLS = 12.0  # standard deviation of what is near to a negative click
LIKE_MEAN = 0.6  # how far smoothed intensities may differ, in deviations of the region
LIKE_RANK = 0.16  # how far ranks may differ, of 1


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


def spoken_for(seen: Seen, prompts: CellPrompts) -> Tensor:
    """Where the newest click may take something away.

    Without it one negative click could empty a mask of several tissues. Half and more of likeness
    or nearness is all of it; beyond, it falls to 0.

    Args:
        seen: the image.
        prompts: the clicks, one at least.

    Returns:
        (B, 1, D, H, W) float32 in [0, 1]; 1 throughout where the newest click is not negative.

    Source: measured, docs/experiments.md#what-a-negative-click-may-take-away.
    """
    _, _, d, h, w = seen.image.shape
    place = newest(prompts.labels).int().argmax(1, keepdim=True)
    point = prompts.points.take_along_dim(place[:, :, None], 1)
    negative = prompts.labels.take_along_dim(place, 1) == 0
    reach = click_maps(point, negative, (d, h, w), NEAR_CELLS)
    for look, apart in ((seen.means, LIKE_MEAN), (seen.ranked, LIKE_RANK)):
        reach = torch.maximum(reach, alike_maps(look, point, negative, apart))
    return torch.where(negative.view(-1, 1, 1, 1, 1), (2 * reach).clamp(max=1), 1.0)


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
