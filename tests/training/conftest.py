"""Tiny networks and volumes: a run of some steps takes a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.correct.field import FieldConfig, FieldCorrector
from segvol_gru.data.dataset import Case, LoadedCase
from segvol_gru.training.config import LoopConfig
from segvol_gru.training.draw import ExampleConfig
from segvol_gru.training.examples import Examples
from segvol_gru.training.loop import Outcome, Validate, fit
from segvol_gru.training.rounds import Rounds, RoundsConfig
from segvol_gru.training.watch import Watcher

WIDTHS, BLOCKS, CELLS = (4, 4, 4, 4), (1, 1, 1, 1), 16
SEED = 7


def make_rounds(
    corrector: bool = True,
    rounds: tuple[float, ...] = (0, 1, 1),
    widths: tuple[int, ...] = WIDTHS,
) -> Rounds:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        base = CompactBase(CompactConfig(widths, BLOCKS, 1, 4, CELLS))
        field = FieldCorrector(FieldConfig(widths, BLOCKS, 1, 4, 4, CELLS)) if corrector else None
    return Rounds(base, field, RoundsConfig(weights=rounds))


def make_cases(count: int = 2, side: int = 28) -> list[LoadedCase]:
    """Noisy cubes: two structures in each volume."""
    cases = []
    for number in range(count):
        generator = np.random.default_rng(number)
        labels = np.zeros((side, side, side), np.uint8)
        labels[4:14, 5:15, 6:16] = 1
        labels[15:26, 14:24, 4:14] = 2
        image = (100 * labels + generator.integers(0, 50, labels.shape)).astype(np.uint8)
        tasks = {1: ((4, 5, 6), (13, 14, 15), 1000), 2: ((15, 14, 4), (25, 23, 13), 1100)}
        case = Case(Path(f"{number}.npz"), "MR", "cubes", str(number), "train", "open", False)
        cases.append(LoadedCase(case, image, labels, (1.0, 1.0, 1.0), tasks))
    return cases


def make_config(**settings: object) -> LoopConfig:
    examples = ExampleConfig(cells=CELLS, synthetic_share=0.0)
    defaults: dict[str, object] = {"steps": 4, "batch": 2, "warmup": 2, "examples": examples}
    return LoopConfig(**{**defaults, **settings})  # type: ignore[arg-type]


def write_folder(
    folder: Path,
    rows: Sequence[tuple[str, str, str]],
    spacing_mm: tuple[float, float, float] = (1, 1, 1),
) -> Path:
    """A data folder of cubes; `rows`: (name, data set, split)."""
    (folder / "cases").mkdir(parents=True)
    lines = ["file,modality,dataset,subject,split,licence_class,labels"]
    for (name, dataset, split), loaded in zip(rows, make_cases(len(rows)), strict=True):
        path = folder / "cases" / f"{name}.npz"
        spacing = np.array(spacing_mm, np.float32)
        np.savez(path, imgs=loaded.image, gts=loaded.labels, spacing=spacing)
        lines.append(f"cases/{name}.npz,MR,{dataset},{name},{split},open,1 2")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


Train = Callable[..., tuple[Outcome, Rounds]]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train tiny networks in a folder of the test's; returns how it ended, and the networks."""

    def run(
        name: str,
        config: LoopConfig,
        corrector: bool = True,
        validate: Validate | None = None,
        watchers: tuple[Watcher, ...] = (),
        **how: object,
    ) -> tuple[Outcome, Rounds]:
        model = make_rounds(corrector)
        count = config.steps * config.batch * config.accumulate
        data = Examples(make_cases(), config.examples, config.seed, count)
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        settings: dict[str, object] = {"workers": 0, **how}
        outcome = fit(
            model,
            data,
            config,
            tmp_path / name,
            fabric,
            validate=validate,
            watchers=watchers,
            **settings,  # type: ignore[arg-type]
        )
        return outcome, model

    return run
