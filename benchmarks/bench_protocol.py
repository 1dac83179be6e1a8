"""How long clicks and metrics take, without any model.

    python benchmarks/bench_protocol.py [--small]

Scenes as in the published timings of the official script: K ellipsoids on a grid (18-22 % of
the volume), the prediction is shifted and rescaled, so every label has one large error.
One step is the click simulation of all labels plus DSC and NSD of all labels.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segvol_gru.evaluation.metrics import dice, nsd
from segvol_gru.evaluation.official import Turn, run_case
from segvol_gru.prompts import Index
from segvol_gru.simulate import next_click

SMALL, MIDDLE, LARGE = (64, 64, 64), (128, 128, 128), (200, 512, 512)
SHAPES = (SMALL, MIDDLE, LARGE)
UNIT = (1.0, 1.0, 1.0)  # mm
GRIDS = {1: (1, 1, 1), 5: (1, 2, 3), 15: (1, 4, 4)}
OFFICIAL_STEP_S = {
    (SMALL, 1): 0.059,
    (SMALL, 5): 0.073,
    (SMALL, 15): 0.142,
    (MIDDLE, 1): 0.470,
    (MIDDLE, 5): 0.471,
    (MIDDLE, 15): 0.777,
    (LARGE, 1): 15.00,
    (LARGE, 5): 14.63,
    (LARGE, 15): 22.90,
}
OFFICIAL_CASE_S = {1: 85, 5: 122, 15: 176}  # at the large size
STEP_BAR_S = {(LARGE, 1): 1.5, (LARGE, 15): 2.2}
CASE_BAR_S = 17.0
CLICK_BAR_MS = 6  # median, one label, 64 voxels a side


def ellipsoids(
    shape: Index, count: int, shift: float | NDArray[np.float64], scale: float
) -> NDArray[np.uint8]:
    """So many of them in a grid, labelled from 1, moved by a share of a cell and scaled."""
    labels = np.zeros(shape, dtype=np.uint8)
    grid = GRIDS[count]
    size = np.array(shape) / grid
    for k, cell in enumerate(list(np.ndindex(*grid))[:count]):
        centre = (np.array(cell) + 0.5 + shift) * size
        radii = 0.37 * scale * size
        lo = np.maximum(0, np.floor(centre - radii)).astype(int)
        hi = np.minimum(shape, np.ceil(centre + radii) + 1).astype(int)
        window = tuple(slice(a, b) for a, b in zip(lo, hi, strict=True))
        axes = np.ogrid[window]
        parts = (((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True))
        labels[window][sum(parts) <= 1] = k + 1
    return labels


def timed(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of some calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def click_table() -> None:
    """Time single clicks and scores."""
    generator = np.random.default_rng(0)
    gt = ellipsoids(SMALL, 1, 0, 1) > 0
    clicks: list[float] = []
    scores: list[float] = []
    for _ in range(40):
        shift = generator.uniform(-0.12, 0.12, 3)
        pred = ellipsoids(SMALL, 1, shift, generator.uniform(0.7, 1.2)) > 0
        clicks += timed(partial(next_click, gt, pred), 1)
        scores += timed(partial(both_scores, gt, pred), 1)
    print(f"one click, 64 a side: median {1e3 * np.median(clicks):.2f} ms (bar {CLICK_BAR_MS} ms)")
    print(f"DSC and NSD, 64 a side: median {1e3 * np.median(scores):.2f} ms")


def both_scores(gt: NDArray[np.bool_], pred: NDArray[np.bool_]) -> tuple[float, float]:
    """DSC and NSD."""
    return dice(gt, pred), nsd(gt, pred, UNIT)


def case_table(shapes: Sequence[Index]) -> None:
    """Time whole cases."""
    print("volume        K   case s   bar   official |  step s   bar  official   speed-up")
    for shape in shapes:
        for count in GRIDS:
            gts, pred = ellipsoids(shape, count, 0, 1), ellipsoids(shape, count, 0.05, 0.95)
            repeats = 1 if shape == LARGE else 3
            answer = partial(run_case, gts, UNIT, partial(same, pred))
            case = min(timed(answer, repeats))
            step = case / 5  # a case is five clicks and six scores, so this is no less than a step
            old_case, case_bar = (
                (OFFICIAL_CASE_S[count], CASE_BAR_S) if shape == LARGE else ("", "")
            )
            old_step, bar = OFFICIAL_STEP_S[shape, count], STEP_BAR_S.get((shape, count), "")
            size = "x".join(map(str, shape))
            print(
                f"{size:12} {count:2} {case:8.3f} {case_bar:>5} {old_case:>10} |"
                f"{step:8.3f} {bar:>5} {old_step:>9} {old_step / step:9.1f}x"
            )


def same(pred: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """The same answer at every turn."""
    return pred


def main() -> None:
    click_table()
    case_table(SHAPES[:2] if "--small" in sys.argv else SHAPES)


if __name__ == "__main__":
    main()
