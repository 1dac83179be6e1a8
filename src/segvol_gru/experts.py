"""Experts: the networks once more for each kind of scan that was seen often in training.

    scan ─► traits (voxel size, extent, grey levels) ─► nearest kind ─► its base and corrector
                                                     └► none is near: the general networks

One small network cannot be at its best everywhere. An expert shares with the general networks
the spatial filters below half resolution, the steps down and the memory; what mixes their
answers, the norms and all that works at half and full resolution is its own. That is a tenth of
the weights, and most of what learning one kind alone brings. A scan unlike all kinds is left to
the general networks, whose answers are the same to the last bit as without experts.

A kind is a Gaussian over the traits of its training scans, so that one can be added from a
user's own scans without seeing anybody else's.

Source: Jacobs et al. 1991, Adaptive Mixtures of Local Experts, one expert per scan; the distance
is Mahalanobis', as in Lee et al. 2018, arXiv 1807.03888.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from segvol_gru.base.compact import CompactBase
from segvol_gru.correct import Corrector
from segvol_gru.correct.field import FieldCorrector

FAR = 30.0  # squared distance from which a scan is of no kind
SIDE = 64  # voxels along an axis that traits look at
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_FLOORS = np.array([0.1] * 6 + [0.15] * (len(QUANTILES) + 3))  # traits are never known better
_ALONE = 0.3  # how far traits are taken for independent
_FULL_AND_HALF = ("unet.stem.", "unet.levels.0.", "unet.ups.0.")
Network = TypeVar("Network", CompactBase, FieldCorrector)


def traits(
    array: NDArray[np.generic], spacing_mm: Sequence[float], clip: tuple[float, float]
) -> NDArray[np.float64]:
    """What tells kinds of scans apart, whatever order their axes have.

    Args:
        array: (D, H, W) raw intensities.
        spacing_mm: voxel size along (D, H, W).
        clip: intensities below the first and above the second count as those.

    Returns:
        (15,): logarithms of voxel sizes and of extents in mm, each in rising order; quantiles of
        the grey levels; logarithms of the steps between neighbours along the axes, finest first,
        in the middle of the scan. Grey levels are in deviations of the scan.
    """
    sizes = np.array(spacing_mm, dtype=float)
    extents = sizes * np.array(array.shape)
    coarse = tuple(slice(None, None, max(1, n // SIDE)) for n in array.shape)
    grey = np.asarray(array[coarse], dtype=np.float64).clip(*clip)
    least = 1e-6 * (clip[1] - clip[0])  # in whatever unit the scan is
    deviation = max(float(grey.std()), least) or 1.0
    levels = (np.quantile(grey, QUANTILES) - grey.mean()) / deviation
    middle = tuple(slice(max(0, (n - SIDE) // 2), (n + SIDE) // 2 + 1) for n in array.shape)
    near = np.asarray(array[middle], dtype=np.float64).clip(*clip)
    rough = max(float(near.std()), least) or 1.0
    steps = [
        float(np.abs(np.diff(near, axis=axis)).mean()) / rough if near.shape[axis] > 1 else 0.0
        for axis in np.argsort(sizes, kind="stable")
    ]
    return np.concatenate(
        [np.log(np.sort(sizes)), np.log(np.sort(extents)), levels, np.log(np.array(steps) + 0.01)]
    )


@dataclass(frozen=True)
class Kind:
    """A kind of scan.

    Attributes:
        name: of its expert.
        mean: (15,) traits.
        precision: (15, 15), the inverse of their covariance.
    """

    name: str
    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]

    def distance(self, found: NDArray[np.float64]) -> float:
        """Squared Mahalanobis distance of a scan's traits."""
        away = found - np.array(self.mean)
        return float(away @ np.array(self.precision) @ away)


def kind_of(name: str, rows: NDArray[np.float64]) -> Kind:
    """The kind that some scans are of.

    Args:
        name: its name.
        rows: (scans, 15) their traits; one scan is enough.
    """
    mean = rows.mean(0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    alone = np.diag(covariance.diagonal())
    precision = np.linalg.inv(covariance + _ALONE * (alone - covariance) + np.diag(_FLOORS**2))
    return Kind(name, tuple(mean.tolist()), tuple(map(tuple, precision.tolist())))


def recognised(kinds: Sequence[Kind], found: NDArray[np.float64]) -> str:
    """The name of the nearest kind, empty if none is nearer than `FAR`."""
    near = [(distance, k.name) for k in kinds if (distance := k.distance(found)) < FAR]
    return min(near)[1] if near else ""


def owned(network: nn.Module) -> list[str]:
    """Names of the parameters that each expert has of its own; it shares the others."""
    return [
        name
        for name, value in network.named_parameters()
        if name.startswith(_FULL_AND_HALF) or value.dim() < 5 or max(value.shape[2:]) == 1
    ]


def shared_digest(network: nn.Module) -> str:
    """SHA-256 of what a network's experts share with it, in 16 bits as on disk."""
    own, digest = set(owned(network)), hashlib.sha256()
    for name, value in network.named_parameters():
        if name not in own:
            bits = value.detach().half() + 0  # there is one zero: averaging loses its sign
            digest.update(bits.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def expert_of(general: Network, own: Mapping[str, Tensor]) -> Network:
    """A network with some parameters of its own that shares the memory of the others.

    Args:
        general: whose parameters it shares.
        own: all that `owned` names.
    """
    expert: Network = type(general)(general.config)
    expert.load_state_dict({**general.state_dict(), **own}, assign=True)
    return expert


@dataclass(frozen=True)
class Experts:
    """The experts of a model; a kind may lack either network, and the general one serves it.

    Attributes:
        kinds: what they know.
        bases: by name of the kind.
        correctors: by name of the kind.
    """

    kinds: tuple[Kind, ...] = ()
    bases: Mapping[str, CompactBase] = field(default_factory=dict)
    correctors: Mapping[str, Corrector] = field(default_factory=dict)
