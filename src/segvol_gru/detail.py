"""Finer than cells: what the image says between their centres.

Where a region has more voxels than cells, logits interpolated between cells cut every border
smooth. Around each cell a line is fitted through what the networks saw and what they said, and a
voxel that differs from the interpolated image moves its logit along that line:

    z(v) = Z(v) + a(v) (I(v) - Ī(v)),    a = cov(Ī, z) / (var(Ī) + eps) over 3x3x3 cells

Nothing is learnt and nothing moves where a voxel looks as its cell does.

Source: He & Sun 2015, arXiv 1505.00996, Eq. 3-6 (fast guided filter), of the residual I - Ī.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from segvol_gru.region import Field, Region
from segvol_gru.scan import Scan

EPS = 0.05  # squared contrast, in deviations of the region, that counts for nothing
MOST_LOGIT = 6.0  # surer logits are no surer than this
AROUND = 3  # cells along each axis of a fit


def finer(region: Region, logits: Tensor) -> bool:
    """Whether the voxels of a region are finer than its cells, (1, 1, d, h, w), on some axis."""
    return any(n > c for n, c in zip(region.size, logits.shape[2:], strict=True))


def slopes(image: Tensor, logits: Tensor) -> Tensor:
    """How logits change with intensity around every cell.

    Args:
        image: (1, 1, d, h, w) float32, zero mean and unit deviation.
        logits: (1, 1, d, h, w) float32.

    Returns:
        (1, 1, d, h, w) float32, logits per deviation; 0 where either is the same all around.
    """
    z_logit = logits.clamp(-MOST_LOGIT, MOST_LOGIT)
    seen, said = _mean(image), _mean(z_logit)
    together = _mean(image * z_logit) - seen * said
    alone = (_mean(image * image) - seen * seen).clamp(min=0)
    return _mean(together / (alone + EPS))


def detail(scan: Scan, region: Region, logits: Tensor) -> Iterator[Tensor]:
    """What is added to interpolated logits, one float32 (H, W) plane of the region after the other.

    Args:
        scan: the image.
        region: where the networks looked.
        logits: (1, 1, d, h, w) what they said on its cells.
    """
    _, _, d, h, w = logits.shape
    image = scan.look(region, (d, h, w)).cpu()
    steep = Field(region, slopes(image, logits)[0, 0]).planes(region)
    smooth = Field(region, image[0, 0]).planes(region)
    for depth, (slope, seen) in enumerate(zip(steep, smooth, strict=True)):
        yield slope.mul_(scan.plane(region, (d, h, w), depth).sub_(seen))


def _mean(values: Tensor) -> Tensor:
    return F.avg_pool3d(values, AROUND, stride=1, padding=AROUND // 2, count_include_pad=False)
