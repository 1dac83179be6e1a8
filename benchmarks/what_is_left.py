"""What is still wrong after the box and after five clicks, and what perfect repairs would leave.

    python benchmarks/what_is_left.py DATA [--model default] [--split val] [--most 12]

Of every data set, from tight boxes and ideal clicks, without masks that are perfect: DSC; wrong
voxels over those of the structure; how many of them touch the true border (a neighbour across a
face is on the other side); the share of the largest error, which the next click lies in; its depth
in voxels; and the DSC if the click had repaired that whole error and nothing else.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from segvol_gru.data.dataset import Case
from segvol_gru.evaluation.inputs import load
from segvol_gru.evaluation.metrics import CLICKS, dice
from segvol_gru.evaluation.tasks import Options, plan, thinned
from segvol_gru.evaluation.trial import Segmenter, run_task
from segvol_gru.interfaces.factories import ours
from segvol_gru.prompts import Box, Click

BoolArray = NDArray[np.bool_]
AT = (0, CLICKS)


class Left(NamedTuple):
    """What is wrong with one mask."""

    dsc: float
    wrong: float
    at_border: float
    largest: float
    depth: float
    repaired: float


class Keeping:
    """A segmenter that keeps the masks that it gave."""

    def __init__(self, inner: Segmenter) -> None:
        self.inner = inner
        self.masks: list[BoolArray] = []

    def start(
        self,
        array: NDArray[np.uint8],
        spacing_mm: tuple[float, float, float],
        box: Box | None,
        click: Click | None,
        modality: str,
    ) -> BoolArray:
        """See `Segmenter.start`."""
        self.masks = [self.inner.start(array, spacing_mm, box, click, modality).copy()]
        return self.masks[-1]

    def click(self, click: Click) -> BoolArray:
        """See `Segmenter.click`."""
        self.masks.append(self.inner.click(click).copy())
        return self.masks[-1]


def left(gt: BoolArray, pred: BoolArray) -> Left | None:
    """Measure one mask; None where nothing is wrong."""
    error = gt ^ pred
    count = int(error.sum())
    if not count:
        return None
    parts = cc3d.connected_components(np.pad(error, 1), connectivity=26)[1:-1, 1:-1, 1:-1]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    largest = parts == sizes.argmax()
    sides = np.ascontiguousarray(gt).view(np.uint8) + np.uint8(1)
    touching = edt.edt(sides) < np.sqrt(2)
    return Left(
        dice(gt, pred),
        count / int(gt.sum()),
        int((error & touching).sum()) / count,
        int(largest.sum()) / count,
        float(edt.edt(np.pad(largest, 1).astype(np.uint8)).max()),
        dice(gt, pred ^ largest),
    )


def main() -> None:
    formatter = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="default", help="or a model folder")
    parser.add_argument("--split", default="val")
    parser.add_argument("--most", type=int, default=12, help="tasks of each data set")
    asked = parser.parse_args()
    options = Options(start="tight", split=asked.split, most=asked.most)
    segmenter = Keeping(ours(asked.model, "field", "cpu")[0]())
    found: dict[tuple[str, str, int], list[Left]] = defaultdict(list)
    for case, tasks in thinned(plan(asked.data, options), options.most):
        assert isinstance(case, Case)
        assert isinstance(tasks, list)
        loaded = load(case)
        for task in tasks:
            record = run_task(segmenter, loaded, task, options)
            assert not record.error, record.error
            for step in AT:  # where a click was skipped, nothing was wrong any more
                mask = segmenter.masks[min(step, len(segmenter.masks) - 1)]
                what = left(loaded.labels == task.label, mask)
                if what is not None:
                    found[case.licence_class, case.dataset, step].append(what)
    print("| data set | clicks | DSC | wrong | at the border | largest | depth | repaired |")
    print("|---|---|---|---|---|---|---|---|")
    for (_, dataset, step), rows in sorted(found.items()):
        mean = Left(*np.mean(rows, 0))
        print(
            f"| {dataset} ({len(rows)}) | {step} | {mean.dsc:.3f} | {mean.wrong:.2f} "
            f"| {mean.at_border:.0%} | {mean.largest:.0%} | {mean.depth:.1f} "
            f"| {mean.repaired:.3f} |"
        )


if __name__ == "__main__":
    main()
