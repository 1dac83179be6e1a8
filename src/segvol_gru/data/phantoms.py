"""Synthetic anatomy: random label maps shown with random contrast, for training and tests.

Domain randomisation: the network sees shapes, contrasts and artefacts no scanner makes, and so
has to rely on the prompt and on local borders rather than on the look of one organ.
Source: Billot et al. 2023, "SynthSeg", arXiv 2107.09559 (the idea; the generator is ours).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.prompts import Index


def smooth_noise(shape: Index, knots: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Low-frequency noise of about zero mean and unit deviation, `knots` bumps along each axis."""
    coarse = generator.standard_normal((knots,) * 3).astype(np.float32)
    zoom = [n / knots for n in shape]
    field: NDArray[np.float32] = ndimage.zoom(coarse, zoom, order=1, mode="nearest")
    return field[: shape[0], : shape[1], : shape[2]]


def _grid(shape: Index) -> list[NDArray[np.float32]]:
    return [
        np.linspace(-1, 1, n, dtype=np.float32).reshape([-1 if i == a else 1 for i in range(3)])
        for a, n in enumerate(shape)
    ]


def _blob(
    shape: Index, warp: NDArray[np.float32], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """An ellipsoid with a wavy surface."""
    centre = generator.uniform(-0.7, 0.7, 3)
    radii = generator.uniform(0.12, 0.6) * generator.uniform(0.5, 1.0, 3)
    distance = sum(((g - c) / r) ** 2 for g, c, r in zip(_grid(shape), centre, radii, strict=True))
    bumpy = np.sqrt(distance) + generator.uniform(0, 0.35) * np.roll(
        warp, tuple(generator.integers(0, 16, 3)), (0, 1, 2)
    )
    inside: NDArray[np.bool_] = bumpy < 1
    return inside


def _tube(shape: Index, generator: np.random.Generator) -> NDArray[np.bool_]:
    """A winding tube of varying width (a vessel, a cord)."""
    steps = 120
    knots = generator.uniform(-0.9, 0.9, (4, 3))
    t = np.linspace(0, 3, steps)
    path = np.stack([np.interp(t, range(4), knots[:, a]) for a in range(3)], 1)
    path = ndimage.gaussian_filter1d(path, 12, axis=0, mode="nearest")
    at = ((path + 1) / 2 * (np.array(shape) - 1)).round().astype(int)
    seeds = np.ones(shape, bool)
    seeds[tuple(at.clip(0, np.array(shape) - 1).T)] = False
    radius = generator.uniform(1.5, 6.0)
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(seeds)
    return distance < radius


def _shell(inner: NDArray[np.bool_], generator: np.random.Generator) -> NDArray[np.bool_]:
    """A wall around a structure (a myocardium, a cortex)."""
    grown: NDArray[np.bool_] = ndimage.binary_dilation(
        inner, iterations=int(generator.integers(2, 6))
    )
    return grown & ~inner


def phantom_labels(shape: Index, generator: np.random.Generator) -> NDArray[np.uint8]:
    """A random label map, (D, H, W) uint8, 0 = background, of 3 to 12 structures."""
    labels = np.zeros(shape, np.uint8)
    warp = smooth_noise(shape, int(generator.integers(4, 9)), generator)
    count = int(generator.integers(3, 11))
    for label in range(1, count + 1):
        kind = generator.random()
        if kind < 0.15:
            labels[_tube(shape, generator)] = label
            continue
        blob = _blob(shape, warp, generator)
        labels[blob] = label
        if kind > 0.8:
            labels[_shell(blob, generator)] = count + 1
    return labels


def phantom_image(labels: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Show a label map with random contrast: (D, H, W) uint8.

    Intensities per label, texture, partial volume (blur), bias field, slice thickness, noise.
    """
    shape: Index = labels.shape
    means = generator.uniform(0, 255, int(labels.max()) + 1).astype(np.float32)
    rough = generator.uniform(0, 25, len(means)).astype(np.float32)
    image = means[labels]
    image += rough[labels] * smooth_noise(shape, int(generator.integers(8, 24)), generator)
    image += generator.uniform(0, 30) * smooth_noise(shape, 3, generator)
    image = ndimage.gaussian_filter(image, generator.uniform(0.3, 1.6))
    if generator.random() < 0.4:
        axis, thick = int(generator.integers(0, 3)), int(generator.integers(2, 5))
        image = np.repeat(image.take(range(0, shape[axis], thick), axis), thick, axis)
        image = image[: shape[0], : shape[1], : shape[2]]
    noise = generator.standard_normal(shape, dtype=np.float32)
    if generator.random() < 0.2:
        image *= 1 + generator.uniform(0, 0.3) * noise  # speckle
    else:
        image += generator.uniform(0, 20) * noise
    out: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return out
