"""A volume as the networks see it: clipped to its window, on the cells of a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

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
    _views: dict[Region, Tensor] = field(default_factory=dict, repr=False)

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
        if region not in self._views:
            crop = np.asarray(self.array[region.slices()], dtype=np.float32)
            image = to_cells(torch.from_numpy(crop.clip(*self.clip)), cells)
            image = (image - self.clip[0]) / max(self.clip[1] - self.clip[0], 1e-6)
            image = (image - image.mean()) / image.std().clamp(min=1e-3)
            while len(self._views) >= KEPT_VIEWS:
                self._views.pop(next(iter(self._views)))
            self._views[region] = image[None, None].to(self.device)
        return self._views[region]
