"""`prepare`: from scans on a disk to a training folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segvol_gru.interfaces import console

if TYPE_CHECKING:
    from segvol_gru.data.prepare_report import Report

PLACE = "a folder, or a path with one * for the case's name, such as 'imagesTr/*_0000.nii.gz'"


def prepare(
    images: Annotated[str, typer.Option(help=f"Images: {PLACE}; a folder per DICOM series.")],
    masks: Annotated[str, typer.Option(help="Masks, in the same way; names make the pairs.")],
    out: Annotated[Path, typer.Option(help="Training folder; other data sets in it stay.")],
    dataset: Annotated[str, typer.Option(help="Name of the data set.")],
    modality: Annotated[
        str | None, typer.Option(help="CT, MR, PET, US or Microscopy, where files are silent.")
    ] = None,
    subject: Annotated[
        str, typer.Option(help="Pattern whose group in a case's name names the subject.")
    ] = "(.+)",
    val: Annotated[float, typer.Option(help="Share of the subjects kept for validation.")] = 0.2,
    window: Annotated[
        str, typer.Option(help="auto, soft-tissue, lung, brain, bone, percentile or none.")
    ] = "auto",
    instances: Annotated[
        bool, typer.Option("--instances", help="Labels number objects of one kind.")
    ] = False,
    channel: Annotated[int | None, typer.Option(help="Of multi-channel images, from 0.")] = None,
    licence_class: Annotated[
        str, typer.Option(help="open, research or own; recipes choose by it.")
    ] = "own",
    licence: Annotated[str, typer.Option(help="In words, for model cards.")] = "",
    citation: Annotated[str, typer.Option(help="For model cards.")] = "",
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 2025,
) -> None:
    """Turn NIfTI, NRRD, MHA or DICOM folders into a training folder, and report on them.

    Files that cannot be used are named, and the others go on.
    """
    from segvol_gru.data.prepare import PrepareOptions
    from segvol_gru.data.prepare import prepare as run

    options = PrepareOptions(
        dataset=dataset,
        modality=modality,
        subject=subject,
        val=val,
        window=window,
        instances=instances,
        channel=channel,
        licence_class=licence_class,
        licence=licence,
        citation=citation,
        seed=seed,
    )
    with console.progress() as bar:
        task = bar.add_task("cases")
        report = run(
            images, masks, out, options, lambda n, of: bar.update(task, completed=n, total=of)
        )
    _say(report)


def _say(report: Report) -> None:
    """Faults by name, then how many cases came into which split."""
    for name, why in report.faults.items():
        console.refuse(f"not used: {name}: {why}")
    counts = {s: list(report.splits.values()).count(s) for s in sorted({*report.splits.values()})}
    said = ", ".join(f"{count} {split}" for split, count in counts.items())
    console.out.print(
        f"{len(report.cases)} cases ({said}), {len(report.faults)} not used; see {report.path}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
