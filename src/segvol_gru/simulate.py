"""The robot user: clicks and boxes drawn from a ground truth.

One rule serves training and evaluation. All of it works on boolean (D, H, W) arrays; masks of
several labels are handled one label at a time.

Source: rules of "CVPR 2025: Foundation Models for Interactive 3D Biomedical Image
Segmentation", https://github.com/JunMa11/CVPR-MedSegFMCompetition at 748e862, re-implemented.
"""

from __future__ import annotations

from typing import Any, Literal

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Index

BoolArray = NDArray[np.bool_]
Slices = tuple[slice, slice, slice]

POOL_ABOVE_VOXELS = 60_000_000  # padded crops beyond this are pooled 2 x 2 x 2
MAX_SHIFT = 5  # a competition box is enlarged by 0..5 pixels of a 256-pixel image
EDT_EXACT_SIDE = 1024  # float32 parabolas meet at exactly rounded places up to this side

# The official random state is re-seeded with 42 before every pick, so all that matters is the
# head of one stream. Among the first 64 outputs every bit is 0 at least once, which ends the
# search of `_pick` for any number of candidates.
_STREAM: tuple[int, ...] = tuple(
    int(v) for v in np.random.RandomState(42).randint(0, 2**32, size=64, dtype=np.uint32)
)


def next_click(gt: BoolArray, pred: BoolArray) -> tuple[Index, bool] | None:
    """The click the competition's robot would give.

    It lies deepest inside the largest 26-connected component of the error, measured in voxels;
    false positives and false negatives may share a component. Ties of size go to the component
    whose first voxel comes first in memory order, ties of depth to a fixed pseudo-random
    candidate.

    Args:
        gt: (D, H, W) bool, the wanted mask.
        pred: (D, H, W) bool, the present mask.

    Returns:
        (z, y, x) voxel index and True where the click is foreground; None if nothing is wrong.

    Raises:
        InputError: the arrays are not boolean, not 3-D or differ in shape.

    Source: challenge-protocol section 4.
    """
    found = _largest_error(gt, pred)
    if found is None:
        return None
    component, origin = found
    deepest = np.flatnonzero(_deepest(component))
    flat = int(deepest[_pick(len(deepest))])
    return _place(flat, component, origin, gt)


def random_error_click(
    gt: BoolArray, pred: BoolArray, generator: np.random.Generator
) -> tuple[Index, bool] | None:
    """A click on any voxel of the largest error component, all equally likely.

    Args:
        gt: (D, H, W) bool, the wanted mask.
        pred: (D, H, W) bool, the present mask.
        generator: source of chance.

    Returns:
        As `next_click`.

    Raises:
        InputError: the arrays are not boolean, not 3-D or differ in shape.
    """
    found = _largest_error(gt, pred)
    if found is None:
        return None
    component, origin = found
    voxels = np.flatnonzero(component)
    return _place(int(voxels[generator.integers(len(voxels))]), component, origin, gt)


def tight_box(gt: BoolArray) -> Box:
    """The smallest box that holds the mask.

    Args:
        gt: (D, H, W) bool.

    Raises:
        InputError: the mask is not a boolean 3-D array or is empty.
    """
    _check_mask(gt, "gt")
    bounds = bounds_of(gt)
    if bounds is None:
        raise InputError("gt is empty, wanted at least one voxel; skip labels that are absent.")
    z, y, x = bounds
    return Box((z.start, y.start, x.start), (z.stop - 1, y.stop - 1, x.stop - 1))


def challenge_box(gt: BoolArray, generator: np.random.Generator) -> Box:
    """A competition box: exact z range, rectangle of the middle slice only.

    The rectangle is enlarged on all four sides by one random number of 0..5 pixels of a
    256-pixel image and clipped; it may miss most of an object that moves from slice to slice.

    Args:
        gt: (D, H, W) bool.
        generator: source of chance.

    Raises:
        InputError: the mask is not a boolean 3-D array or is empty.

    Source: challenge-protocol section 3.1.
    """
    box = tight_box(gt)
    height, width = gt.shape[1:]
    slices = np.flatnonzero(gt[box.lo[0] : box.hi[0] + 1].any(axis=(1, 2))) + box.lo[0]
    middle = gt[slices[len(slices) // 2]]
    rows, columns = np.flatnonzero(middle.any(axis=1)), np.flatnonzero(middle.any(axis=0))
    shift = int(generator.integers(MAX_SHIFT + 1))
    dy, dx = int(shift * height / 256), int(shift * width / 256)
    lo = (box.lo[0], max(0, int(rows[0]) - dy), max(0, int(columns[0]) - dx))
    hi = (
        box.hi[0],
        min(height - 1, int(rows[-1]) + dy),
        min(width - 1, int(columns[-1]) + dx),
    )
    return Box(lo, hi, tight=(True, False, False))


def jittered_box(box: Box, shape: Index, fraction: float, generator: np.random.Generator) -> Box:
    """Move each of the six faces by up to `fraction` of the box's side, as a hasty user would.

    Args:
        box: the box to disturb.
        shape: (D, H, W) of the volume; the result is clipped to it.
        fraction: largest move of a face as a share of the side along that axis, 0 or more.
        generator: source of chance.

    Returns:
        A box of at least one voxel with the same `tight` flags.

    Raises:
        InputError: `fraction` is negative.
    """
    if not fraction >= 0:
        raise InputError(f"fraction is {fraction}, wanted 0 or more; 0.1 moves faces by 10 %.")
    lo, hi = [], []
    for a, b, side, n in zip(box.lo, box.hi, box.size, shape, strict=True):
        moves = generator.uniform(-fraction, fraction, size=2) * side
        start = min(max(round(a + moves[0]), 0), n - 1)
        end = min(max(round(b + moves[1]), 0), n - 1)
        lo.append(min(start, end))
        hi.append(max(start, end))
    return Box((lo[0], lo[1], lo[2]), (hi[0], hi[1], hi[2]), box.tight)


def bounds_of(mask: BoolArray) -> Slices | None:
    """Slices of the smallest box around the True voxels of a (D, H, W) mask, None if empty."""
    z = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(z) == 0:
        return None
    depth = slice(int(z[0]), int(z[-1]) + 1)
    plane: BoolArray = np.any(mask[depth], axis=0)
    y, x = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    return depth, slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)


def check_pair(gt: BoolArray, pred: BoolArray) -> None:
    """Demand two boolean (D, H, W) arrays of one shape.

    Raises:
        InputError: the arrays are not boolean, not 3-D or differ in shape.
    """
    _check_mask(gt, "gt")
    _check_mask(pred, "pred")
    if gt.shape != pred.shape:
        raise InputError(
            f"pred has shape {pred.shape}, wanted the shape of gt {gt.shape}; "
            "bring both to the same grid."
        )


def _check_mask(mask: BoolArray, name: str) -> None:
    if mask.dtype != np.bool_ or mask.ndim != 3:
        raise InputError(
            f"{name} is {mask.dtype} of shape {mask.shape}, wanted a boolean (D, H, W) array; "
            "compare a label map with one label first."
        )


def _largest_error(gt: BoolArray, pred: BoolArray) -> tuple[BoolArray, Index] | None:
    """Largest error component cut to its bounding box, and the index of the box's first voxel."""
    check_pair(gt, pred)
    error = gt ^ pred
    bounds = bounds_of(error)
    if bounds is None:
        return None
    # A rim of background: cc3d refuses some arrays that are one voxel thick.
    labels: NDArray[Any] = cc3d.connected_components(np.pad(error[bounds], 1), connectivity=26)
    statistics = cc3d.statistics(labels)
    counts = statistics["voxel_counts"][1:]
    largest = np.flatnonzero(counts == counts.max()) + 1
    # Both arrays in Fortran order make an error array, and thus a scan, in Fortran order.
    scan: Literal["C", "F"] = "F" if np.isfortran(gt) and np.isfortran(pred) else "C"
    chosen = int(largest[0]) if len(largest) == 1 else _first_seen(labels, largest, scan)
    box: Slices = statistics["bounding_boxes"][chosen]
    origin: Index = tuple(b.start + c.start - 1 for b, c in zip(bounds, box, strict=True))
    return labels[box] == chosen, origin


def _first_seen(labels: NDArray[Any], candidates: NDArray[np.intp], scan: Literal["C", "F"]) -> int:
    """The candidate whose first voxel comes first when the array is scanned in that order."""
    is_candidate = np.zeros(int(labels.max()) + 1, dtype=bool)
    is_candidate[candidates] = True
    flat = labels.ravel(order=scan)
    return int(flat[np.argmax(is_candidate[flat])])


def _deepest(component: BoolArray) -> BoolArray:
    """Voxels of the component farthest from its outside; beyond the crop counts as outside."""
    pads = [max(1, int(0.25 * n)) for n in component.shape]
    padded = [n + 2 * p for n, p in zip(component.shape, pads, strict=True)]
    if np.prod(padded, dtype=np.int64) > POOL_ABOVE_VOXELS:
        depth = _pooled_depth(component, pads, padded)
    else:
        depth = _squared_depth(np.pad(component, 1))[1:-1, 1:-1, 1:-1]
    depth = np.where(component, depth, 0)
    deepest: BoolArray = depth == depth.max()
    return deepest


def _squared_depth(mask: BoolArray) -> NDArray[Any]:
    """Squared distance in voxels to the nearest False inside the array; exact integers."""
    if max(mask.shape) > EDT_EXACT_SIDE:
        squared: NDArray[Any] = np.rint(ndimage.distance_transform_edt(mask) ** 2)
        return squared
    # Bytes, not bools: the library is three times slower on bools.
    squared = edt.edtsq(np.ascontiguousarray(mask).view(np.uint8))
    return squared


def _pooled_depth(component: BoolArray, pads: list[int], padded: list[int]) -> NDArray[Any]:
    """Depth on cells of 2 x 2 x 2 voxels of the padded crop, repeated to voxels.

    The grid of cells starts at the padded crop's first voxel, so the padding's parity decides
    which voxels share a cell. Only cells around the component are built: one more on each side
    where the padded crop has one, none where it ends (there, no background is seen).
    """
    before = [p - 2 * max(0, p // 2 - 1) for p in pads]
    ends = [
        2 * min((p + n - 1) // 2 + 2, (full + 1) // 2)
        for p, n, full in zip(pads, component.shape, padded, strict=True)
    ]
    after = [end - (p + n) for end, p, n in zip(ends, pads, component.shape, strict=True)]
    cells = np.pad(component, tuple(zip(before, after, strict=True)))
    for axis in range(3):
        even, odd = [slice(None)] * 3, [slice(None)] * 3
        even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
        cells = cells[tuple(even)] | cells[tuple(odd)]
    depth = _squared_depth(cells)
    for axis in range(3):
        depth = np.repeat(depth, 2, axis=axis)
    z, y, x = (slice(b, b + n) for b, n in zip(before, component.shape, strict=True))
    return depth[z, y, x]


def _pick(count: int) -> int:
    """Index of the candidate that `RandomState(42).choice(count)` returns."""
    if count == 1:
        return 0
    mask = (1 << (count - 1).bit_length()) - 1
    return next(v & mask for v in _STREAM if v & mask < count)


def _place(flat: int, component: BoolArray, origin: Index, gt: BoolArray) -> tuple[Index, bool]:
    """Turn a flat index of the crop into an index of the volume and look up the label."""
    inside = np.unravel_index(flat, component.shape)
    z, y, x = (int(i) + o for i, o in zip(inside, origin, strict=True))
    return (z, y, x), bool(gt[z, y, x])
