"""The reliability curve as a picture: what was said against what was true."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segvol_gru.data.files import whole_file

INCH = 4.5
COLOURS = {"open": "#0064c8", "research": "#c84b00", "all": "#5a5a66"}


def draw_curve(path: Path, means: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw one line per kind of data set.

    Args:
        path: the PNG.
        means: `mean` of `evaluation.doubts.summarise_doubts`; those without data sets are left
            out.
    """
    figure = Figure(figsize=(INCH, INCH), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="probability said", ylabel="share that is true", xlim=(0, 1), ylim=(0, 1)
    )
    axes.plot((0, 1), (0, 1), color="#999999", linestyle=":", label="as true as said")
    for scope, mean in means.items():
        if mean["datasets"]:
            count, said, true = np.array(mean["curve"])
            filled = count > 0
            label = f"{scope} ({mean['datasets']} sets), ECE {mean['ece']:.3f}"
            x, y = said[filled] / count[filled], true[filled] / count[filled]
            axes.plot(x, y, "o-", markersize=3, color=COLOURS[scope], label=label)
    axes.legend(loc="upper left", fontsize="small")
    with whole_file(path) as fresh:
        figure.savefig(fresh, dpi=120)
