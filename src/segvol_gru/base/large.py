"""SegVol as a base of the pipeline: it reads a whole volume, and keeps what it has read.

volume ─► window ─► ForegroundNorm, crop ─► Views ─► field of logits
                                              └─ embeddings and answers of earlier prompts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segvol_gru.base.ask import Crop
from segvol_gru.base.compact import CompactConfig
from segvol_gru.base.segvol import SegVol
from segvol_gru.base.views import Views
from segvol_gru.base.zoom import ReferenceZoom, Watch
from segvol_gru.data.preprocess import Window, foreground_crop
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region

SEED = 2025  # of the clicks that the reference draws for a window
BATCH = {"cuda": 4}
"""Views at once by kind of device, elsewhere 1: a CPU gains nothing from more, and alone an
answer does not depend on its neighbours, so a resumed session goes on to the same bits."""


@dataclass(frozen=True)
class LargeConfig:
    """How SegVol is used."""

    cells: int = CompactConfig.cells
    """Cells along each axis of the regions that correctors look at."""
    compat: bool = False
    """Ask as the reference implementation does: every window anew at every prompt."""


class LargeBase(nn.Module):
    """SegVol in place of the compact base.

    Args:
        network: with its weights.
        config: how to use it.
        text: (1, E) text vector of the structure that is looked for, beside all other prompts.
    """

    def __init__(
        self, network: SegVol, config: LargeConfig | None = None, text: Tensor | None = None
    ) -> None:
        super().__init__()
        self.network, self.text = network, text
        self.config = config or LargeConfig()

    def forward(self, image: Tensor, logits: Tensor, prompts: CellPrompts) -> Tensor:
        """The logits as they are: whoever asks on a region has SegVol's answer there already."""
        return logits

    def read(
        self, array: NDArray[Any], clip: tuple[float, float], watch: Watch | None = None
    ) -> LargeReader:
        """Sit down before a volume; nothing is computed yet.

        Args:
            array: (D, H, W) raw intensities.
            clip: intensities below the first and above the second count as those.
            watch: progress and cancel of every prompt.
        """
        return LargeReader(self, array, clip, watch or Watch())


class LargeReader:
    """SegVol before one volume. For one caller at a time.

    Args:
        base: the network and how to use it.
        array: (D, H, W) raw intensities.
        clip: darkest and brightest intensity.
        watch: progress and cancel.
    """

    def __init__(
        self, base: LargeBase, array: NDArray[Any], clip: tuple[float, float], watch: Watch
    ) -> None:
        self._base, self._array, self._clip, self._watch = base, array, clip, watch
        self._views: Views | None = None

    def segment(self, box: Box | None, clicks: Sequence[Click]) -> Field:
        """Answer all prompts, and the text if the base has one.

        Args:
            box: in voxels of the volume.
            clicks: in voxels of the volume, oldest first.

        Returns:
            Logits in voxels of the volume; outside the field is background.

        Raises:
            InputError: no prompt says where the structure is, or it lies in the background.
            Cancelled: the watch said so.
        """
        views = self._opened()
        asked: Views | ReferenceZoom = views
        if self._base.config.compat:
            generator = torch.Generator().manual_seed(SEED)
            asked = ReferenceZoom(views.model, views.crop, generator)
        return asked.segment(box, clicks, self._base.text, self._watch)

    def features(
        self, box: Box | None, clicks: Sequence[Click], region: Region, cells: Index
    ) -> Tensor:
        """What SegVol makes its masks of, (1, E / 8, *cells) float32 on the cells of a region."""
        return self._opened().features(box, clicks, self._base.text, region, cells)

    def _opened(self) -> Views:
        if self._views is None:
            grey = Window(*self._clip).apply(self._array)
            cut = foreground_crop(grey)
            network = self._base.network
            self._views = Views(
                network,
                Crop(torch.from_numpy(cut.image), cut.start),
                batch=BATCH.get(network.device.type, 1),
            )
        return self._views
