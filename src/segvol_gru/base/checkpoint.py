"""Read foreign checkpoints without running anything that they may carry.

    SegVol_v1.pth        {"model": {"module.KEY": ...}, "optimizer", "scheduler", ...}
    pytorch_model.bin    {"model.KEY": ...}
    SegFM .pth           {"model_state_dict": {"model.KEY": ...}, "optimizer_state_dict", ...}
    authors' GRU .pth    as SegFM, with model.gru_blocks.{0..4}.* beside

Source: BAAI-DCAI/SegVol@5768c97, BAAI-DCAI/SegVol-for-SegFM@7708634,
MoriiHuang/SegVol_GRU_Correction@9ce4d48 (what their training scripts save).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from segvol_gru.errors import InputError

WRAPPERS = {"model": "SegVol_v1", "model_state_dict": "SegFM"}
PREFIXES = ("module.", "model.")


class _Inert:
    """Stands in for optimizer objects: is made, takes any state, does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _plain_dict(*_: object) -> dict[object, object]:
    return {}


# Checkpoints of training runs may hold these beside the weights. The real classes are never
# called; any other name that a file asks for refuses the file.
_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    *((_Inert, f"torch.optim.{name.lower()}.{name}") for name in ("Adam", "AdamW", "SGD")),
    (_Inert, "torch.optim.lr_scheduler.CosineAnnealingLR"),
    (_Inert, "torch.optim.lr_scheduler.LambdaLR"),
    (_Inert, "numpy.core.multiarray.scalar"),
    (_Inert, "numpy._core.multiarray.scalar"),
    (_Inert, "numpy.dtype"),
    (_Inert, "builtins.dict"),
    (_plain_dict, "collections.defaultdict"),
]


def read_checkpoint(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The state dict inside a checkpoint, without outer structure and prefix.

    Args:
        path: one of the forms above, or a safetensors file with the same keys.

    Returns:
        The name of the form, and the tensors by plain key (`image_encoder. ...`).

    Raises:
        InputError: the file is missing, cut off, asks for code, or holds no state dict.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a downloaded checkpoint.")
    if path.suffix == ".safetensors":
        form, inner = "flat", _read_safetensors(path)
    else:
        form, inner = _unwrapped(_read_pickle(path), path)
    wrong = [key for key, value in inner.items() if not isinstance(value, Tensor)]
    if wrong or not inner:
        raise InputError(
            f"{path} holds no state dict of tensors (first other entry: {wrong[:1]}); "
            "give the checkpoint that holds SegVol's weights."
        )
    return form, _stripped(inner)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} is not a whole safetensors file ({error}); download it again."
        ) from error
    return tensors


def _read_pickle(path: Path) -> object:
    """Read with torch's restricted unpickler, optimizer objects replaced by stand-ins."""
    zipped = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if file.read(2) == b"PK" and not zipped:
            raise InputError(f"{path} is cut off (its table of contents is missing); get it again.")
    try:
        with safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    # A hostile or broken pickle can fail in any way at all; all of them are one answer here.
    except Exception as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise InputError(
                f"{path} asks for {asked[1]}, which weights never need; it was refused and "
                "nothing in it was run: get the file from its publisher."
            ) from error
        raise InputError(
            f"{path} is damaged or no PyTorch checkpoint ({type(error).__name__}); nothing in "
            "it was run: get the file again."
        ) from error


def _unwrapped(loaded: object, path: Path) -> tuple[str, Mapping[str, Any]]:
    """The inner dict and the name of the form."""
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise InputError(
            f"{path} holds a {type(loaded).__name__}, wanted a dict of named tensors; "
            "give one of the released checkpoints."
        )
    for key, form in WRAPPERS.items():
        if isinstance(loaded.get(key), Mapping):
            return form, loaded[key]
    return "flat", loaded


def _stripped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the prefix that all of them share."""
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            return {key.removeprefix(prefix): value for key, value in tensors.items()}
    return dict(tensors)
