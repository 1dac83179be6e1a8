"""A state at rest: plain values and names of blobs, and the way back to the same bits.

    Step (a State, live) ─► freeze ─► Snapshot + blobs ─► thaw ─► Step

The mask is stored beside the logits it came from. Another machine may round an interpolation
differently; what it shows is the stored mask.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Field, Region
from segvol_gru.session.blobs import Blobs
from segvol_gru.state import SURE, State

Kind = Literal["float32", "float16", "bfloat16", "bits", "sure"]
KINDS: dict[torch.dtype, Kind] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.bool: "bits",
    torch.int8: "sure",
}
PACKED = ("bits", "sure")
PACKING_LEVEL = 1  # 24 million voxels in 15 ms; higher levels save a tenth


Clip = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Step:
    """A state and what made it.

    Attributes:
        state: its tensors lie in plain C order, so live and restored states go the same way.
        clip: intensities that the networks saw as darkest and brightest.
        digest: of the model.
    """

    state: State
    clip: Clip
    digest: str


@dataclass(frozen=True, slots=True)
class Stored:
    """An array in the blob store.

    Attributes:
        key: name of its bytes.
        kind: 'float32', 'float16', 'bfloat16' as they are; 'bits' one bit per voxel, deflated;
            'sure' the same for an int8 field of +-SURE.
        shape: any number of axes.
    """

    key: str
    kind: Kind
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredField:
    """A `Field` whose logits are in the blob store."""

    region: Region
    logits: Stored


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A `State`, its mask, and what made it.

    Attributes:
        layers: see `State`.
        region: see `State`.
        logits: see `State`.
        memory: see `State`.
        box: see `State`.
        clicks: see `State`.
        window: the voxels that the mask's bits cover; no other voxel is in the mask.
        mask: bits of shape `window.size`.
        voxels: how many of them are set.
        clip: see `Step`.
        digest: see `Step`.
    """

    layers: tuple[StoredField, ...]
    region: Region
    logits: Stored
    memory: Stored
    box: Box | None
    clicks: tuple[Click, ...]
    window: Region
    mask: Stored
    voxels: int
    clip: Clip
    digest: str

    @property
    def blank(self) -> bool:
        """Whether nothing is segmented and nothing said where the object is."""
        return not self.voxels and self.box is None and not any(c.positive for c in self.clicks)

    @property
    def arrays(self) -> Iterator[Stored]:
        """Everything that lies in the blob store."""
        yield from (layer.logits for layer in self.layers)
        yield from (self.logits, self.memory, self.mask)

    def mask_crop(self, blobs: Blobs) -> NDArray[np.bool_]:
        """The mask on its window, (d, h, w) bool."""
        bits: NDArray[np.bool_] = fetch(self.mask, blobs).numpy()
        return bits

    def paint(self, blobs: Blobs, shape: Index) -> NDArray[np.bool_]:
        """The mask in a new (D, H, W) bool array."""
        whole = np.zeros(shape, dtype=np.bool_)
        whole[self.window.slices()] = self.mask_crop(blobs)
        return whole


def freeze(step: Step, mask: Field, blobs: Blobs, known: Mapping[int, Stored]) -> Snapshot:
    """Store a step.

    Args:
        step: what to store.
        mask: its bool mask on the part of the volume that it covers.
        blobs: where to.
        known: by `id`, tensors of the state before that are stored already.
    """
    state = step.state
    layers = tuple(
        StoredField(f.region, known.get(id(f.logits)) or store(f.logits, blobs))
        for f in state.layers
    )
    return Snapshot(
        layers=layers,
        region=state.region,
        logits=store(state.logits, blobs),
        memory=store(state.memory, blobs),
        box=state.box,
        clicks=state.clicks,
        window=mask.region,
        mask=store(mask.logits, blobs),
        voxels=int(np.count_nonzero(mask.logits.numpy())),
        clip=step.clip,
        digest=step.digest,
    )


def thaw(snapshot: Snapshot, blobs: Blobs) -> Step:
    """The step again, bit for bit."""
    state = State(
        layers=tuple(Field(f.region, fetch(f.logits, blobs)) for f in snapshot.layers),
        region=snapshot.region,
        logits=fetch(snapshot.logits, blobs),
        memory=fetch(snapshot.memory, blobs),
        box=snapshot.box,
        clicks=snapshot.clicks,
    )
    return Step(state, snapshot.clip, snapshot.digest)


def store(tensor: Tensor, blobs: Blobs) -> Stored:
    """Put a tensor into the blob store."""
    kind = KINDS[tensor.dtype]
    flat = tensor.reshape(-1)
    if kind in PACKED:
        flags = flat.numpy() if kind == "bits" else (flat > 0).numpy()
        data = zlib.compress(np.packbits(flags).data, PACKING_LEVEL)
    else:
        data = flat.view(torch.uint8).numpy().tobytes()
    return Stored(blobs.put(data), kind, tuple(tensor.shape))


def fetch(stored: Stored, blobs: Blobs) -> Tensor:
    """Read a tensor from the blob store, in plain C order.

    Raises:
        InputError: the blob does not hold such a tensor.
    """
    data, count = blobs.get(stored.key), math.prod(stored.shape)
    if stored.kind in PACKED:
        values = _unpacked(data, count)
        if stored.kind == "sure":
            values = torch.where(values, int(SURE), -int(SURE)).to(torch.int8)
        return values.reshape(stored.shape)
    dtype = next(dtype for dtype, kind in KINDS.items() if kind == stored.kind)
    if len(data) != count * dtype.itemsize:
        raise InputError(f"a stored array of shape {stored.shape} has {len(data)} bytes: damaged.")
    if not count:
        return torch.empty(stored.shape, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(stored.shape)


def check(snapshot: Snapshot, blobs: Blobs, shape: Index) -> None:
    """Refuse a snapshot, read from a file, that does not fit its blobs or the volume.

    Args:
        snapshot: what was read.
        blobs: where its arrays should be.
        shape: (D, H, W) of the volume.

    Raises:
        InputError: it does not fit.
    """
    regions = (snapshot.region, snapshot.window, *(layer.region for layer in snapshot.layers))
    points = [click.at for click in snapshot.clicks]
    if snapshot.box is not None:
        points += [snapshot.box.lo, snapshot.box.hi]
    fits = (
        len(snapshot.layers) > 0
        and all(min(r.size) >= 1 and r.inside(shape) == r for r in regions)
        and all(0 <= v < n for point in points for v, n in zip(point, shape, strict=True))
        and all(a.key in blobs and all(n >= 0 for n in a.shape) for a in snapshot.arrays)
        and len(snapshot.logits.shape) == 5
        and snapshot.logits.shape[:2] == (1, 1)
        and all(len(layer.logits.shape) == 3 for layer in snapshot.layers)
        and (snapshot.mask.kind, snapshot.mask.shape) == ("bits", snapshot.window.size)
        and all(a.shape == f.region.size for f in snapshot.layers if (a := f.logits).kind == "sure")
    )
    if not fits:
        raise InputError("a stored state does not fit its volume: the session is damaged.")


def _unpacked(data: bytes, count: int) -> Tensor:
    inflate, size = zlib.decompressobj(), (count + 7) // 8
    try:
        bits = inflate.decompress(data, size)
    except zlib.error:
        bits = b""
    if len(bits) != size:
        raise InputError(f"a stored mask of {count} voxels cannot be inflated: damaged.")
    flags = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=count)
    return torch.from_numpy(flags.view(np.bool_))
