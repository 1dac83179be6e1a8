"""Synthetic anatomy: random label maps shown with random contrast, for training and tests.

Domain randomisation: the network sees shapes, contrasts and artefacts no scanner makes, and so
has to rely on the prompt and on local borders rather than on the look of one organ.
Source: Billot et al. 2023, "SynthSeg", arXiv 2107.09559 (the idea; the generator is ours).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.data.phantom_shapes import (
    FloatField,
    blob,
    ellipsoid,
    half_space,
    rolled,
    shell,
    smooth_noise,
    tube,
)
from segvol_gru.prompts import Index

SCENES = (0.3, 0.25, 0.3, 0.15)  # weights of organs, heart, brain, tumour


class Phantom(NamedTuple):
    """A label map.

    Attributes:
        labels: (D, H, W) uint8, 0 = background.
        hard: labels that a mask easily gets wrong: walls, sheets, parts apart.
    """

    labels: NDArray[np.uint8]
    hard: tuple[int, ...]


def draw_phantom(shape: Index, generator: np.random.Generator) -> Phantom:
    """A random label map of 3 to 12 structures."""
    warp = smooth_noise(shape, int(generator.integers(4, 9)), generator)
    scene = (_organs, _heart, _brain, _tumour)[int(generator.choice(4, p=SCENES))]
    return scene(shape, warp, generator)


def _organs(shape: Index, warp: FloatField, generator: np.random.Generator) -> Phantom:
    """Blobs, tubes and walls in any order; a later one covers an earlier one."""
    labels, hard = np.zeros(shape, np.uint8), []
    count = int(generator.integers(3, 11))
    for label in range(1, count + 1):
        kind = generator.random()
        if kind < 0.15:
            labels[tube(shape, generator)] = label
            hard.append(label)
            continue
        body = blob(shape, warp, generator)
        labels[body] = label
        if kind > 0.8:
            labels[shell(body, generator)] = count + 1
    return Phantom(labels, (*hard, count + 1))


def _heart(shape: Index, warp: FloatField, generator: np.random.Generator) -> Phantom:
    """A hollow body, often open at one end, a crescent that leans on it, and neighbours."""
    labels = np.zeros(shape, np.uint8)
    for label in range(4, 4 + int(generator.integers(0, 4))):
        labels[blob(shape, warp, generator)] = label
    centre = generator.uniform(-0.35, 0.35, 3)
    radii = generator.uniform(0.3, 0.75) * generator.uniform(0.65, 1.0, 3)
    radii[generator.integers(3)] *= generator.uniform(1.0, 2.0)
    waves = np.float32(generator.uniform(0, 0.15))
    depth = ellipsoid(shape, centre, radii) + waves * rolled(warp, generator)
    side = generator.standard_normal(3)
    beside = centre + radii * side / np.linalg.norm(side) * generator.uniform(0.6, 1.1)
    crescent = ellipsoid(shape, beside, radii * generator.uniform(0.6, 1.1))
    thickness = generator.uniform(0.15, 0.5) + 0.1 * rolled(warp, generator)
    open_end = np.ones(shape, bool)
    if generator.random() < 0.6:
        open_end = half_space(shape, generator.uniform(0.0, 0.6), generator)
    labels[(crescent + waves * warp < 1) & open_end] = 3
    labels[(depth < 1) & open_end] = 2
    labels[(depth < 1 - thickness) & open_end] = 1
    return Phantom(labels, (2, 2, 3))


def _brain(shape: Index, warp: FloatField, generator: np.random.Generator) -> Phantom:
    """Folded sheets: a core, a band of even depth on it, and a fluid outside and in hollows."""
    centre, radii = generator.uniform(-0.15, 0.15, 3), generator.uniform(0.55, 0.95, 3)
    outside = ellipsoid(shape, centre, radii) + 0.05 * rolled(warp, generator)
    noise = smooth_noise(shape, int(generator.integers(7, 17)), generator)
    folds = np.abs(noise)  # broad furrows; the other kind is narrow
    if generator.random() < 0.6:
        folds = np.exp(-((noise / np.float32(generator.uniform(0.15, 0.4))) ** 2))
    solid = outside + np.float32(generator.uniform(0.15, 0.8)) * folds < 1
    deep = ndimage.distance_transform_edt(solid) > generator.uniform(1.5, 5.0)
    labels = np.zeros(shape, np.uint8)
    labels[outside < 1] = 1
    labels[solid] = 2
    labels[deep] = 3
    hollows = generator.integers(0, 4, 3)
    for label in np.repeat([1, 2, 4], hollows):
        at = centre + radii * generator.uniform(-0.4, 0.4, 3)
        inner = ellipsoid(shape, at, radii * generator.uniform(0.08, 0.3, 3))
        labels[(inner + 0.2 * rolled(warp, generator) < 1) & deep] = label
    if generator.random() < 0.5:  # a stripped skull: nothing outside
        return Phantom(labels, (1, 2, 3, 4))
    scalp = (outside > np.float32(generator.uniform(1.0, 1.1))) & (outside < 1.2)
    labels[scalp] = 5
    return Phantom(labels, (1, 2, 3, 4, 5))


def _tumour(shape: Index, warp: FloatField, generator: np.random.Generator) -> Phantom:
    """Ragged layers inside one another, in a brain or among other structures."""
    if generator.random() < 0.5:
        labels = _brain(shape, warp, generator).labels
    else:
        labels = np.zeros(shape, np.uint8)
        for label in range(1, 1 + int(generator.integers(1, 5))):
            labels[blob(shape, warp, generator)] = label
    first = int(labels.max()) + 1
    count = int(generator.integers(1, 5))
    centre, radii = generator.uniform(-0.4, 0.4, 3), generator.uniform(0.25, 0.8, 3)
    depth = ellipsoid(shape, centre, radii)
    level = 1.0
    for label in range(first, first + count):
        ragged = np.float32(generator.uniform(0.1, 0.5))
        waves = smooth_noise(shape, int(generator.integers(5, 12)), generator)
        labels[depth + ragged * waves < level] = label
        level *= generator.uniform(0.45, 0.8)
    return Phantom(labels, tuple(range(first, first + count)))


def phantom_image(
    labels: NDArray[np.uint8],
    generator: np.random.Generator,
    texture: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Show a label map with random contrast: (D, H, W) uint8.

    Intensities per label, texture, partial volume (blur), bias field, slice thickness, noise.

    Args:
        labels: (D, H, W) uint8.
        generator: source of every choice.
        texture: (D, H, W) in 0..255, a real image to be seen through the phantom.
    """
    shape: Index = labels.shape
    looks = int(labels.max()) + 1
    means = (generator.permutation(looks) + generator.uniform(0, 1, looks)) * 255 / looks
    if generator.random() < 0.3:  # two structures of one look, as blood on both sides of a wall
        means[generator.integers(looks)] = means[generator.integers(looks)]
    rough = generator.uniform(0, 25, looks).astype(np.float32)
    image = means.astype(np.float32)[labels]
    image += rough[labels] * smooth_noise(shape, int(generator.integers(8, 24)), generator)
    image += generator.uniform(0, 30) * smooth_noise(shape, 3, generator)
    if texture is not None:
        image += np.float32(generator.uniform(0.1, 0.7)) * (texture - texture.mean())
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
