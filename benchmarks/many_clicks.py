"""What clicks beyond the fifth still bring, and whether they spoil what was good.

    python benchmarks/many_clicks.py DATA [--clicks 15] [--corrector field] [--forget]

Of every data set, from tight boxes and ideal clicks: DSC after the box and after every fifth click;
the share of clicks beyond the fifth, needed or not, by which the DSC falls by more than 0.005; and
how far the last DSC lies below the best one that there was. Below, the means over data sets of four
tasks and more.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from segvol_gru.data.dataset import Case, LoadedCase
from segvol_gru.evaluation.inputs import load
from segvol_gru.evaluation.metrics import CLICKS, dice
from segvol_gru.evaluation.summary import HARM, MIN_TASKS
from segvol_gru.evaluation.tasks import Options, Task, plan, thinned
from segvol_gru.evaluation.trial import Segmenter
from segvol_gru.interfaces.factories import ours
from segvol_gru.prompts import Click
from segvol_gru.simulate import next_click


def scores(segmenter: Segmenter, loaded: LoadedCase, task: Task, clicks: int) -> list[float]:
    """DSC after the box and after every click; the last one stays where nothing is wrong."""
    gt = loaded.labels == task.label
    modality = loaded.case.modality
    pred = segmenter.start(loaded.image, loaded.spacing_mm, task.box, None, modality)
    dsc = [dice(gt, pred)]
    for _ in range(clicks):
        wanted = next_click(gt, pred)
        if wanted is not None:
            pred = segmenter.click(Click(*wanted))
        dsc.append(dice(gt, pred))
    return dsc


def told(name: str, sets: list[NDArray[np.float64]]) -> str:
    """A line of the table: the mean over data sets, each (tasks, 1 + clicks) of DSC."""
    steps = [0, *range(CLICKS, sets[0].shape[1], CLICKS)]
    dsc = np.mean([rows.mean(0) for rows in sets], 0)
    late = np.mean([(np.diff(rows[:, CLICKS:]) < -HARM).mean() for rows in sets])
    below = np.mean([(rows.max(1) - rows[:, -1]).mean() for rows in sets])
    cells = " | ".join(f"{dsc[step]:.3f}" for step in steps)
    return f"| {name} | {cells} | {100 * late:.1f} % | {below:.3f} |"


def main() -> None:
    formatter = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clicks", type=int, default=3 * CLICKS, help="more than 5")
    parser.add_argument("--model", default="default", help="or a model folder")
    parser.add_argument("--corrector", default="field", help="or reprompt, paper")
    parser.add_argument("--forget", action="store_true", help="empty the memory at every click")
    parser.add_argument("--most", type=int, default=12, help="tasks of each data set")
    asked = parser.parse_args()
    if asked.clicks <= CLICKS:
        parser.error(f"--clicks is {asked.clicks}, wanted more than {CLICKS}.")
    options = Options(start="tight", most=asked.most)
    segmenter = ours(asked.model, asked.corrector, "cpu", forget=asked.forget)[0]()
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for case, tasks in track(list(thinned(plan(asked.data, options), options.most))):
        assert isinstance(case, Case)
        assert isinstance(tasks, list)
        loaded = load(case)
        found[case.licence_class, case.dataset] += [
            scores(segmenter, loaded, task, asked.clicks) for task in tasks
        ]
    sets = {key: np.array(rows) for key, rows in sorted(found.items()) if rows}
    steps = ["box", *map(str, range(CLICKS, asked.clicks + 1, CLICKS))]
    print(f"| data set | {' | '.join(steps)} | harmful after {CLICKS} | below the best |")
    print("|---" * (len(steps) + 3) + "|")
    for (_, dataset), rows in sets.items():
        print(told(f"{dataset} ({len(rows)})", [rows]))
    for scope in ("open", "research"):
        held = [r for (c, _), r in sets.items() if c == scope and len(r) >= MIN_TASKS]
        if held:
            print(told(f"{scope} ({len(held)} sets)", held))


if __name__ == "__main__":
    main()
