"""Which cells a click may change: the uncertain set U and the error set E (Eq. 2 and 3).

            logits ──► p ──► tau < p < 1 - tau ──────────► U  most uncertain K
    clicks ──► balls ──► prediction differs from label ──► E  any K, nearest click first

Everything is in cells of the region, whose frame is fitted to the object: an object framed by
its box spans 64 / 1.4 = 46 of 64 cells whatever its size in mm, so distances in cells are
distances relative to the object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segvol_gru.prompt_maps import CellPrompts

TAU = 0.1  # Eq. 2
K = 200  # points in each of U and E, paper 2.2
RADIUS_CELLS = 5.0  # r of Eq. 3; see `sample_paper`
REACH = 1.5  # radius of an adaptive ball over the click's distance to the mask's border
REACH_CELLS = (3.0, 14.0)  # smallest and largest adaptive radius
ELL_CELLS = 16.0  # distance to the clicks at which doubt counts 1 / e
BLOCK_CELLS = 8  # side of the blocks that share out U
PER_BLOCK = 4  # cells that a block gives before the others have given as many


@dataclass(frozen=True, slots=True)
class Candidates:
    """The points of a batch of regions that one step may correct; set 0 is U, set 1 is E.

    Attributes:
        coordinates: (B, 2, K, 3) int64 cell indices (z, y, x); 0 where not valid.
        valid: (B, 2, K) bool, False for padding, which fills the end of a set.
        p_prob: (B, 2, K) float32, predicted probability of foreground; 0 where not valid.
        label: (B, 2, K) int64, the label of the click that an E point contradicts (1 or 0);
            -1 in U and where not valid.
    """

    coordinates: Tensor
    valid: Tensor
    p_prob: Tensor
    label: Tensor


@torch.no_grad()
def sample_paper(
    logits: Tensor,
    prompts: CellPrompts,
    k: int,
    radius_cells: float,
    generators: Sequence[torch.Generator],
) -> Candidates:
    """Draw U and E as the paper does.

    U holds the k cells of the band nearest to p = 0.5, nearest first, ties in memory order. E
    holds k cells drawn from the union of the balls, nearest to its click first: the paper
    leaves the order open, and the GRU reads the points by their place in the list.

    The paper does not say what r is. `RADIUS_CELLS` is the authors' share of the view (unused
    code: a cube of half-width 20 of 256 pixels in-plane = 5 of 64 cells) and a fifth of an
    object's half-extent in the region. On corrupted phantoms it puts the most truly wrong
    cells among the K: smaller balls do not fill K, in larger ones most contradicting cells
    were right (64 % wrong within 5 cells of the robot's first click, 42 % in 12, 29 % in 20).

    Args:
        logits: (B, 1, D, H, W) float32 on the cells; the mask is logits > 0.
        prompts: all clicks so far.
        k: points per set.
        radius_cells: r of Eq. 3.
        generators: one CPU generator per item, so that an item's points do not depend on
            its neighbours in the batch.

    Source: paper Algorithm 1.
    """
    p_prob = logits.sigmoid()
    chosen = []
    for b, generator in enumerate(generators):
        points, labels = _clicks(prompts, b)
        balls = [(point, radius_cells) for point in points.tolist()]
        wrong = _errors(logits[b, 0] > 0, balls, labels, k, generator)
        chosen.append((_most_uncertain(p_prob[b, 0], k), wrong))
    return _candidates(logits, p_prob, chosen, k)


@torch.no_grad()
def sample_stratified(
    logits: Tensor, prompts: CellPrompts, k: int, generators: Sequence[torch.Generator]
) -> Candidates:
    """Draw U spread over the region, close to the clicks, and E from balls of fitting size.

    The k cells nearest to p = 0.5 form a thread along one iso-surface. Here every block of
    8 x 8 x 8 cells gives its 4 best before any gives more, best by doubt times
    exp(-distance to the nearest click / ell). A ball's radius is 1.5 times the distance from
    the click to the border of the mask, between 3 and 14 cells.

    Args and result as in `sample_paper`.

    Source: corrector notes, section 4.2 (radii there in mm, here relative to the object).
    """
    p_prob = logits.sigmoid()
    chosen = []
    for b, generator in enumerate(generators):
        predicted = logits[b, 0] > 0
        points, labels = _clicks(prompts, b)
        balls = [(point, fitting_radius(predicted, point)) for point in points.tolist()]
        wrong = _errors(predicted, balls, labels, k, generator)
        chosen.append((_spread(p_prob[b, 0], points, k), wrong))
    return _candidates(logits, p_prob, chosen, k)


def fitting_radius(predicted: Tensor, point: Sequence[float]) -> float:
    """Radius in cells of the ball that a click speaks for.

    Args:
        predicted: (D, H, W) bool, the mask.
        point: the click (z, y, x) in cells.
    """
    low, high = REACH_CELLS
    window, squared = _window(point, high / REACH, predicted)
    if squared.numel() == 0:
        return low
    z, y, x = (min(max(round(c), 0), n - 1) for c, n in zip(point, predicted.shape, strict=True))
    beyond = squared[predicted[window] != predicted[z, y, x]]
    if beyond.numel() == 0:
        return high
    return min(max(REACH * math.sqrt(float(beyond.min())), low), high)


def _clicks(prompts: CellPrompts, item: int) -> tuple[Tensor, list[bool]]:
    """The clicks of one item without padding: (n, 3) cells and n labels."""
    given = prompts.labels[item] >= 0
    return prompts.points[item][given], (prompts.labels[item][given] == 1).tolist()


def _band(p_prob: Tensor) -> Tensor:
    """Flat indices of U (Eq. 2) in memory order."""
    flat = p_prob.flatten()
    return ((flat > TAU) & (flat < 1 - TAU)).nonzero()[:, 0]


def _most_uncertain(p_prob: Tensor, k: int) -> Tensor:
    """Flat indices of the k cells of U nearest to 0.5, nearest first, ties in memory order."""
    band = _band(p_prob)
    distance = (p_prob.flatten()[band] - 0.5).abs()
    if len(band) > k:  # sort only those that can be among the k
        near = distance <= distance.kthvalue(k).values
        band, distance = band[near], distance[near]
    return band[distance.sort(stable=True).indices[:k]]


def _spread(p_prob: Tensor, points: Tensor, k: int) -> Tensor:
    """Flat indices of k cells of U, `PER_BLOCK` of every block first, best first."""
    band = _band(p_prob)
    at = torch.stack(torch.unravel_index(band, p_prob.shape), 1)
    score = 1 - 2 * (p_prob.flatten()[band] - 0.5).abs()
    if len(points):
        exact = "donot_use_mm_for_euclid_dist"
        nearest = torch.cdist(at.float(), points.float(), compute_mode=exact).amin(1)
        score = score * torch.exp(-nearest / ELL_CELLS)
    best = score.sort(stable=True, descending=True).indices
    blocks = [-(-n // BLOCK_CELLS) for n in p_prob.shape]
    z, y, x = (at[best] // BLOCK_CELLS).unbind(1)
    block, order = ((z * blocks[1] + y) * blocks[2] + x).sort(stable=True)
    rank = torch.empty_like(order)  # how many of the same block are better
    rank[order] = torch.arange(len(order), device=rank.device) - torch.searchsorted(block, block)
    turn = (rank // PER_BLOCK).sort(stable=True).indices
    return band[best[turn[:k]]]


def _errors(
    predicted: Tensor,
    balls: Sequence[tuple[Sequence[float], float]],
    labels: Sequence[bool],
    k: int,
    generator: torch.Generator,
) -> Tensor:
    """Flat indices of k random cells of E (Eq. 3), nearest to its click first."""
    nearest = torch.full(predicted.shape, torch.inf, device=predicted.device)
    for (point, radius), label in zip(balls, labels, strict=True):
        window, squared = _window(point, radius, predicted)
        member = (squared <= radius**2) & (predicted[window] != label)
        seen = nearest[window]
        nearest[window] = torch.where(member, torch.minimum(seen, squared), seen)
    flat = nearest.flatten()
    members = flat.isfinite().nonzero()[:, 0]
    if len(members) > k:
        # Drawn on the CPU: the same points on every device.
        drawn = torch.randperm(len(members), generator=generator)[:k].sort().values
        members = members[drawn.to(members.device)]
    return members[flat[members].sort(stable=True).indices]


def _window(
    point: Sequence[float], radius: float, grid: Tensor
) -> tuple[tuple[slice, slice, slice], Tensor]:
    """The part of the grid around a ball, and squared distances to its centre, in cells."""
    parts, squared = [], torch.zeros(1, 1, 1, device=grid.device)
    for axis, (centre, size) in enumerate(zip(point, grid.shape, strict=True)):
        first = min(max(math.ceil(centre - radius), 0), size)
        stop = max(min(math.floor(centre + radius) + 1, size), first)
        parts.append(slice(first, stop))
        line = (torch.arange(first, stop, device=grid.device, dtype=torch.float32) - centre) ** 2
        squared = squared + line.view([-1 if a == axis else 1 for a in range(3)])
    return (parts[0], parts[1], parts[2]), squared


def _candidates(
    logits: Tensor, p_prob: Tensor, chosen: Sequence[tuple[Tensor, Tensor]], k: int
) -> Candidates:
    """Pad the chosen flat indices to k and look up what is known about them."""
    flat = torch.zeros(len(chosen), 2, k, dtype=torch.int64, device=logits.device)
    valid = torch.zeros_like(flat, dtype=torch.bool)
    for b, sets in enumerate(chosen):
        for s, index in enumerate(sets):
            flat[b, s, : len(index)] = index
            valid[b, s, : len(index)] = True
    at = flat.flatten(1)
    predicted = (logits.flatten(1).gather(1, at) > 0).view_as(flat).long()
    p_there = p_prob.flatten(1).gather(1, at).view_as(flat)
    in_e = torch.tensor([False, True], device=logits.device).view(1, 2, 1) & valid
    return Candidates(
        coordinates=torch.stack(torch.unravel_index(flat, logits.shape[2:]), -1),
        valid=valid,
        p_prob=torch.where(valid, p_there, 0.0),
        label=torch.where(in_e, 1 - predicted, -1),  # E contradicts its click
    )
