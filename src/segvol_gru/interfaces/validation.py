"""Validation while training: the networks as they would be shipped, by the very protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from segvol_gru.data.files import make_folder
from segvol_gru.evaluation.inputs import load
from segvol_gru.evaluation.protocol import run_case
from segvol_gru.evaluation.records import ROWS, Record, append_records
from segvol_gru.evaluation.summary import summarise
from segvol_gru.evaluation.tasks import Options, plan
from segvol_gru.interfaces.measured import SessionSegmenter
from segvol_gru.pretrained import load_model
from segvol_gru.training.cases import GREY
from segvol_gru.training.export import save_rounds
from segvol_gru.training.rounds import Rounds

CANDIDATE = "candidate"
CARD = "# A candidate of a training run, for validation only.\n"


class Validation:
    """What `training.loop.fit` calls: writes weight files, runs box and clicks, scores.

    Args:
        data: folder with `manifest.csv`.
        out: gets a folder per validation, named by the steps made.
        options: which cases, and how they are prompted.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(self, data: Path, out: Path, options: Options, device: str = "auto") -> None:
        self._data, self._out, self._options, self._device = data, out, options, device

    def __call__(self, average: nn.Module, step: int) -> float:
        """Score averaged networks: see `score`."""
        assert isinstance(average, Rounds)
        model = self._out / CANDIDATE
        save_rounds(model, average, lambda _: CARD)
        return score(
            measure(self._data, str(model), self.folder(step), self._options, self._device)
        )

    def folder(self, step: int) -> Path:
        """Where the records and the summary of a validation are."""
        return self._out / f"{step:06d}"


def measure(data: Path, model: str, out: Path, options: Options, device: str) -> dict[str, Any]:
    """Run the protocol in this process alone, whatever ranks there are, and summarise it."""
    make_folder(out)
    segmenter = SessionSegmenter(model, "field", device)
    rows = out / ROWS.format(rank=0)
    rows.unlink(missing_ok=True)
    for case, tasks in plan(data, options):
        found = [tasks] if isinstance(tasks, Record) else run_case(segmenter, case, tasks, options)
        append_records(rows, found)
    return summarise(out)


def experts_used(data: Path, model: str, options: Options) -> list[str]:
    """Whose answers `measure` measures: the expert of every case, empty for the general networks.

    Cases that cannot be read are left out.
    """
    loaded = load_model(model)
    readable = [case for case, tasks in plan(data, options) if not isinstance(tasks, Record)]
    return [loaded.fitting(c.image, c.spacing_mm, GREY).expert for c in map(load, readable)]


def score(summary: Mapping[str, Any]) -> float:
    """Mean over data sets of the DSC after the box and after the last click, each a half.

    These are what `finetune` is run for. 0 where nothing could be segmented.
    """
    means = []
    for row in summary["datasets"].values():
        dsc = np.array(row["dsc"])
        reached = dsc[np.isfinite(dsc)]
        means.append((reached[0] + reached[-1]) / 2)
    return float(np.mean(means)) if means else 0.0
