"""Prompts of a batch of regions, and the maps that show them to a convolutional network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from segvol_gru.likeness import Seen, alike_maps, box_likeness
from segvol_gru.prompts import Index

SHARP_CELLS = 2.0  # standard deviation of a click's mark: where exactly
BROAD_CELLS = 8.0  # standard deviation of a click's reach: the region it speaks for
ALIKE_SD = 0.3  # how far smoothed intensities may differ, in deviations of the region
ALIKE_RANK = 0.08  # how far ranks may differ, of 1
COMMON_CHANNELS = 12  # of `common_maps`
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


def newest(labels: Tensor) -> Tensor:
    """Mark the newest click of each item: (B, N) int64 labels -> (B, N) bool."""
    given = labels >= 0
    later = given.flip(1).cumsum(1).flip(1)
    return given & (later == 1)


def shown(logits: Tensor) -> Tensor:
    """Logits as a network sees them: tanh(z / 4)."""
    return torch.tanh(logits / LOGIT_SCALE)


class CommonMaps(NamedTuple):
    """What every network on a region sees: `COMMON_CHANNELS` channels in this order, float32.

    All are (B, 1, D, H, W), but for `box`, which has two channels.
    """

    image: Tensor  # zero mean, unit deviation
    box: Tensor  # inside the box, and inside times tightness
    logits: Tensor  # the previous ones as `shown`; 0 at the start
    add: Tensor  # marks of the positive clicks
    remove: Tensor  # and of the negative ones
    means_add: Tensor  # what looks like a positive click in a mean of 3x3x3 cells
    means_remove: Tensor
    ranked: Tensor  # the image's ranks, from -1 to 1
    ranks_add: Tensor  # what ranks like a positive click
    ranks_remove: Tensor
    in_box: Tensor  # what is met in the box rather than outside


def common_maps(seen: Seen, logits: Tensor, prompts: CellPrompts) -> CommonMaps:
    """What every network on a region sees; who adds more maps joins all at once.

    Args:
        seen: images of zero mean and unit deviation.
        logits: (B, 1, D, H, W), 0 at the start.
        prompts: box and clicks.
    """
    _, _, d, h, w = logits.shape
    cells, points = (d, h, w), prompts.points
    box, add, remove = box_maps(prompts, cells), prompts.labels == 1, prompts.labels == 0
    means, ranked = seen.means, seen.ranked
    return CommonMaps(
        seen.image,
        box,
        shown(logits),
        click_maps(points, add, cells, SHARP_CELLS),
        click_maps(points, remove, cells, SHARP_CELLS),
        alike_maps(means, points, add, ALIKE_SD),
        alike_maps(means, points, remove, ALIKE_SD),
        2 * ranked - 1,
        alike_maps(ranked, points, add, ALIKE_RANK),
        alike_maps(ranked, points, remove, ALIKE_RANK),
        box_likeness(ranked, box[:, :1]),
    )
