"""What one view of the volume is asked, and how it is put to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from segvol_gru.base.feedback import Feedback
from segvol_gru.base.segvol import SegVol
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region

Point = tuple[float, float, float]
Corners = tuple[float, float, float, float, float, float]
EMPTY: Corners = (-1, -1, -1, -1, -1, -1)  # the reference's box of an empty mask


@dataclass(frozen=True, slots=True)
class Ask:
    """Prompts in voxels of the network's frame; hashable, so that answers can be kept.

    Attributes:
        box: (z0, y0, x0, z1, y1, x1), larger corner inclusive.
        points: clicks (z, y, x), oldest first.
        labels: 1 positive, 0 negative, one per point.
        text: (E,) text vector.
    """

    box: Corners | None = None
    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    text: tuple[float, ...] | None = None

    @property
    def kind(self) -> tuple[bool, int, bool]:
        """Asks of one kind have as many tokens and can share a batch without padding."""
        return self.box is not None, len(self.points), self.text is not None

    def before(self) -> Ask:
        """The same without the newest click."""
        return replace(self, points=self.points[:-1], labels=self.labels[:-1])


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of a volume that SegVol sees, normalised.

    Attributes:
        image: (D, H, W) float32 in [0, 1], on the CPU.
        origin: voxel (z, y, x) of the volume where it begins.
    """

    image: Tensor
    origin: Index = (0, 0, 0)

    @property
    def whole(self) -> Region:
        """All of it, in its own voxels."""
        depth, height, width = self.image.shape
        return Region((0, 0, 0), (depth, height, width))

    def prompts(
        self, box: Box | None, clicks: Sequence[Click]
    ) -> tuple[Box | None, tuple[Click, ...]]:
        """Bring prompts of the volume into this crop.

        Args:
            box: in voxels of the volume; what sticks out is cut off.
            clicks: in voxels of the volume; those outside are left out, since outside the
                foreground there is nothing to segment.

        Raises:
            InputError: the box has no voxel in the crop.
        """
        size = self.whole.size
        kept = [
            Click((z, y, x), click.positive)
            for click in clicks
            for z, y, x in [_minus(click.at, self.origin)]
            if 0 <= z < size[0] and 0 <= y < size[1] and 0 <= x < size[2]
        ]
        if box is None:
            return None, tuple(kept)
        inner = Region(_minus(box.lo, self.origin), box.size).inside(size)
        if 0 in inner.size:
            raise InputError(
                f"box {box.lo}..{box.hi} holds background only: the foreground starts at voxel "
                f"{self.origin} and has size {size}; draw the box on the structure."
            )
        last = _minus(inner.hi, (1, 1, 1))
        return Box(inner.lo, last, box.tight), tuple(kept)

    def field(self, region: Region, logits: Tensor) -> Field:
        """Logits on a region of this crop -> a field in voxels of the volume."""
        z, y, x = (a + b for a, b in zip(region.lo, self.origin, strict=True))
        return Field(Region((z, y, x), region.size), logits)


def decode(
    model: SegVol,
    embedding: Tensor,
    asks: Sequence[Ask],
    feedback: Feedback | None = None,
    earlier: Tensor | None = None,
) -> Tensor:
    """Answer asks of one kind.

    Args:
        model: the network.
        embedding: (P or 1, E, gD, gH, gW) on the model's device.
        asks: P asks of the same kind.
        feedback: the feedback path; needs `earlier`.
        earlier: (P, 1, 4gD, 4gH, 4gW) logits before each ask's newest click.

    Returns:
        (P, 1, 4gD, 4gH, 4gW) float32 logits on the model's device.
    """
    points, boxes, text = tensors(asks, model.device)
    residual = None
    if feedback is not None and earlier is not None and points is not None:
        residual = feedback(earlier.to(model.device), *points)
    return model.decode(embedding, points, boxes, text, residual).float()


def tensors(
    asks: Sequence[Ask], to: torch.device
) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]:
    """Points with their labels, boxes and text vectors of P asks of the same kind."""
    points, boxes, text = None, None, None
    if asks[0].points:
        points = (
            torch.tensor([ask.points for ask in asks], dtype=torch.float32, device=to),
            torch.tensor([ask.labels for ask in asks], device=to),
        )
    if asks[0].box is not None:
        boxes = torch.tensor([ask.box for ask in asks], dtype=torch.float32, device=to)
    if asks[0].text is not None:
        text = torch.tensor([ask.text for ask in asks], dtype=torch.float32, device=to)
    return points, boxes, text


def text_of(vector: Tensor | None) -> tuple[float, ...] | None:
    """A (1, E) text vector as a value."""
    return None if vector is None else tuple(vector.flatten().tolist())


def _minus(a: Index, b: Index) -> Index:
    z, y, x = (i - j for i, j in zip(a, b, strict=True))
    return z, y, x
