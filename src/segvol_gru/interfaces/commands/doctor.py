"""`doctor`: what is installed, which weights, and whether a segmentation comes out right."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from segvol_gru.errors import InputError
from segvol_gru.interfaces import console
from segvol_gru.interfaces.options import DeviceName, ModelName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segvol_gru.volume import Volume

PACKAGES = ("torch", "numpy", "scipy", "nibabel", "SimpleITK", "safetensors")
PASS_DSC = 0.8  # a filled box has 0.69 on an ellipsoid; trained networks are above this


def doctor(
    model: ModelName = "default",
    device: DeviceName = "auto",
) -> None:
    """Check the installation: device, versions, weights, and a segmentation of a phantom.

    The exit code is 0 if all is well and 1 if not.
    """
    console.out.print(_machine(device))
    folder = Path(str(resources.files("segvol_gru") / "weights"))
    found = _weights(folder if model == "default" else Path(model))
    passed = found and _self_test(model, device)
    console.out.print("all is well" if passed else "something is wrong: see above")
    raise typer.Exit(0 if passed else 1)


def _machine(device: str) -> object:
    """A table of versions and hardware."""
    import torch

    from segvol_gru.base.precision import native_bfloat16
    from segvol_gru.session.engine import pick_device

    chosen = pick_device(device)

    drawn = console.table("Installation", ["what", "found"])
    drawn.add_row("segvol-gru", metadata.version("segvol-gru"))
    drawn.add_row("Python", f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        drawn.add_row(name, metadata.version(name))
    drawn.add_row("device", str(chosen))
    drawn.add_row("bfloat16 in hardware", "yes" if native_bfloat16(chosen) else "no: slower")
    drawn.add_row("processor", torch.backends.cpu.get_cpu_capability())
    drawn.add_row("cores, threads", f"{os.cpu_count()}, {torch.get_num_threads()}")
    return drawn


def _weights(folder: Path) -> bool:
    """Print the weight files of a model; whether base and field corrector are there."""
    from segvol_gru.pretrained import PARTS, read_licence

    drawn = console.table(f"Weights in {folder}", ["file", "MB", "SHA-256", "licence"], ["MB"])
    for path in (folder / f"{name}.safetensors" for name in PARTS):
        if not path.is_file():
            continue
        licence = read_licence(path) or "-"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        drawn.add_row(path.stem, f"{path.stat().st_size / 2**20:.1f}", digest[:16], licence)
    console.out.print(drawn)
    missing = [n for n in ("base", "field") if not (folder / f"{n}.safetensors").is_file()]
    if missing:
        told = f"no weights {' and '.join(missing)} in {folder}, which the self-test needs"
        console.refuse(f"{told}; install again or name another model.")
    return not missing


def _self_test(model: str, device: str) -> bool:
    """Segment a phantom from a box and a click; whether the DSC is what it should be."""
    from segvol_gru.evaluation.metrics import dice
    from segvol_gru.session.session import Session
    from segvol_gru.simulate import next_click, tight_box

    volume, truth = phantom()
    box = tight_box(truth)
    drawn = console.table("Self-test on a phantom", ["step", "DSC", "seconds"], ["DSC", "seconds"])
    try:
        session = Session(volume, model=model, device=device)
        began = time.perf_counter()
        mask = session.box(box.lo, box.hi)
        drawn.add_row("box", f"{dice(truth, mask):.3f}", f"{time.perf_counter() - began:.2f}")
        found = next_click(truth, mask)
        if found is not None:
            began = time.perf_counter()
            mask = session.click(found[0], positive=found[1])
            drawn.add_row("click", f"{dice(truth, mask):.3f}", f"{time.perf_counter() - began:.2f}")
    except InputError as error:
        console.refuse(str(error))
        return False
    console.out.print(drawn)
    reached = dice(truth, mask)
    if reached < PASS_DSC:
        console.refuse(f"the phantom's DSC is {reached:.3f}, wanted {PASS_DSC} or more.")
    return reached >= PASS_DSC


def phantom() -> tuple[Volume, NDArray[np.bool_]]:
    """A bright ellipsoid in noise, (40, 72, 80) voxels of 2 x 1 x 1 mm, and its mask."""
    import numpy as np
    from scipy import ndimage

    from segvol_gru.volume import Volume

    shape, centre, radii = (40, 72, 80), (19, 33, 42), (8, 15, 19)
    at = np.indices(shape, dtype=np.float32)
    truth = sum(((a - c) / r) ** 2 for a, c, r in zip(at, centre, radii, strict=True)) < 1
    generator = np.random.default_rng(0)
    image = ndimage.gaussian_filter(np.where(truth, 900.0, 300.0), 0.7)
    image += generator.normal(0, 60, shape)
    return Volume(image.astype(np.int16), spacing=(2.0, 1.0, 1.0), modality="MR"), truth
