"""What looks alike in a region: maps that compare distant places for a convolutional network.

Such a network learns slowly to compare a click with cells far away. Here the comparison is made
for it, and it only has to learn when to trust it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

RANK_STEPS = 1024  # intensities told apart
BOX_BINS = 64  # ranks told apart inside and outside the box
JOINT_BINS = 20  # ranks told apart of a cell, and of its surroundings
PRIOR = 0.5  # cells that every joint bin is taken to hold on either side
JOINED_CELLS = 40  # how far likeness is followed from a click


class Seen(NamedTuple):
    """What an image shows before any prompt; (B, 1, D, H, W) float32 each."""

    image: Tensor
    means: Tensor  # of 3x3x3 cells, fewer at the border
    ranked: Tensor  # see `ranks`


def see(image: Tensor) -> Seen:
    """Look at (B, 1, D, H, W) intensities."""
    image = image.float()
    means = F.avg_pool3d(image, 3, stride=1, padding=1, count_include_pad=False)
    return Seen(image, means, ranks(image))


def ranks(image: Tensor) -> Tensor:
    """The image with every intensity equally frequent: contrast where most of the voxels are.

    Args:
        image: (B, 1, D, H, W).

    Returns:
        (B, 1, D, H, W) float32 in [0, 1]: the share of cells that are darker, ties by half.
    """
    flat = image.float().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    steps = ((flat - low) / (high - low).clamp(min=1e-6) * (RANK_STEPS - 1)).round().long()
    count = torch.zeros(len(flat), RANK_STEPS, device=image.device)
    count.scatter_add_(1, steps, torch.ones_like(flat))
    darker = (count.cumsum(1) - count / 2) / flat.shape[1]
    return darker.gather(1, steps).view(image.shape)


def box_likeness(ranked: Tensor, inside: Tensor) -> Tensor:
    """How much more often a cell's intensity is met inside the box than outside.

    Args:
        ranked: (B, 1, D, H, W) as from `ranks`.
        inside: (B, 1, D, H, W), the share of each cell inside the box.

    Returns:
        (B, 1, D, H, W) float32 in [-1, 1]: tanh of half the log ratio; 0 without a box.
    """
    bins = (ranked.flatten(1) * (BOX_BINS - 1)).round().long()
    weight = inside.flatten(1)
    found = []
    for part in (weight, 1 - weight):
        count = torch.ones(len(bins), BOX_BINS, device=ranked.device).scatter_add_(1, bins, part)
        found.append(count / count.sum(1, keepdim=True))
    ratio = (found[0].log() - found[1].log()) * (weight.amax(1, keepdim=True) > 0)
    return torch.tanh(ratio / 2).gather(1, bins).view(ranked.shape)


def alike_maps(image: Tensor, points: Tensor, chosen: Tensor, deviation: float) -> Tensor:
    """Where the image looks as it does at a chosen click, however far away.

    A convolutional network learns slowly to compare two distant places; here the comparison is
    made for it: exp(-(v(x) - v(click))^2 / (2 deviation^2)), the largest over the clicks.

    Args:
        image: (B, 1, D, H, W) float32.
        points: (B, N, 3) cell coordinates; beyond the region the nearest cell counts.
        chosen: (B, N) bool.
        deviation: how far intensities may differ to be alike.

    Returns:
        (B, 1, D, H, W) float32 in [0, 1].
    """
    apart = torch.full_like(image, torch.inf)
    items = torch.arange(len(image), device=image.device)
    last = torch.tensor(image.shape[2:], device=image.device) - 1
    for n in range(chosen.shape[1]):
        z, y, x = points[:, n].round().long().clamp(min=0).minimum(last).unbind(1)
        there = torch.where(chosen[:, n], image[items, 0, z, y, x], torch.inf)
        apart = torch.minimum(apart, (image - there.view(-1, 1, 1, 1, 1)).abs_())
    return apart.square_().mul_(-1 / (2 * deviation**2)).exp_()


def part_likeness(seen: Seen, p_part: Tensor) -> Tensor:
    """How much more often a cell's look is met in a part of the region than in the rest.

    A look is two ranks, of the cell and of its mean of 3x3x3 cells. Of the current mask it is what
    GrabCut learns from its own answer: what the mask is mostly made of.

    Args:
        seen: the image.
        p_part: (B, 1, D, H, W) in [0, 1], how far a cell belongs to the part.

    Returns:
        (B, 1, D, H, W) float32 in [-1, 1]: tanh of half the log ratio.

    Source: the colour models of Rother et al. 2004, doi 10.1145/1015706.1015720.
    """
    both = (ranks(seen.means), seen.ranked)
    steps = [(ranked * (JOINT_BINS - 1e-3)).long() for ranked in both]
    bins = (steps[0] * JOINT_BINS + steps[1]).flatten(1)
    weight, found = p_part.float().flatten(1), []
    for part in (weight, 1 - weight):
        count = torch.full((len(bins), JOINT_BINS**2), PRIOR, device=bins.device)
        count = count.scatter_add_(1, bins, part).view(-1, 1, JOINT_BINS, JOINT_BINS)
        count = F.avg_pool2d(count, 3, stride=1, padding=1).flatten(1)
        found.append(count / count.sum(1, keepdim=True))
    return torch.tanh((found[0].log() - found[1].log()) / 2).gather(1, bins).view(p_part.shape)


def joined(alike: Tensor, marks: Tensor) -> Tensor:
    """How alike a cell is to the marked ones along the best path to them: its weakest link.

    Worked out at half the resolution, as far as `JOINED_CELLS`.

    Args:
        alike: (B, 1, D, H, W) in [0, 1]; even sides.
        marks: (B, 1, D, H, W) bool.

    Returns:
        (B, 1, D, H, W) float32 in [0, 1].

    Source: fuzzy connectedness, Udupa & Samarasekera 1996, doi 10.1006/gmip.1996.0021.
    """
    out = torch.zeros_like(alike)
    begun = marks.flatten(1).any(1)
    if not begun.any():
        return out
    affinity = F.avg_pool3d(alike[begun], 2)
    strength = F.max_pool3d(marks[begun].float(), 2) * affinity
    for _ in range(JOINED_CELLS // 2):
        strength = torch.maximum(strength, torch.minimum(affinity, _spread(strength)))
    out[begun] = F.interpolate(strength, scale_factor=2.0)
    return out


def _spread(strength: Tensor) -> Tensor:
    """The largest of 3x3x3 cells: `max_pool3d`, which is slow on a CPU because it keeps places."""
    out = strength
    for axis in (2, 3, 4):
        n = out.shape[axis] - 1
        wide = out.clone()
        low, high = wide.narrow(axis, 1, n), wide.narrow(axis, 0, n)
        torch.maximum(low, out.narrow(axis, 0, n), out=low)
        torch.maximum(high, out.narrow(axis, 1, n), out=high)
        out = wide
    return out
