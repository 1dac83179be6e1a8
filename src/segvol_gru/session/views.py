"""All objects of a session in one array, made anew at every call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segvol_gru.prompts import Index
from segvol_gru.region import Field
from segvol_gru.session.blobs import Blobs
from segvol_gru.session.log import Track
from segvol_gru.session.snapshot import Snapshot


def label_map(
    tracks: Iterable[Track], blobs: Blobs, shape: Index, canvas: Callable[[Snapshot], Field]
) -> NDArray[Any]:
    """All objects in one array.

    Args:
        tracks: the objects.
        blobs: holds their states.
        shape: (D, H, W) of the volume.
        canvas: the logits of an object, on its window.

    Returns:
        (D, H, W) uint8, or uint16 with labels beyond 255: 0 for background, elsewhere the label
        of the object whose mask has the voxel. Where masks overlap the highest logit wins, and
        the object added first if they are equal.
    """
    tracks = tuple(tracks)
    highest = max((track.label for track in tracks), default=0)
    labels = np.zeros(shape, dtype=np.min_scalar_type(highest))
    best = np.zeros(shape, dtype=np.float32)  # pages that no object covers are never touched
    for track in tracks:
        result = track.result
        if result is None or not result.voxels:
            continue
        at = result.window.slices()
        logits = canvas(result).logits.numpy()
        mask = result.mask_crop(blobs)
        wins = mask & ((logits > best[at]) | (labels[at] == 0))
        best[at][wins] = logits[wins]
        labels[at][wins] = track.label
    return labels
