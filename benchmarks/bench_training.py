"""How fast the compact model trains, and whether the loader keeps up.

    python benchmarks/bench_training.py [--cells 48] [--steps 12] [--threads 2] [--workers 1]

A step is what `segvol-gru train field` does at its longest usual: base from a box, three rounds
of clicks on the errors, every round supervised, base and corrector trained, AdamW, average. The
cases are synthetic volumes of 160 voxels a side in memory; every eighth example is a phantom
drawn afresh, which is what costs most. Bars: 2 regions/s at 64 cells, waiting below 5 %. Drawing
examples is timed from memory and from a shard.
"""

from __future__ import annotations

import argparse
import atexit
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from segvol_gru.base.compact import CompactBase
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.data.dataset import Case, LoadedCase, with_tasks
from segvol_gru.data.phantoms import draw_phantom, phantom_image
from segvol_gru.data.shards import StoredCase, open_shards
from segvol_gru.data.shards_pack import pack
from segvol_gru.memory import keep_memory
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.training.config import LoopConfig
from segvol_gru.training.draw import ExampleConfig
from segvol_gru.training.examples import Examples
from segvol_gru.training.loop import fit
from segvol_gru.training.ranks import make_fabric
from segvol_gru.training.recipe import read_recipe
from segvol_gru.training.rounds import Rounds, RoundsConfig
from segvol_gru.training.watch import Row

SIDE, CASES, WARM = 160, 6, 3
BATCH, ROUNDS = 4, 3
BAR_REGIONS, BAR_WAIT = 2.0, 0.05


class Times:
    """Seconds of every step, and those spent waiting for examples."""

    def __init__(self) -> None:
        self.totals: list[tuple[float, float]] = [(0.0, 0.0)]

    def begin(self, first: int, steps: int) -> None:
        """Nothing to prepare."""

    def row(self, row: Row) -> None:
        """Rows hold means since the start."""
        self.totals.append((row.seconds * (row.step + 1), row.wait * (row.step + 1)))

    def validated(self, step: int, score: float, best: bool) -> None:
        """There is no validation."""

    def close(self) -> None:
        """Nothing to close."""

    def after(self, warm: int) -> tuple[list[float], list[float]]:
        """Seconds and waiting of each step after the first ones."""
        table = np.diff(np.array(self.totals), axis=0)[warm:]
        return table[:, 0].tolist(), table[:, 1].tolist()


def make_cases() -> list[LoadedCase]:
    cases = []
    for number in range(CASES):
        generator = np.random.default_rng(number)
        labels = draw_phantom((SIDE,) * 3, generator).labels
        case = Case(Path(f"{number}.npz"), "MR", "phantoms", str(number), "train", "open", False)
        cases.append(with_tasks(case, phantom_image(labels, generator), labels, (1.0, 1.0, 1.0)))
    return cases


def packed(cases: list[LoadedCase]) -> list[StoredCase]:
    """The same cases in a shard, which is deleted when this process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    rows = []
    for loaded in cases:
        path = Path(folder.name) / loaded.case.file.name
        np.savez(path, imgs=loaded.image, gts=loaded.labels, spacing=np.ones(3, np.float32))
        rows.append(replace(loaded.case, file=path))
    pack(rows, Path(folder.name) / "shards", 10**10)
    return open_shards(Path(folder.name) / "shards")


def multiply_adds(part: CompactBase | FieldCorrector, cells: int) -> int:
    """Of one call on one region: the convolutions, which are all but a hundredth of the work."""
    image = torch.zeros(1, 1, cells, cells, cells)
    prompts = CellPrompts(
        torch.zeros(1, 1, 3),
        torch.ones(1, 1, dtype=torch.int64),
        torch.full((1, 6), torch.nan),
        torch.zeros(1),
        torch.ones(1, 3),
    )
    with FlopCounterMode(display=False) as counter:  # with gradients: oneDNN's own go uncounted
        if isinstance(part, FieldCorrector):
            part.correct(image, image, part.initial_memory(1), prompts)
        else:
            part(image, image, prompts)
    return int(counter.get_total_flops()) // 2


def example_ms(data: Examples, count: int = 24) -> float:
    """Mean time of drawing one example, in this process."""
    before = time.perf_counter()
    for index in range(count):
        data[index]
    return 1000 * (time.perf_counter() - before) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_memory()
    recipe = read_recipe("field")
    base = CompactBase(replace(recipe.base, cells=asked.cells))
    field = FieldCorrector(replace(recipe.field, cells=asked.cells))
    weights = tuple(float(i == ROUNDS) for i in range(ROUNDS + 1))
    rounds = RoundsConfig(weights=weights, base_share=1.0)
    model = Rounds(base, field, rounds)
    nn.Module.to(model, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    steps = WARM + asked.steps
    config = LoopConfig(
        steps=steps, batch=BATCH, examples=ExampleConfig(cells=asked.cells), rounds=rounds
    )
    data = Examples(make_cases(), config.examples, config.seed, steps * BATCH)
    drawn = example_ms(data)
    stored = example_ms(Examples(packed(make_cases()), config.examples, config.seed, steps))
    fewest = asked.cells >> max(len(recipe.base.widths), len(recipe.field.widths))
    fabric = make_fabric(asked.device, 1, recipe.precision, fewest)
    times = Times()
    with tempfile.TemporaryDirectory() as out:
        fit(model, data, config, Path(out), fabric, workers=asked.workers, watchers=(times,))
    seconds, waits = times.after(WARM)
    step, wait = statistics.median(seconds), sum(waits) / sum(seconds)
    print(f"{asked.cells}^3 cells, batch {BATCH}, {ROUNDS} rounds")
    for name, part in (("base", base), ("field corrector", field)):
        count = sum(p.numel() for p in part.parameters())
        print(f"{name}: {count:,} parameters, {multiply_adds(part, asked.cells):,} multiply-adds")
    print(f"{asked.threads} threads, {asked.workers} loading processes, {asked.device}")
    print(f"one example drawn: {drawn:.0f} ms from memory, {stored:.0f} ms from a shard")
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"one step: {step:.2f} s (median of {asked.steps}, {spread})")
    print(f"regions per second: {BATCH / step:.2f} (bar {BAR_REGIONS} at 64 cells)")
    print(f"waiting for examples: {100 * wait:.1f} % of the time (bar {100 * BAR_WAIT:.0f} %)")


if __name__ == "__main__":
    main()
