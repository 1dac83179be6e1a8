"""Structures that an image itself suggests: regions that hardly change while a grey level does.

Nobody labelled them, so they are no anatomy; but their borders are real borders in real noise, and
there are thousands in every scan: ventricles, bones, airways, vessels, fat, lesions, and much that
has no name. Around each lies what looks like it and is not meant.

Source: Matas et al. 2002, doi 10.5244/C.16.36 (stability while a level moves), in 3-D; Isensee et
al. 2025, arXiv 2503.08373, section 3.4 (pseudo-labels that widen what an interactive model knows).
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.data.dataset import Voxels

Mask = NDArray[np.bool_]
FloatField = NDArray[np.float32]
Spacing = tuple[float, float, float]

MOST_CELLS = 64  # of a view along each axis
NARROWEST_VOX = 24  # of a view across, in the finest voxels
LEVELS = 9  # tried from a seed on
LEAST, MOST = 60, 0.2  # cells of a region, and share of the view
UNSTABLE = 0.8  # a region that changes by this share of itself from level to level is none
KINDS = (0.35, 0.35, 0.3)  # weights of bright, dark and in between
EVERYWHERE = 0.2  # share of regions that are all there is of their look
SEVERAL, MOST_REGIONS = 0.3, 5  # share of structures of several regions, and of how many
SEEDS = 12  # tried for each region
CUT, CUT_SHARE = 0.2, 0.2  # cells on a view's faces over size^(2/3); share of regions allowed more
SMOOTHED, FILLED, ROUNDED = (0.3, 1.5), 0.5, 0.5  # deviation of the blur in cells; shares
STRUCTURE = ndimage.generate_binary_structure(3, 1)


class View(NamedTuple):
    """A part of an image, in cells of one or more voxels.

    Attributes:
        image: (d, h, w) uint8.
        spacing_mm: cell size along (D, H, W).
    """

    image: NDArray[np.uint8]
    spacing_mm: Spacing


def draw_view(image: Voxels, spacing_mm: Spacing, generator: np.random.Generator) -> View:
    """Look at a random part of an image, near or from afar.

    Args:
        image: (D, H, W) uint8; only the part is read.
        spacing_mm: voxel size along (D, H, W).
        generator: source of every choice.
    """
    finest = min(spacing_mm)
    widest = max(n * mm for n, mm in zip(image.shape, spacing_mm, strict=True))
    narrowest = min(NARROWEST_VOX * finest, widest)
    side_mm = float(np.exp(generator.uniform(np.log(narrowest), np.log(widest))))
    part, steps = [], []
    for n, mm in zip(image.shape, spacing_mm, strict=True):
        side = min(n, max(8, round(side_mm / mm)))
        first = int(generator.integers(n - side + 1))
        part.append(slice(first, first + side))
        steps.append(-(-side // MOST_CELLS))
    z, y, x = part
    seen = image[z, y, x]
    if max(steps) > 1:
        mean = ndimage.uniform_filter(seen.astype(np.float32), steps)
        a, b, c = (slice(step // 2, None, step) for step in steps)
        seen = np.rint(mean[a, b, c]).astype(np.uint8)
    cell_mm = [mm * step for mm, step in zip(spacing_mm, steps, strict=True)]
    return View(np.ascontiguousarray(seen), (cell_mm[0], cell_mm[1], cell_mm[2]))


def draw_structure(image: NDArray[np.uint8], generator: np.random.Generator) -> Mask | None:
    """A region that an image suggests, or several as one: not all of it looks alike then.

    Args:
        image: (d, h, w) uint8.
        generator: source of every choice.

    Returns:
        (d, h, w) bool, `LEAST` cells or more; None where no seed lies in a stable region.
    """
    smooth: FloatField = ndimage.gaussian_filter(
        image.astype(np.float32), generator.uniform(*SMOOTHED)
    )
    several = generator.random() < SEVERAL
    wanted = int(generator.integers(2, MOST_REGIONS + 1)) if several else 1
    tried = (_stable_region(smooth, generator) for _ in range(SEEDS * wanted))
    found = list(islice((region for region in tried if region is not None), wanted))
    return np.logical_or.reduce(found) if found else None


def _stable_region(smooth: FloatField, generator: np.random.Generator) -> Mask | None:
    """The region around a random seed, at the level at which it changes least, if there is one."""
    seed = tuple(int(generator.integers(n)) for n in smooth.shape)
    apart = _apart(smooth, float(smooth[seed]), generator)
    levels = np.linspace(0.05, 0.8, LEVELS) * max(float(np.quantile(apart, 0.9)), 1.0)
    regions: list[Mask] = []
    most = MOST * smooth.size
    for level in levels:
        regions.append(_around(apart <= level, seed))
        if regions[-1].sum() > most:  # and so is every later one
            break
    sizes = np.array([int(region.sum()) for region in regions])
    change = (sizes[2:] - sizes[:-2]) / sizes[1:-1]
    fits = (sizes[1:-1] >= LEAST) & (sizes[1:-1] <= most) & (change < UNSTABLE)
    if not fits.any():
        return None
    best = 1 + int(np.where(fits, change, np.inf).argmin())
    found = regions[best]
    if generator.random() < EVERYWHERE:
        alike = apart <= levels[best]
        found = alike if alike.sum() <= most else found
    found = _finished(found, generator)
    size = int(found.sum())
    cut = _on_faces(found) > CUT * size ** (2 / 3) and generator.random() > CUT_SHARE
    return None if cut or size < LEAST else found


def _apart(smooth: FloatField, level: float, generator: np.random.Generator) -> FloatField:
    """How far each cell is from being like a seed: as bright, as dark, or of the same grey."""
    darker: FloatField = np.float32(level) - smooth
    kind = int(generator.choice(3, p=KINDS))
    out: FloatField = (darker.clip(min=0), (-darker).clip(min=0), np.abs(darker))[kind]
    return out


def _around(alike: Mask, seed: tuple[int, ...]) -> Mask:
    """The part of a mask that is joined to a cell of it."""
    parts = cc3d.connected_components(alike, connectivity=6)
    out: Mask = parts == parts[seed]
    return out


def _on_faces(region: Mask) -> int:
    """Cells of a region at which its view ends."""
    inner: int = region[1:-1, 1:-1, 1:-1].sum()
    return int(region.sum()) - int(inner)


def _finished(region: Mask, generator: np.random.Generator) -> Mask:
    """The same without holes, and without threads and specks, now and then."""
    if generator.random() < FILLED:
        region = ndimage.binary_fill_holes(region)
    if generator.random() < ROUNDED:
        region = ndimage.binary_opening(region, STRUCTURE)
    return region
