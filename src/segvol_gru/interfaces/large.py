"""The first mask by SegVol, the large base network, with weights of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from segvol_gru.base.ask import Crop
from segvol_gru.base.views import Views
from segvol_gru.base.weights import load_segvol
from segvol_gru.base.zoom import Watch
from segvol_gru.data.preprocess import foreground_crop
from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.prompts import Box, Click
from segvol_gru.session.engine import pick_device
from segvol_gru.volume import Volume


def segvol_mask(
    volume: Volume, weights: Path, box: Box | None, clicks: Sequence[Click], device: str
) -> NDArray[np.bool_]:
    """Segment with SegVol.

    Args:
        volume: the image.
        weights: what `weights import` wrote.
        box: the box, or None.
        clicks: the clicks, oldest first.
        device: "auto", "cpu", "cuda" or "mps".

    Returns:
        (D, H, W) bool, not empty.

    Raises:
        InputError: the weights cannot be used, or SegVol finds nothing.
    """
    model = load_segvol(weights, text=False).to(pick_device(device))
    cut = foreground_crop(volume.array)
    views = Views(model, Crop(torch.from_numpy(cut.image), cut.start))
    with console.progress() as bar:
        task = bar.add_task("SegVol")
        watch = Watch(lambda done, total: bar.update(task, completed=done, total=total))
        field = views.segment(box, clicks, watch=watch)
    mask = np.zeros(volume.shape, np.bool_)
    mask[field.region.slices()] = field.render(field.region).numpy() > 0
    if not mask.any():
        raise InputError("SegVol found nothing there; give another box, or --base compact.")
    return mask
