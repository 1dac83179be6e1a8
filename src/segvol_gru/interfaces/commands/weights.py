"""`info` and `weights import`: what SegVol is, and its released checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from segvol_gru.interfaces import console

SHOWN = 16  # characters of a digest, enough to tell files apart


def info() -> None:
    """Print the size of SegVol, the large base network: parameters, multiply-adds, tensors."""
    from segvol_gru.base.segvol import describe

    said = describe()
    drawn = console.table("SegVol", ["part", "parameters"], numbers=["parameters"])
    for part, count in said.parameters.items():
        drawn.add_row(part, f"{count:,}")
    drawn.add_section()
    drawn.add_row("without the text tower", f"{said.without_text:,}")
    drawn.add_row("with it", f"{said.with_text:,}")
    drawn.add_row("with the paper authors' five GRU blocks too", f"{said.with_authors_gru:,}")
    console.out.print(drawn)
    drawn = console.table("Arithmetic", ["step", "multiply-adds"], numbers=["multiply-adds"])
    for step, count in said.multiply_adds.items():
        drawn.add_row(f"{step} one view", f"{count:,}")
    drawn.add_section()
    total = sum(said.multiply_adds.values())
    drawn.add_row("together", f"{total:,} = {total / 1e9:.2f} G")
    console.out.print(drawn)
    drawn = console.table(
        "Tensors of a checkpoint", ["which", "number", "SHA-256 of names and shapes"], ["number"]
    )
    for which, (count, digest) in said.keys.items():
        drawn.add_row(which, str(count), digest[:SHOWN])
    console.out.print(drawn)


def import_weights(
    checkpoint: Annotated[
        Path, typer.Argument(help="A released SegVol checkpoint: .pth, .bin or safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
) -> None:
    """Convert a released SegVol checkpoint to a file for --base segvol."""
    from segvol_gru.base.weights import import_checkpoint

    found = import_checkpoint(checkpoint, out)
    console.out.print(
        f"{checkpoint.name}: {found.form}, {found.parameters:,} parameters, "
        f"{'with' if found.text else 'without'} the text tower",
        highlight=False,
    )
    if found.dropped:
        console.out.print(f"left out, never run here: {len(found.dropped)} tensors")
    console.out.print(f"SHA-256 of the source: {found.sha256}", soft_wrap=True, highlight=False)
    console.out.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
