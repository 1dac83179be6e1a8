"""SegVol as the protocol sees it: alone, asked again at every click, or corrected by ours."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from segvol_gru.base.ask import Crop
from segvol_gru.base.views import Views
from segvol_gru.base.weights import load_segvol
from segvol_gru.data.preprocess import foreground_crop
from segvol_gru.interfaces.measured import SessionSegmenter
from segvol_gru.prompts import Box, Click
from segvol_gru.session.engine import pick_device

CHUNK = 2**24  # bytes hashed at once
Spacing = tuple[float, float, float]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class SegVolSegmenter:
    """SegVol's first mask, and what becomes of it; an image is encoded once for all its tasks.

    Args:
        weights: what `weights import` wrote.
        model: "default" or a model folder, for the correctors.
        corrector: "field" or "paper" for ours, "reprompt" for SegVol itself given all prompts,
            "none" to stay with its first mask.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, weights: Path, model: str, corrector: str, device: str = "auto") -> None:
        self._segvol = load_segvol(weights, text=False).to(pick_device(device))
        self._corrector = corrector
        self._ours: SessionSegmenter | None = None
        if corrector not in ("none", "reprompt"):
            self._ours = SessionSegmenter(model, corrector, device)
        self._array: Image | None = None
        whole = hashlib.sha256()
        with weights.open("rb") as stream:
            while part := stream.read(CHUNK):
                whole.update(part)
        if self._ours is not None:
            whole.update(self._ours.digest.encode())
        self.digest = whole.hexdigest()

    def start(
        self,
        array: Image,
        spacing_mm: Spacing,
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> Mask:
        """See `evaluation.trial.Segmenter`."""
        if array is not self._array:
            cut = foreground_crop(array)
            self._views = Views(self._segvol, Crop(torch.from_numpy(cut.image), cut.start))
            self._array = array
        self._spacing_mm, self._modality = spacing_mm, modality
        self._box, self._clicks = box, [] if click is None else [click]
        self._mask = self._ask()
        self._handed_over = self._ours is not None and bool(self._mask.any())
        if self._ours is not None and self._handed_over:
            self._ours.adopt(array, spacing_mm, self._mask, modality)
        return self._mask.copy()

    def click(self, click: Click) -> Mask:
        """See `evaluation.trial.Segmenter`."""
        assert self._array is not None
        if self._corrector == "none":
            return self._mask.copy()
        self._clicks.append(click)
        if self._ours is None:
            return self._ask()
        if self._handed_over:
            return self._ours.click(click)
        # SegVol found nothing, so there is no mask to correct: the click begins.
        self._handed_over = True
        return self._ours.start(self._array, self._spacing_mm, None, click, self._modality)

    def _ask(self) -> Mask:
        """SegVol's answer to everything said so far."""
        assert self._array is not None
        field = self._views.segment(self._box, self._clicks)
        mask = np.zeros(self._array.shape, np.bool_)
        mask[field.region.slices()] = field.render(field.region).numpy() > 0
        return mask
