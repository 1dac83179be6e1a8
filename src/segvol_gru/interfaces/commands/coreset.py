"""`coreset`: a stratified part of a training folder, as a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segvol_gru.interfaces import console
from segvol_gru.interfaces.commands.evaluate import Data


def coreset(
    data: Data,
    out: Annotated[Path, typer.Option(help="Manifest (.csv) to write.")],
    share: Annotated[float, typer.Option(help="Of the cases, at most.")] = 0.1,
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "train",
    seed: Annotated[int, typer.Option(help="Of the choice.")] = 2025,
) -> None:
    """Choose some cases of every data set; nothing is read but names."""
    from collections import Counter

    import numpy as np

    from segvol_gru.evaluation.coreset import choose, write_manifest
    from segvol_gru.evaluation.inputs import find_cases

    cases = find_cases(data, split)
    chosen = choose(cases, share, np.random.default_rng(seed))
    write_manifest(out, data, chosen)
    before, after = (Counter((c.modality, c.dataset) for c in part) for part in (cases, chosen))
    drawn = console.table("Coreset", ["modality", "data set", "chosen", "of"], ["chosen", "of"])
    for name in sorted(before):
        drawn.add_row(*name, str(after[name]), str(before[name]))
    drawn.add_section()
    drawn.add_row("all", "", str(len(chosen)), str(len(cases)))
    console.out.print(drawn)
    console.out.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
