"""Weights on disk: safetensors whose header says what they are, and models built from them.

A model is a folder with one file per network (`base.safetensors`, `field.safetensors`,
`paper.safetensors`). The header holds the sizes, so a file is never guessed at, and a card: data
sets, licences, training command, figures. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.base.large import LargeBase, LargeConfig
from segvol_gru.base.text import text_vector
from segvol_gru.base.weights import load_segvol
from segvol_gru.correct import Corrector
from segvol_gru.correct.field import FieldConfig, FieldCorrector
from segvol_gru.correct.paper import PaperConfig, PaperCorrector
from segvol_gru.correct.reprompt import Reprompt
from segvol_gru.errors import InputError
from segvol_gru.pipeline import Model

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

FORMAT = "segvol-gru weights 1"
Network = TypeVar("Network", bound=nn.Module)
CORRECTORS = ("field", "paper", "reprompt")
BASES = ("compact", "segvol")


def save_network(path: Path, network: nn.Module, config: Mapping[str, Any], card: str) -> None:
    """Write one network as 16-bit safetensors.

    Args:
        path: the file, replaced in one piece.
        network: its floating tensors are stored as float16.
        config: its sizes.
        card: the model card, Markdown.
    """
    tensors = {k: v.detach().half().contiguous() for k, v in network.state_dict().items()}
    header = {"format": FORMAT, "config": json.dumps(dict(config)), "card": card}
    aside = path.with_suffix(".part")
    aside.write_bytes(_settled(save(tensors, header)))  # `save_file`'s only its owner may read
    aside.replace(path)


def _settled(data: bytes) -> bytes:
    """A safetensors file with its metadata, which the library shuffles, in order: one digest."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    told = json.dumps(header, separators=(",", ":")).encode()
    told += b" " * (-len(told) % 8)  # the tensors stay aligned
    return len(told).to_bytes(8, "little") + told + data[start:]


def read_card(path: Path) -> str:
    """The model card in a weight file's header."""
    return _open(path)[1]["card"]


def load_model(
    name: str | Path = "default",
    corrector: str = "field",
    *,
    base: str = "compact",
    weights: str | PathLike[str] | None = None,
    text: tuple[str, str | PathLike[str]] | None = None,
    compat: bool = False,
) -> Model:
    """Build a model from a folder of weights.

    Args:
        name: "default" for the weights in the package, or a folder.
        corrector: "field", "paper", or "reprompt" (the base itself, given all clicks).
        base: "compact", or "segvol" for SegVol with weights of your own.
        weights: SegVol's, a file made by `segvol-gru weights import`.
        text: what SegVol is to look for beside all prompts: a name such as "liver", and a file
            of text vectors or CLIP's vocabulary.
        compat: let SegVol be asked as its reference implementation does.

    Raises:
        InputError: the folder or a file is missing or is not one of ours, or options do not go
            together.
    """
    if corrector not in CORRECTORS:
        raise InputError(f"corrector is {corrector!r}, wanted one of {CORRECTORS}.")
    if base not in BASES:
        raise InputError(f"base is {base!r}, wanted one of {BASES}.")
    if (base == "segvol") != (weights is not None):
        raise InputError("base 'segvol' and a file of weights belong together; give both.")
    if weights is None and (text is not None or compat):
        raise InputError("text and compat are for SegVol; give base 'segvol' and its weights.")
    folder, digest = _folder(name), hashlib.sha256()
    first: CompactBase | LargeBase = _compact(folder, digest)
    if weights is not None:
        config = LargeConfig(first.config.cells, compat)
        first = _large(Path(weights), text, config, digest)
    return Model(first, _corrector(folder, corrector, first, digest), digest.hexdigest())


def _compact(folder: Path, digest: Hash) -> CompactBase:
    """The compact base of a model folder."""
    path = folder / "base.safetensors"
    tensors, header = _open(path)
    base = CompactBase(_config(CompactConfig, header))
    _fill(base, tensors, path)
    digest.update(path.read_bytes())
    return _ready(base)


def _large(
    path: Path,
    text: tuple[str, str | PathLike[str]] | None,
    config: LargeConfig,
    digest: Hash,
) -> LargeBase:
    """SegVol; everything that its answers depend on goes into the digest."""
    name, source = (None, None) if text is None else (text[0], Path(text[1]))
    tower = source is not None and source.suffix != ".safetensors"
    network, vector = load_segvol(path, text=tower), None
    if name is not None and source is not None:
        vector = text_vector(name, source, network.text_encoder, network.config.width)
        digest.update(vector.numpy().tobytes())
    network.text_encoder = None  # 63 M parameters that have said all they had to say
    with path.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    digest.update(f"compat {config.compat}".encode())
    return LargeBase(network, config, vector).eval().requires_grad_(False)


def _corrector(folder: Path, kind: str, base: CompactBase | LargeBase, digest: Hash) -> Corrector:
    """A corrector of a model folder, or the base in its place."""
    if kind == "reprompt":
        return Reprompt(base).eval()
    path = folder / f"{kind}.safetensors"
    tensors, header = _open(path)
    network: Corrector
    if kind == "field":
        network = FieldCorrector(_config(FieldConfig, header))
    else:
        network = PaperCorrector(_config(PaperConfig, header))
    _fill(network, tensors, path)
    digest.update(path.read_bytes())
    return _ready(network)


def _folder(name: str | Path) -> Path:
    if name == "default":
        return Path(str(resources.files("segvol_gru") / "weights"))
    folder = Path(name)
    if not folder.is_dir():
        raise InputError(f"model {str(name)!r} is no folder; give 'default' or a weights folder.")
    return folder


def _open(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header of one of our files."""
    if not path.is_file():
        raise InputError(f"{path} is missing; a model folder holds {path.name}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} is no safetensors file ({error}).") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path.name} has format {header.get('format')!r}, wanted {FORMAT!r}.")
    return tensors, header


def _config(kind: type[Any], header: Mapping[str, str]) -> Any:
    """A settings dataclass from a header; lists become tuples."""
    values = json.loads(header["config"])
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _fill(network: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except RuntimeError as error:
        raise InputError(f"{path.name} does not fit its own sizes: {error}") from error


def _ready(network: Network) -> Network:
    nn.Module.to(network, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)
    return network
