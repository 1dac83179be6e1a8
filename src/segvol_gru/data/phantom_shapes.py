"""Shapes that phantoms are made of, each a (D, H, W) bool mask or a field to cut one from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.prompts import Index

Mask = NDArray[np.bool_]
FloatField = NDArray[np.float32]
TUBE_POINTS = 120


def smooth_noise(shape: Index, knots: int, generator: np.random.Generator) -> FloatField:
    """Low-frequency noise of about zero mean and unit deviation, `knots` bumps along each axis."""
    field: FloatField = generator.standard_normal((knots,) * 3).astype(np.float32)
    for n in shape:  # linear between knots, one axis after the other: each comes last in turn
        at = np.linspace(0, knots - 1, n)[:, None]
        weights = np.maximum(0, 1 - np.abs(at - np.arange(knots))).astype(np.float32)
        field = np.tensordot(field, weights, (0, 1))
    return field


def ellipsoid(shape: Index, centre: NDArray[np.float64], radii: NDArray[np.float64]) -> FloatField:
    """Distance from the centre in radii, 1 on the surface.

    Args:
        shape: (D, H, W).
        centre: (3,) where the volume reaches from -1 to 1.
        radii: (3,) in the same unit.
    """
    squares = [
        ((np.linspace(-1, 1, n) - c) / r).astype(np.float32) ** 2
        for n, c, r in zip(shape, centre, radii, strict=True)
    ]
    z, y, x = squares
    out: FloatField = np.sqrt(z[:, None, None] + y[:, None] + x)
    return out


def rolled(warp: FloatField, generator: np.random.Generator) -> FloatField:
    """The same noise in another place: cheaper than new noise."""
    out: FloatField = np.roll(warp, tuple(generator.integers(0, 16, 3)), (0, 1, 2))
    return out


def blob(shape: Index, warp: FloatField, generator: np.random.Generator) -> Mask:
    """An ellipsoid with a wavy surface."""
    centre = generator.uniform(-0.7, 0.7, 3)
    radii = generator.uniform(0.12, 0.6) * generator.uniform(0.5, 1.0, 3)
    waves = np.float32(generator.uniform(0, 0.35))
    return ellipsoid(shape, centre, radii) + waves * rolled(warp, generator) < 1


def tube(shape: Index, generator: np.random.Generator) -> Mask:
    """A winding tube (a vessel, a cord, a jaw)."""
    knots = generator.uniform(-0.9, 0.9, (4, 3))
    path = np.stack([np.interp(np.linspace(0, 3, TUBE_POINTS), range(4), k) for k in knots.T], 1)
    path = ndimage.gaussian_filter1d(path, 12, axis=0, mode="nearest")
    at = ((path + 1) / 2 * (np.array(shape) - 1)).round().astype(int)
    seeds = np.ones(shape, bool)
    seeds[tuple(at.clip(0, np.array(shape) - 1).T)] = False
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(seeds)
    return distance < generator.uniform(1.5, 6.0)


def shell(inner: Mask, generator: np.random.Generator) -> Mask:
    """A wall of even thickness around a structure."""
    grown: Mask = ndimage.binary_dilation(inner, iterations=int(generator.integers(2, 6)))
    return grown & ~inner


def half_space(shape: Index, height: float, generator: np.random.Generator) -> Mask:
    """All voxels on one side of a plane of random direction, `height` from the centre."""
    direction = generator.standard_normal(3)
    direction *= generator.permutation([1.0, 0.25, 0.25])  # mostly across one axis
    direction /= np.linalg.norm(direction)
    z, y, x = (d * np.linspace(-1, 1, n) for d, n in zip(direction, shape, strict=True))
    out: Mask = z[:, None, None] + y[:, None] + x < height
    return out
