"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelName = Annotated[str, typer.Option("--model", help="default, or a model folder.")]
CorrectorName = Annotated[
    str, typer.Option("--corrector", help="What clicks go to: field, paper or reprompt.")
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
DataFolder = Annotated[Path, typer.Argument(help="Folder with manifest.csv and cases/*.npz.")]
