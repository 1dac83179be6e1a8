"""`segment`: an image, a box, clicks -> a mask on the image's own grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import CorrectorName, DeviceName, ModelName
from segvol_gru.interfaces.typed import Frame, Point, Typed, typed_prompts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.progress import Progress
    from rich.table import Table

    from segvol_gru.base.zoom import Watch
    from segvol_gru.pipeline import Model
    from segvol_gru.session.session import Session
    from segvol_gru.volume import Volume

WINDOWS = ("auto", "soft-tissue", "lung", "brain", "bone", "percentile", "none")
IMAGE = typer.Argument(help="NIfTI, NRRD, MHA, competition .npz, or a DICOM folder.")
OUT = typer.Option(help="Mask to write, on the image's grid.")
BOX = typer.Option(help="Two corners z0,y0,x0,z1,y1,x1, both inclusive.")
CLICK = typer.Option(help="z,y,x,+ to add here, z,y,x,- to remove; repeat it.")
MM = typer.Option("--mm", help="Points are x,y,z in RAS millimetres, not voxels z,y,x.")
MASK = typer.Option(help="Begin with this mask of another tool.")
LABEL = typer.Option(help="Which label of --mask.")
WINDOW = typer.Option(help=f"Intensities that are seen: {', '.join(WINDOWS)}.")
MODALITY = typer.Option(help="CT, MR, PET, US or Microscopy, where the file is silent.")
CHANNEL = typer.Option(help="Of a multi-channel image, from 0.")
TIME = typer.Option("--time", help="Frame of a time series, from 0.")
BASE = typer.Option(help="What makes the first mask: compact, or segvol with --weights.")
WEIGHTS = typer.Option(help="SegVol's weights, made by `weights import`.")
TEXT = typer.Option(help="Name of the structure, for SegVol; alone or with other prompts.")
SOURCE = typer.Option(help="Text vectors (.safetensors), or CLIP's vocabulary (merges.txt).")
COMPAT = typer.Option("--compat", help="Ask SegVol as its reference implementation does.")
OVERLAY = typer.Option(help="Picture to write (.png).")
PROBABILITY = typer.Option(help="Probability map to write.")
SESSION = typer.Option(help="Session file to write.")
JOURNAL = typer.Option(help="New folder that survives a crash of this command.")

Step = tuple[str, Callable[[], "NDArray[np.bool_]"]]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Files to write; None for those that nobody asked for."""

    mask: Path
    overlay: Path | None
    probability: Path | None
    session: Path | None

    def check(self, inputs: Sequence[Path]) -> None:
        """Demand folders to write to and names that say a format, before anything is computed.

        Args:
            inputs: what is read, and must not be written over.

        Raises:
            InputError: a folder is missing, a name ends otherwise, or is that of an input or of
                another output.
        """
        from segvol_gru.data.io import MAPS, MASKS, ending

        ending(self.mask, MASKS)
        if self.probability is not None:
            ending(self.probability, MAPS)
        if self.overlay is not None:
            from segvol_gru.interfaces.picture import PICTURES

            ending(self.overlay, PICTURES)
        taken = {path.resolve() for path in inputs}
        for item in fields(self):
            path: Path | None = getattr(self, item.name)
            if path is None:
                continue
            if not path.absolute().parent.is_dir():
                raise InputError(f"there is no folder {path.parent} for {path.name}; make it.")
            if path.resolve() in taken:
                raise InputError(f"{path} is an input or another output; give another name.")
            taken.add(path.resolve())


def segment(
    image: Annotated[Path, IMAGE],
    out: Annotated[Path, OUT],
    box: Annotated[str | None, BOX] = None,
    click: Annotated[list[str] | None, CLICK] = None,
    mm: Annotated[bool, MM] = False,
    mask: Annotated[Path | None, MASK] = None,
    label: Annotated[int | None, LABEL] = None,
    window: Annotated[str, WINDOW] = "auto",
    modality: Annotated[str | None, MODALITY] = None,
    channel: Annotated[int | None, CHANNEL] = None,
    frame: Annotated[int | None, TIME] = None,
    model: ModelName = "default",
    base: Annotated[str, BASE] = "compact",
    weights: Annotated[Path | None, WEIGHTS] = None,
    text: Annotated[str | None, TEXT] = None,
    text_source: Annotated[Path | None, SOURCE] = None,
    compat: Annotated[bool, COMPAT] = False,
    corrector: CorrectorName = "field",
    device: DeviceName = "auto",
    overlay: Annotated[Path | None, OVERLAY] = None,
    probability: Annotated[Path | None, PROBABILITY] = None,
    session: Annotated[Path | None, SESSION] = None,
    journal: Annotated[Path | None, JOURNAL] = None,
) -> None:
    """Segment one structure from a box, clicks, a name, or the mask of another tool."""
    outputs = Outputs(out, overlay, probability, session)
    outputs.check([path for path in (image, mask) if path is not None])
    typed = typed_prompts(box, click or [], mm)
    if typed.box is None and not typed.clicks and mask is None and text is None:
        raise InputError("no prompt came; give --box, --click, --text or --mask.")
    _check_mask(typed, mask, label, base)
    if window not in WINDOWS:
        raise InputError(f"window is {window!r}, wanted one of {', '.join(WINDOWS)}.")
    chosen = _model(model, corrector, Large(base, weights, text, text_source, compat))
    from segvol_gru.data.io import read_mask, read_volume
    from segvol_gru.session.session import Session

    volume = read_volume(image, channel=channel, time=frame, modality=modality)
    _check_prompts(typed, volume)
    given = None if mask is None else _one_label(read_mask(mask, volume), label)
    bar = None if weights is None else console.progress()
    with Session(
        volume,
        chosen,
        device=device,
        corrector=corrector,
        window=window,
        journal=journal,
        watch=None if bar is None else _watch(bar),
    ) as live:
        with bar or nullcontext():
            drawn = _play(live, given, typed)
        console.out.print(drawn)
        _write(live, outputs, window)


@dataclass(frozen=True, slots=True)
class Large:
    """The options of the large base, as typed."""

    base: str
    weights: Path | None
    text: str | None
    source: Path | None
    compat: bool


def _model(name: str, corrector: str, large: Large) -> str | Model:
    """The model; the compact one by its name, which a session file can keep."""
    if (large.base == "segvol") != (large.weights is not None):
        raise InputError("--base segvol and --weights FILE belong together; give both.")
    if (large.text is None) != (large.source is None):
        raise InputError("--text NAME and --text-source FILE belong together; give both.")
    if (large.base, large.text, large.compat) == ("compact", None, False):
        return name
    from segvol_gru.pretrained import load_model

    text = None
    if large.text is not None and large.source is not None:
        text = large.text, large.source
    return load_model(
        name, corrector, base=large.base, weights=large.weights, text=text, compat=large.compat
    )


def _watch(bar: Progress) -> Watch:
    """SegVol takes seconds per view: its progress on a bar."""
    from segvol_gru.base.zoom import Watch

    task = bar.add_task("SegVol")
    return Watch(lambda done, total: bar.update(task, completed=done, total=total))


def _check_mask(typed: Typed, mask: Path | None, label: int | None, base: str) -> None:
    """Refuse options that make no sense beside a mask, or without one."""
    if mask is not None and typed.box is not None:
        raise InputError("--box and --mask both begin a structure; give one of them.")
    if label is not None and mask is None:
        raise InputError("--label names a label of --mask; give the mask too.")
    if mask is not None and base == "segvol":
        raise InputError("--mask begins the structure, so SegVol has nothing to do; leave it out.")


def _check_prompts(typed: Typed, volume: Volume) -> None:
    """Refuse prompts outside the image before the first of them is carried out."""
    from segvol_gru.session.asked import asked_box, asked_click

    if typed.box is not None:
        asked_box(volume, *typed.box, typed.frame, lift=True)
    for _, at, positive in typed.clicks:
        asked_click(volume, at, positive, typed.frame)


def _one_label(labels: NDArray[np.integer], wanted: int | None) -> NDArray[np.bool_]:
    """The mask of one label; of a mask with a single label no choice is needed."""
    import numpy as np

    present = [int(v) for v in np.unique(labels) if v]
    if wanted is None and len(present) > 1:
        raise InputError(f"the mask has the labels {present}; say which with --label.")
    if wanted is not None and wanted not in present:
        raise InputError(f"label is {wanted}, but the mask has {present}.")
    mask: NDArray[np.bool_] = labels != 0 if wanted is None else labels == wanted
    return mask


def _play(live: Session, given: NDArray[np.bool_] | None, typed: Typed) -> Table:
    """Say everything to the session; a row for each prompt and what came of it."""
    steps: list[Step] = []
    if given is not None:
        steps.append(("first mask", lambda: live.start(given)))
    if typed.box is not None:
        lo, hi = typed.box
        steps.append(("box", lambda: live.box(lo, hi, frame=typed.frame)))
    for text, at, positive in typed.clicks:
        steps.append((f"click {text}", _clicking(live, at, positive, typed.frame)))
    drawn = console.table("Steps", ["prompt", "voxels", "ml", "s"], numbers=["voxels", "ml", "s"])
    for name, say in steps or [("text", live.find)]:
        began = time.perf_counter()
        voxels = int(say().sum())
        drawn.add_row(name, *_size(live.volume, voxels), f"{time.perf_counter() - began:.2f}")
    return drawn


def _clicking(
    live: Session, at: Point, positive: bool, frame: Frame
) -> Callable[[], NDArray[np.bool_]]:
    return lambda: live.click(at, positive, frame=frame)


def _size(volume: Volume, voxels: int) -> tuple[str, str]:
    d, h, w = volume.spacing_mm
    return f"{voxels:,}", f"{voxels * d * h * w / 1000:.2f}"


def _write(live: Session, outputs: Outputs, window: str) -> None:
    """Write what was asked for."""
    from segvol_gru.data.io import write_mask, write_probability
    from segvol_gru.data.preprocess import window_for
    from segvol_gru.prompts import Box, Click

    mask, volume = live.mask, live.volume
    write_mask(outputs.mask, mask, volume)
    if outputs.session is not None:
        live.save(outputs.session)
    if outputs.probability is not None:
        write_probability(outputs.probability, live.probability, volume)
    if outputs.overlay is not None:
        from segvol_gru.interfaces.picture import Panel, draw

        box = next((p for p in reversed(live.history) if isinstance(p, Box)), None)
        clicks = tuple(p for p in live.history if isinstance(p, Click))
        seen = window_for(volume, window, box)
        draw(outputs.overlay, volume, seen, [Panel("mask", mask, clicks)], box=box)
    for item in fields(outputs):
        path = getattr(outputs, item.name)
        if path is not None:
            console.out.print(f"wrote {item.name} {path}", markup=False, soft_wrap=True)
    if not mask.any():
        console.refuse("the mask is empty: nothing was found; try a click on the structure.")
