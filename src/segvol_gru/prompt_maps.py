"""Prompts of a batch of regions, and the maps that show them to a convolutional network."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from segvol_gru.prompts import Index

SHARP_CELLS = 2.0  # standard deviation of a click's mark: where exactly
BROAD_CELLS = 8.0  # standard deviation of a click's reach: the region it speaks for
ALIKE_SD = 0.3  # how far smoothed intensities may differ, in deviations of the region
ALIKE_RANK = 0.08  # how far ranks may differ, of 1
RANK_STEPS = 1024  # intensities told apart
BOX_BINS = 64  # ranks told apart inside and outside the box
COMMON_CHANNELS = 12  # of `common_channels`
LOGIT_SCALE = 4.0  # logits are shown as tanh(z / 4): +-1 sure, 0 undecided


@dataclass(frozen=True, slots=True)
class CellPrompts:
    """The prompts of a batch of regions, in cell coordinates (cell c has its centre at c).

    Attributes:
        points: (B, N, 3) float32, clicks (z, y, x) in the order given; the newest click of
            item b is the last one whose label is not -1.
        labels: (B, N) int64: 1 positive, 0 negative, -1 padding.
        box: (B, 6) float32 (z0, y0, x0, z1, y1, x1): the box's outer faces in cell
            coordinates; NaN throughout where there is no box.
        tight: (B,) float32, the share of the box's three axes along which it is meant to
            touch the object; 0 without a box.
        cell_mm: (B, 3) float32, cell size along (D, H, W) in mm.
    """

    points: Tensor
    labels: Tensor
    box: Tensor
    tight: Tensor
    cell_mm: Tensor

    def with_clicks(self, points: Tensor, labels: Tensor) -> CellPrompts:
        """These prompts and one more click per item.

        Args:
            points: (B, 3) float32 cell coordinates.
            labels: (B,) int64; -1 where an item gets none.
        """
        return replace(
            self,
            points=torch.cat([self.points, points[:, None]], 1),
            labels=torch.cat([self.labels, labels[:, None]], 1),
        )


def box_maps(prompts: CellPrompts, cells: Index) -> Tensor:
    """Where the box is, and how far its extent can be trusted.

    Returns:
        (B, 2, D, H, W) float32: the share of each cell inside the box, and the same times
        `tight`; zero without a box.
    """
    box = prompts.box.nan_to_num(-2.0)
    batch = len(box)
    inside = torch.ones(batch, 1, 1, 1, device=box.device)
    for axis, n in enumerate(cells):
        at = torch.arange(n, device=box.device, dtype=torch.float32)
        low, high = box[:, axis, None], box[:, axis + 3, None]
        share = (torch.minimum(at + 0.5, high) - torch.maximum(at - 0.5, low)).clamp(0, 1)
        shape = [batch, 1, 1, 1]
        shape[axis + 1] = n
        inside = inside * share.view(shape)
    return torch.stack([inside, inside * prompts.tight.view(-1, 1, 1, 1)], 1)


def click_maps(points: Tensor, chosen: Tensor, cells: Index, sigma_cells: float) -> Tensor:
    """Gaussian marks of the chosen clicks, the largest where they overlap.

    Args:
        points: (B, N, 3) cell coordinates.
        chosen: (B, N) bool.
        cells: cells along (D, H, W).
        sigma_cells: standard deviation of a mark in cells.

    Returns:
        (B, 1, D, H, W) float32 in [0, 1].
    """
    batch, count = chosen.shape
    out = torch.zeros(batch, *cells, device=points.device)
    for n in range(count):
        mark = chosen[:, n].float().view(-1, 1, 1, 1)
        for axis, size in enumerate(cells):
            at = torch.arange(size, device=points.device, dtype=torch.float32)
            line = torch.exp(-((at - points[:, n, axis, None]) ** 2) / (2 * sigma_cells**2))
            shape = [batch, 1, 1, 1]
            shape[axis + 1] = size
            mark = mark * line.view(shape)
        out = torch.maximum(out, mark)
    return out[:, None]


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


def looks(image: Tensor, inside: Tensor, prompts: CellPrompts) -> list[Tensor]:
    """What the image has in common with the prompted places, at two sharpnesses.

    Args:
        image: (B, 1, D, H, W) of zero mean and unit deviation.
        inside: (B, 1, D, H, W), the share of each cell inside the box.
        prompts: box and clicks.

    Returns:
        Six maps (B, 1, D, H, W) float32: what looks like the positive and like the negative
        clicks in a mean of 3x3x3 cells, the image's ranks, the same two of the ranks,
        `box_likeness`.
    """
    image = image.float()
    smooth = F.avg_pool3d(image, 3, stride=1, padding=1, count_include_pad=False)
    ranked = ranks(image)
    points, add, remove = prompts.points, prompts.labels == 1, prompts.labels == 0
    return [
        alike_maps(smooth, points, add, ALIKE_SD),
        alike_maps(smooth, points, remove, ALIKE_SD),
        2 * ranked - 1,
        alike_maps(ranked, points, add, ALIKE_RANK),
        alike_maps(ranked, points, remove, ALIKE_RANK),
        box_likeness(ranked, inside),
    ]


def newest(labels: Tensor) -> Tensor:
    """Mark the newest click of each item: (B, N) int64 labels -> (B, N) bool."""
    given = labels >= 0
    later = given.flip(1).cumsum(1).flip(1)
    return given & (later == 1)


def shown(logits: Tensor) -> Tensor:
    """Logits as a network sees them: tanh(z / 4)."""
    return torch.tanh(logits / LOGIT_SCALE)


def common_channels(image: Tensor, logits: Tensor, prompts: CellPrompts) -> list[Tensor]:
    """What every network on a region sees: `COMMON_CHANNELS` channels, float32.

    Channels: image, inside the box, inside times tightness, previous logits (0 at the start),
    marks of the positive and of the negative clicks, and the six `looks`.

    Returns:
        Maps (B, 1 or 2, D, H, W) in that order; who adds more of them joins all at once.
    """
    _, _, d, h, w = image.shape
    cells = (d, h, w)
    box = box_maps(prompts, cells)
    return [
        image,
        box,
        shown(logits),
        click_maps(prompts.points, prompts.labels == 1, cells, SHARP_CELLS),
        click_maps(prompts.points, prompts.labels == 0, cells, SHARP_CELLS),
        *looks(image, box[:, :1], prompts),
    ]
