"""A volume as the networks see it: clipped to its window, on the cells of a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region, to_cells

KEPT_VIEWS = 4  # region images remembered: the current one and those that undo goes back to


class Reader(Protocol):
    """A base network that reads a volume as a whole, and keeps what it has read."""

    def segment(self, box: Box | None, clicks: Sequence[Click]) -> Field:
        """Logits from all prompts so far, in voxels; outside the field is background."""
        ...

    def features(
        self, box: Box | None, clicks: Sequence[Click], region: Region, cells: Index
    ) -> Tensor:
        """The network's own features on the cells of a region, (1, channels, *cells)."""
        ...


class View(NamedTuple):
    """The image of a region on cells, and how intensities became its values."""

    image: Tensor  # (1, 1, *cells) float32
    mean: Tensor  # () float32, of windowed intensities in 0..1
    deviation: Tensor  # () float32


@dataclass(slots=True)
class Scan:
    """The image of a session. Nothing full-size is ever converted or copied here.

    Attributes:
        array: (D, H, W) raw intensities of any real type.
        spacing_mm: voxel size along (D, H, W).
        clip: intensities below the first and above the second count as those.
        device: where the networks run.
        reader: a base network before this image; None where the base looks at regions.
    """

    array: NDArray[np.generic]
    spacing_mm: Sequence[float]
    clip: tuple[float, float]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    reader: Reader | None = field(default=None, repr=False)
    _views: dict[Region, View] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> Index:
        """(D, H, W)."""
        depth, height, width = self.array.shape
        return depth, height, width

    def look(self, region: Region, cells: Index) -> Tensor:
        """The image of a region: (1, 1, *cells) float32, zero mean and unit deviation.

        Args:
            region: inside the volume.
            cells: cells along (D, H, W).
        """
        return self._view(region, cells).image

    def plane(self, region: Region, cells: Index, depth: int) -> Tensor:
        """One plane of a region's voxels as `look` would show them: (H, W) float32 on the CPU.

        Args:
            region: inside the volume.
            cells: of the view, whose mean is 0 and whose deviation is 1.
            depth: which plane of the region.
        """
        view, (z, y, x) = self._view(region, cells), region.slices()
        shown = self._windowed((slice(z.start + depth, z.start + depth + 1), y, x))[0]
        return shown.sub_(view.mean).div_(view.deviation)

    def _view(self, region: Region, cells: Index) -> View:
        """A view, remembered or made."""
        if region not in self._views:
            image = to_cells(self._windowed(region.slices()), cells)
            mean, deviation = image.mean(), image.std().clamp(min=1e-3)
            image = (image - mean) / deviation
            while len(self._views) >= KEPT_VIEWS:
                self._views.pop(next(iter(self._views)))
            self._views[region] = View(image[None, None].to(self.device), mean, deviation)
        return self._views[region]

    def _windowed(self, part: tuple[slice, slice, slice]) -> Tensor:
        """A part of the image, clipped, the window's ends at 0 and 1; in memory of its own."""
        crop = np.array(self.array[part], dtype=np.float32)
        shown = torch.from_numpy(crop).clamp_(*self.clip)
        return shown.sub_(self.clip[0]).div_(self.clip[1] - self.clip[0] or 1.0)
