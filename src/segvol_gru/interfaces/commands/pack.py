"""`pack`: from a training folder to shards, for data sets that are larger than memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import DataFolder

UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4}


def pack(
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="New folder for the shards; train with --data OUT.")],
    size: Annotated[str, typer.Option(help="No shard is larger, such as 500MB or 2GB.")] = "2GB",
    shards: Annotated[
        int | None, typer.Option(help="Only so many, each a fair sample of the whole.", min=1)
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the manifest.")] = "train",
    dataset: Annotated[
        list[str] | None, typer.Option(help="Only this data set; repeat it.")
    ] = None,
    licence_class: Annotated[
        list[str] | None, typer.Option(help="Only this licence class; repeat it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the shuffling.")] = 2025,
) -> None:
    """Write a training folder as shards, each complete in itself, read by parts in training."""
    from segvol_gru.data.dataset import read_manifest
    from segvol_gru.data.shards_pack import pack as run
    from segvol_gru.data.shards_pack import said_in

    max_bytes = _bytes(size)
    cases = [
        case
        for case in read_manifest(data)
        if case.split == split
        and (not dataset or case.dataset in dataset)
        and (not licence_class or case.licence_class in licence_class)
    ]
    with console.progress() as bar:
        task = bar.add_task("cases")
        packed = run(
            cases,
            out,
            max_bytes,
            said=said_in(data),
            most=shards,
            seed=seed,
            watch=lambda n, of: bar.update(task, completed=n, total=of),
        )
    for name, why in packed.faults.items():
        console.refuse(f"left out: {name}: {why}")
    for path, count in packed.shards.items():
        mb = path.stat().st_size / 1000**2
        console.out.print(f"{path}: {count} cases, {mb:.1f} MB", highlight=False, soft_wrap=True)
    if packed.left:
        console.out.print(f"{packed.left} cases had no room in {len(packed.shards)} shards")


def _bytes(text: str) -> int:
    match = re.fullmatch(r"([\d.]+)\s*([KMGT]?)B?", text.strip().upper())
    if match is None or not match[1].replace(".", "", 1).isdigit():
        raise InputError(f"size is {text!r}, wanted a number with a unit, such as 500MB or 2GB.")
    return int(float(match[1]) * UNITS[match[2]])
