"""`predict-challenge`: the competition's folders, inputs in, outputs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segvol_gru.data.files import make_folder
from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import CorrectorName, DeviceName, ModelName


def predict_challenge(
    inputs: Annotated[Path, typer.Option(help="Folder of <case>.npz.")] = Path("/workspace/inputs"),
    outputs: Annotated[Path, typer.Option(help="Folder for <case>.npz with `segs`.")] = Path(
        "/workspace/outputs"
    ),
    model: ModelName = "default",
    corrector: CorrectorName = "field",
    device: DeviceName = "auto",
) -> None:
    """Answer one call of the competition: all cases of a folder, all classes of each."""
    from segvol_gru.interfaces.challenge import answer_folder
    from segvol_gru.pretrained import load_model

    if not inputs.is_dir():
        raise InputError(f"there is no folder {inputs}; give the folder of the input files.")
    make_folder(outputs)
    networks = load_model(model, corrector)
    failed = 0
    for done in answer_folder(inputs, outputs, networks, device):
        if done.error is not None:
            failed += 1
            console.refuse(f"{done.name}: {type(done.error).__name__}: {done.error}")
            continue
        said = f"{done.name}: {done.labels} labels, {done.seconds:.1f} s"
        console.out.print(said, markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise typer.Exit(1)
