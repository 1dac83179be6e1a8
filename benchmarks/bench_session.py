"""How long a user waits: first mask and clicks on a CT of 512 x 512 x 200, and the memory.

    python benchmarks/bench_session.py [--model FOLDER] [--corrector field] [--repeats 5]
    ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/bench_session.py     # without native bfloat16

The public `Session`, with a journal on disk. A prompt's time runs from the call to the mask,
windowing included; opening the session on a volume that is in memory already counts as part of
the first mask. Clicks are the competition's, on the error of the mask; finding them is not timed.
Objects are bright ellipsoids 20, 80 and 250 voxels across (cut to the volume's 200 slices).
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

import segvol_gru as sg
from segvol_gru.evaluation.metrics import dice
from segvol_gru.pipeline import Model
from segvol_gru.simulate import next_click, tight_box

SHAPE = (200, 512, 512)
SPACING_MM = (1.5, 0.8, 0.8)
ACROSS = (20, 80, 250)
CLICKS = 5
FIRST_MASK_BAR_S = 1.0
CLICK_BAR_S = 0.4
MEMORY_BAR_GB = 2.5


def ct_with(across: int) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Soft tissue in air with one object of contrast 120 HU, (D, H, W) int16, and its mask."""
    generator = np.random.default_rng(across)
    coarse = generator.normal(0, 40, [n // 8 for n in SHAPE]).astype(np.float32)
    image = ndimage.zoom(coarse, 8, order=1)[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(np.int16)
    at = [np.arange(n, dtype=np.float32).reshape(-1, *[1] * (2 - a)) for a, n in enumerate(SHAPE)]
    centre = [n / 2 + 3 for n in SHAPE]
    radii = [min(across, 0.9 * n) / 2 for n in SHAPE]
    distance = sum(((a - c) / r) ** 2 for a, c, r in zip(at, centre, radii, strict=True))
    body = ((at[1] - 256) / 240) ** 2 + ((at[2] - 256) / 250) ** 2 < 1
    truth = np.asarray(distance < 1)
    image += np.where(body, np.int16(40), np.int16(-1000))
    image[truth] += 120
    return image, truth


def play(
    volume: sg.Volume, truth: NDArray[np.bool_], model: Model
) -> tuple[float, list[float], float]:
    """Seconds to the first mask, seconds of each click, and the last DSC."""
    box = tight_box(truth)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with sg.Session(volume, model, journal=Path(folder) / "journal") as session:
            mask = session.box(box.lo, box.hi)
            first, clicks = time.perf_counter() - began, []
            for _ in range(CLICKS):
                found = next_click(truth, mask)
                if found is None:
                    break
                at, positive = found
                began = time.perf_counter()
                mask = session.click(at, positive)
                clicks.append(time.perf_counter() - began)
            return first, clicks, dice(truth, mask)


def main() -> None:
    """Print one row per object and the peak of the memory."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="default")
    parser.add_argument("--corrector", default="field")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    model = sg.load_model(asked.model, asked.corrector)
    print(f"{'x'.join(map(str, SHAPE))}, {torch.get_num_threads()} threads")
    print(f"voxels across  first mask s (bar {FIRST_MASK_BAR_S})  click s (bar {CLICK_BAR_S})  DSC")
    for across in ACROSS:
        image, truth = ct_with(across)
        volume = sg.Volume(image, SPACING_MM, modality="CT")
        runs = [play(volume, truth, model) for _ in range(asked.repeats)]
        first = np.median([run[0] for run in runs])
        click = np.median([seconds for run in runs for seconds in run[1]])
        print(f"{across:13} {first:23.2f} {click:19.2f} {runs[-1][2]:9.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GB (bar {MEMORY_BAR_GB} GB)")


if __name__ == "__main__":
    main()
