"""Three classical algorithms that grow a mask from seeds, on one window."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.errors import InputError
from segvol_gru.simulate import BoolArray

sitk: Any = SimpleITK  # its functions carry no types
FloatArray = NDArray[np.float32]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What an algorithm sees: a window in cells.

    Attributes:
        image: (d, h, w) float32, zero mean and unit deviation.
        spacing_mm: cell size along (D, H, W).
        positive: (d, h, w) bool, cells said to lie in the structure.
        negative: (d, h, w) bool, cells said to lie outside.
    """

    image: FloatArray
    spacing_mm: Spacing
    positive: BoolArray
    negative: BoolArray


def require_walker() -> None:
    """Demand what `random_walk` needs.

    Raises:
        InputError: scikit-image is not installed.
    """
    if find_spec("skimage") is None:
        raise InputError("the random walker needs scikit-image; install segvol-gru[evaluate].")


def random_walk(scene: Scene) -> BoolArray:
    """Each cell goes to the seeds that a random walker from it reaches first.

    Source: Grady 2006, doi:10.1109/TPAMI.2006.233; scikit-image's implementation.

    Raises:
        InputError: scikit-image is not installed.
    """
    require_walker()
    from skimage.segmentation import random_walker

    seeds = np.where(scene.positive, 1, np.where(scene.negative, 2, 0))
    if not (seeds == 0).any() or not (seeds == 2).any():
        return scene.positive
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the tolerance, and on seeds that are cut off
        found = random_walker(
            scene.image, seeds, beta=130, mode="cg_j", tol=1e-2, spacing=scene.spacing_mm
        )
    inside: BoolArray = found == 1
    return inside


def geodesic(scene: Scene) -> BoolArray:
    """Each cell goes to the seeds from which a path crosses least contrast.

    Source: Criminisi et al. 2008, doi:10.1007/978-3-540-88682-2_9; arrival times by fast marching.
    """
    slope = ndimage.gaussian_gradient_magnitude(scene.image, 0.7)
    speed = sitk.GetImageFromArray((1.0 / (0.05 + slope)).astype(np.float32))
    speed.SetSpacing(scene.spacing_mm[::-1])
    mine, theirs = (_arrival(speed, seeds) for seeds in (scene.positive, scene.negative))
    nearer: BoolArray = mine < theirs
    return nearer


def grow(scene: Scene) -> BoolArray:
    """Cells joined to positive seeds whose intensity is like theirs, holes filled.

    Source: SimpleITK's ConfidenceConnected (mean and deviation of the region, 2.5 deviations).
    """
    image = sitk.GetImageFromArray(scene.image)
    spots, count = ndimage.label(scene.positive)
    seeds = [tuple(int(v) for v in np.argwhere(spots == k + 1)[0][::-1]) for k in range(count)]
    spread = float(scene.image[scene.positive].std())
    if spread < 1e-6:  # one grey value: only that value is like it
        like = sitk.ConnectedThreshold(image, seeds, *[float(scene.image[scene.positive][0])] * 2)
    else:
        like = sitk.ConfidenceConnected(image, seeds, 2, 2.5, 2, 1)
    grown: BoolArray = sitk.GetArrayFromImage(like).astype(np.bool_) & ~scene.negative
    joined, _ = ndimage.label(grown | scene.positive)
    kept = np.isin(joined, np.unique(joined[scene.positive]))
    filled: BoolArray = ndimage.binary_fill_holes(kept)
    return filled


def _arrival(speed: Any, seeds: BoolArray) -> FloatArray:
    rim = seeds & ~ndimage.binary_erosion(seeds, border_value=1)  # a front starts there
    if not rim.any():  # no seeds, or nothing but seeds
        return np.where(seeds, 0, np.inf).astype(np.float32)
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([tuple(int(v) for v in at[::-1]) for at in np.argwhere(rim)])
    march.SetStoppingValue(1e9)
    times: FloatArray = sitk.GetArrayFromImage(march.Execute(speed))
    times[seeds] = 0
    return times
