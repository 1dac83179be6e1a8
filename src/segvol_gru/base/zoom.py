"""Zoom-out, zoom-in as the reference does it: kept to the letter for comparison (`compat`).

    crop --nearest--> 32x256x256 --SegVol--> logits --nearest--> crop
                                                |
                        region of interest: logits > 0 and the box
                                                |
               windows slide over it at full resolution, logits averaged, pasted back

Nothing is cached, negative clicks stay with the zoom-out, every window is predicted. `views` is
the way for users.

Source: BAAI-DCAI/SegVol-for-SegFM@7708634, inference; MONAI 0.9.0 sliding window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segvol_gru.base.ask import EMPTY, Ask, Corners, Crop, Point, decode, text_of
from segvol_gru.base.precision import Precision, autocast
from segvol_gru.base.segvol import SegVol
from segvol_gru.base.windows import bounds, enlarged, middle_slice_bounds, slide, tiles
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region

MOST_POINTS = 5  # positive clicks that a zoom-in window is given: one and four more


class Cancelled(Exception):
    """The caller asked to stop; nothing has changed."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a caller follows and stops long work.

    Attributes:
        progress: called with (steps done, steps in all).
        cancelled: asked before every step.
    """

    progress: Callable[[int, int], None] | None = None
    cancelled: Callable[[], bool] | None = None

    def step(self, done: int, total: int) -> None:
        """Report a step and stop if that is wanted.

        Raises:
            Cancelled: the caller said so.
        """
        if self.progress is not None:
            self.progress(done, total)
        if self.cancelled is not None and self.cancelled():
            raise Cancelled


@dataclass(frozen=True, slots=True)
class ReferenceZoom:
    """The reference's inference on one crop.

    Attributes:
        model: the network.
        crop: normalised image.
        generator: source of chance, for windows with more positive clicks than it takes.
        precision: arithmetic; the reference has float32.
    """

    model: SegVol
    crop: Crop
    generator: torch.Generator
    precision: Precision = "float32"

    def segment(
        self,
        box: Box | None,
        clicks: Sequence[Click] = (),
        text: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Field:
        """Segment from all prompts at once.

        Args:
            box: in voxels of the volume.
            clicks: in voxels of the volume.
            text: (1, E) text vector.
            watch: progress and cancel.

        Returns:
            Logits of every voxel of the crop.
        """
        watch = watch or Watch()
        box, inner = self.crop.prompts(box, clicks)
        watch.step(0, 1)
        logits = self.zoom_out(box, inner, text)
        roi = self.region_of_interest(logits, box)
        if roi is not None:
            logits[roi.slices()] = self.zoom_in(roi, logits > 0, box, inner, text, watch)
        return self.crop.field(self.crop.whole, logits)

    def zoom_out(self, box: Box | None, clicks: Sequence[Click], text: Tensor | None) -> Tensor:
        """Coarse logits of the whole crop, (D, H, W) float32.

        Args:
            box: in voxels of the crop.
            clicks: in voxels of the crop. Each is mapped to the cell that holds it; the
                reference resizes a mask of them, in which most are lost.
            text: (1, E) text vector.
        """
        shape, frame = self.crop.whole.size, self.model.config.image
        corners = None if box is None else nearest_box(box, shape, frame)
        points = tuple(_nearest_cell(click.at, shape, frame) for click in clicks)
        ask = Ask(corners, points, tuple(int(c.positive) for c in clicks), text_of(text))
        view = F.interpolate(self.crop.image[None, None], frame, mode="nearest")
        return F.interpolate(self._predict(view, ask)[None, None], shape, mode="nearest")[0, 0]

    def region_of_interest(self, coarse_logits: Tensor, box: Box | None) -> Region | None:
        """Where to zoom in; None if there is nothing.

        Args:
            coarse_logits: (D, H, W).
            box: in voxels of the crop.
        """
        found = bounds(coarse_logits > 0)
        if box is not None:
            asked = Region(box.lo, box.size)
            found = asked if found is None else found.union(asked)
        if found is None:
            return None
        shape = self.crop.whole.size
        return enlarged(found, self.model.config.image, shape).inside(shape)

    def zoom_in(
        self,
        roi: Region,
        coarse_mask: Tensor,
        box: Box | None,
        clicks: Sequence[Click],
        text: Tensor | None,
        watch: Watch,
    ) -> Tensor:
        """Logits (float32, size of `roi`) at full resolution.

        Args:
            roi: region of the crop.
            coarse_mask: (D, H, W) bool, the zoom-out's answer.
            box: in voxels of the crop.
            clicks: in voxels of the crop; windows see the positive ones.
            text: (1, E) text vector.
            watch: progress and cancel.
        """
        window = self.model.config.image
        total = len(tiles(roi.size, window))
        mask = coarse_mask
        if box is not None and total == 1:
            mask = torch.zeros_like(coarse_mask)
            mask[Region(box.lo, box.size).slices()] = True
        mask = mask[roi.slices()]
        boxed = box is not None or bool(clicks)
        inner = self.crop.image[roi.slices()]
        done = 0

        def predict(image: Tensor, place: Region) -> Tensor:
            nonlocal done
            done += 1
            watch.step(done, total + 1)
            z, y, x = (a + b for a, b in zip(place.lo, roi.lo, strict=True))
            points = self._sampled(clicks, Region((z, y, x), window))
            corners = window_box(mask, place) if boxed else None
            return self._predict(image, Ask(corners, points, (1,) * len(points), text_of(text)))

        return slide(inner, window, predict)

    def _sampled(self, clicks: Sequence[Click], window: Region) -> tuple[Point, ...]:
        """At most five positive clicks inside a window, in its voxels."""
        inside: list[Point] = []
        for click in clicks:
            z, y, x = (a - o for a, o in zip(click.at, window.lo, strict=True))
            within = all(0 <= a < n for a, n in zip((z, y, x), window.size, strict=True))
            if click.positive and within:
                inside.append((z, y, x))
        order = torch.randperm(len(inside), generator=self.generator).tolist()
        return tuple(inside[i] for i in sorted(order[:MOST_POINTS]))

    @torch.inference_mode()
    def _predict(self, image: Tensor, ask: Ask) -> Tensor:
        """(1, 1, *window) -> logits of the window, float32 on the CPU."""
        with autocast(self.model.device, self.precision):
            embedding = self.model.encode(image.to(self.model.device))
            return self.model.upsample(decode(self.model, embedding, [ask]))[0, 0].cpu()


def nearest_box(box: Box, shape: Index, frame: Index) -> Corners:
    """The box of a cube after its mask was resized by nearest neighbour.

    Args:
        box: in voxels of the array.
        shape: (D, H, W) of the array.
        frame: (D, H, W) it is resized to.

    Returns:
        First and last cell along each axis; six times -1 if the cube vanishes.
    """
    first, last = [], []
    for lo, hi, n, cells in zip(box.lo, box.hi, shape, frame, strict=True):
        line = torch.zeros(1, 1, n)
        line[..., lo : hi + 1] = 1
        held = F.interpolate(line, cells, mode="nearest")[0, 0].nonzero().flatten()
        if not len(held):
            return EMPTY
        first.append(float(held[0]))
        last.append(float(held[-1]))
    return first[0], first[1], first[2], last[0], last[1], last[2]


def window_box(mask: Tensor, place: Region) -> Corners:
    """The middle-slice box of a mask inside a window.

    Args:
        mask: (D, H, W) bool.
        place: the window, in voxels of the mask; may stick out.

    Returns:
        Corners in voxels of the window; six times -1 if the mask is empty there.
    """
    depth, height, width = mask.shape
    inner = place.inside((depth, height, width))
    found = middle_slice_bounds(mask[inner.slices()])
    if found is None:
        return EMPTY
    z, y, x = (a + b - c for a, b, c in zip(found.lo, inner.lo, place.lo, strict=True))
    d, h, w = found.size
    return z, y, x, z + d - 1, y + h - 1, x + w - 1


def _nearest_cell(at: Index, shape: Index, frame: Index) -> Point:
    """The cell of the frame that holds the centre of a voxel."""
    z, y, x = ((2 * a + 1) * c // (2 * n) for a, n, c in zip(at, shape, frame, strict=True))
    return z, y, x
