"""SegVol's weights: import of the released checkpoints, strict on every key, and our own file.

Our file is safetensors; its header carries the sizes, so that loading needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from segvol_gru.base.authors import authors_blocks
from segvol_gru.base.checkpoint import read_checkpoint
from segvol_gru.base.segvol import SegVol, SegVolConfig
from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError

FORMAT = "segvol-gru segvol 1"
# An int64 buffer that transformers < 4.31 saved; it says 0, 1, 2, ...
POSITION_IDS = "text_encoder.clip_text_model.text_model.embeddings.position_ids"
TEXT = "text_encoder."
GRU = "gru_blocks."
SHOWN = 3  # keys named in an error

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found."""

    form: str
    """Which of the released forms the file has."""
    text: bool
    """Whether the text tower was in it."""
    tensors: int
    """Tensors written."""
    parameters: int
    """Parameters of the network."""
    dropped: tuple[str, ...]
    """Keys left out, because this package never runs them."""
    sha256: str
    """Hash of the file that was read."""


def import_checkpoint(path: Path, out: Path, config: SegVolConfig | None = None) -> Imported:
    """Convert a released checkpoint to our file.

    Args:
        path: `SegVol_v1.pth`, Hugging Face `pytorch_model.bin`, a SegFM `.pth`, the authors'
            GRU `.pth`, or a safetensors file with the same keys.
        out: safetensors file to write; replaced only when everything is right.
        config: sizes of the network; the released model by default.

    Returns:
        What was found.

    Raises:
        InputError: `out` cannot be written, the file is cut off, asks for code, or does not
            hold this network; the sentence names the first missing, unexpected and mis-shaped
            keys.
    """
    with whole_file(out) as fresh:  # before the file is read, which takes long
        return _convert(path, fresh, config or SegVolConfig())


def _convert(path: Path, out: Path, config: SegVolConfig) -> Imported:
    """Read, check and write; see `import_checkpoint`."""
    form, tensors = read_checkpoint(path)
    ids = {POSITION_IDS} & set(tensors)
    text = any(key.startswith(TEXT) for key in set(tensors) - ids)
    model = _skeleton(config, text)
    gru = {key for key in tensors if key.startswith(GRU)}
    wanted = _shapes(model) | (_shapes(authors_blocks()) if gru else {})
    _check({k: tuple(v.shape) for k, v in tensors.items() if k not in ids}, wanted, path)
    kept = {k: v.float().contiguous() for k, v in tensors.items() if k not in gru | ids}
    bad = [key for key, value in kept.items() if not value.isfinite().all()]
    if bad:
        raise InputError(
            f"{path} holds numbers that are not finite ({_some(bad)}); get the file again."
        )
    digest = _sha256(path)
    _write(out, kept, model, {"source": path.name, "source_sha256": digest})
    parameters = sum(p.numel() for p in model.parameters())
    form += " with the authors' GRU" if gru else ""
    return Imported(form, text, len(kept), parameters, tuple(sorted(gru | ids)), digest)


def save_segvol(path: Path, model: SegVol, source: str) -> None:
    """Write a network's weights to our file.

    Args:
        path: safetensors file to write.
        model: the network.
        source: where the weights come from, kept in the header.
    """
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    with whole_file(path) as fresh:
        _write(fresh, tensors, model, {"source": source})


def load_segvol(path: Path, *, text: bool = True, compiled: bool = False) -> SegVol:
    """Read what `import_checkpoint` or `save_segvol` wrote.

    Args:
        path: the safetensors file.
        text: keep the text tower if the file has it; without it 0.25 GB less memory.
        compiled: let torch.compile build encoder and decoder at their first use; pays for
            itself over many volumes of a long-running server, needs a C++ compiler.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        InputError: not such a file, or its tensors do not fit the sizes in its header.
    """
    try:
        with safe_open(path, "pt") as file:
            header: dict[str, str] = file.metadata() or {}
            keys = [k for k in file.keys() if text or not k.startswith(TEXT)]  # noqa: SIM118
            if header.get("format") != FORMAT:
                keys = []
            # Copies, because tensors in the file are not aligned, and kernels round otherwise.
            tensors: dict[str, Tensor] = {key: file.get_tensor(key).clone() for key in keys}
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); convert an official "
            "checkpoint with `segvol-gru weights import`."
        ) from error
    if not tensors:
        raise InputError(
            f"{path} does not say {FORMAT!r}; convert an official checkpoint with "
            "`segvol-gru weights import`."
        )
    config = SegVolConfig.from_dict(json.loads(header["config"]))
    model = _skeleton(config, any(key.startswith(TEXT) for key in tensors))
    _check({k: tuple(v.shape) for k, v in tensors.items()}, _shapes(model), path)
    model.load_state_dict(tensors, assign=True)
    if compiled:
        model.image_encoder.compile()
        model.mask_decoder.compile()
    return model.eval()


def _skeleton(config: SegVolConfig, text: bool) -> SegVol:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return SegVol(config, text)


def _shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def _check(found: Shapes, wanted: Shapes, path: Path) -> None:
    """Demand the same keys and shapes."""
    both = [key for key in wanted if key in found]
    faults = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "mis-shaped": [
            f"{key} {found[key]} instead of {wanted[key]}"
            for key in both
            if found[key] != wanted[key]
        ],
    }
    told = "; ".join(f"{kind}: {_some(keys)}" for kind, keys in faults.items() if keys)
    if told:
        raise InputError(
            f"{path} has {len(found)} tensors where SegVol has {len(wanted)}, {told}; "
            "give a released SegVol checkpoint, or the sizes that this one was trained with."
        )


def _some(keys: Iterable[str]) -> str:
    """The first few keys and how many more there are."""
    names = list(keys)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _write(path: Path, tensors: dict[str, Tensor], model: SegVol, notes: dict[str, str]) -> None:
    """Write our file; `save_file`'s only its owner may read."""
    header = {"format": FORMAT, "config": json.dumps(model.config.to_dict()), **notes}
    path.write_bytes(save(tensors, header))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
