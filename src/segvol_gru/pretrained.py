"""Weights on disk: safetensors whose header says what they are, and models built from them.

A model is a folder with one file per network (`base.safetensors`, `field.safetensors`,
`paper.safetensors`) and one for the experts, if it has any (`experts.safetensors`: what
each has of its own). Beside SegVol, whose weights are a file of another format, a corrector is
enough. The header holds the sizes, so a file is never guessed at, and a card: data sets,
licences, training command, figures. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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
from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError
from segvol_gru.experts import Experts, Kind, expert_of, shared_digest
from segvol_gru.pipeline import Model

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

FORMAT = "segvol-gru weights 1"
EXPERTS = "experts.safetensors"
PARTS = ("base", "experts", "field", "paper")
"""Names of the files in a model folder."""
Network = TypeVar("Network", bound=nn.Module)
Expert = TypeVar("Expert", CompactBase, FieldCorrector)
LICENCE = "Licence of the weights: "
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
    save_tensors(path, network.state_dict(), config, card)


def save_tensors(
    path: Path, values: Mapping[str, torch.Tensor], config: Mapping[str, Any], card: str
) -> None:
    """Write tensors as a weight file; see `save_network`."""
    tensors = {k: v.detach().half().contiguous() for k, v in values.items()}
    header = {"format": FORMAT, "config": json.dumps(dict(config)), "card": card}
    with whole_file(path) as fresh:
        fresh.write_bytes(_settled(save(tensors, header)))  # `save_file`'s only its owner may read


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


def read_licence(path: Path) -> str | None:
    """The licence that the model card in a weight file's header names; None if it names none."""
    for line in read_card(path).splitlines():
        if line.startswith(LICENCE):
            return line.removeprefix(LICENCE).removesuffix(".")
    return None


def load_model(
    name: str | Path = "default",
    corrector: str = "field",
    *,
    base: str = "compact",
    weights: str | PathLike[str] | None = None,
    text: tuple[str, str | PathLike[str]] | None = None,
    compat: bool = False,
    experts: bool = True,
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
        experts: with False, the general networks answer for every scan.

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
    folder, digest = model_folder(name), hashlib.sha256()
    first: CompactBase | LargeBase
    if weights is None:
        first = _compact(folder, digest)
    else:
        config = LargeConfig(_cells(folder, digest), compat)
        first = _large(Path(weights), text, config, digest)
    network, path = _corrector(folder, corrector, first, digest), folder / EXPERTS
    kept = Experts()
    if experts and path.is_file():
        digest.update(path.read_bytes())
        kept = _experts(read_experts(path), first, network)
    return Model(first, network, digest.hexdigest(), kept)


def _experts(stored: StoredExperts, base: nn.Module, corrector: Corrector) -> Experts:
    """Experts of the networks that a model has."""
    bases = stored.networks("base", base) if isinstance(base, CompactBase) else {}
    fields = stored.networks("field", corrector) if isinstance(corrector, FieldCorrector) else {}
    return Experts(stored.kinds, bases, fields)


@dataclass(frozen=True)
class StoredExperts:
    """What `experts.safetensors` holds.

    Attributes:
        kinds: what the experts know.
        shared: `base` and `field` -> `shared_digest` of the network that they belong to.
        own: `base` and `field` -> kind -> what the expert has of its own.
    """

    kinds: tuple[Kind, ...]
    shared: Mapping[str, str]
    own: Mapping[str, Mapping[str, Mapping[str, torch.Tensor]]]

    def networks(self, part: str, general: Expert) -> dict[str, Expert]:
        """The experts of one network, by name.

        Raises:
            InputError: they do not belong to it.
        """
        if part in self.own and self.shared[part] != shared_digest(general):
            raise InputError(
                f"{EXPERTS} belongs to another {part}.safetensors; keep the files of a model "
                "together."
            )
        try:
            own = self.own.get(part, {})
            return {name: _ready(expert_of(general, values)) for name, values in own.items()}
        except RuntimeError as error:
            raise InputError(f"an expert does not fit its {part}: {error}") from error

    def having(
        self, kinds: Sequence[Kind], own: Mapping[str, Mapping[str, torch.Tensor]]
    ) -> StoredExperts:
        """These and one more; one of the same name goes, but for networks that `own` lacks.

        Args:
            kinds: of its scans, one at least, all of its name.
            own: as in `own`, of this expert.
        """
        name = kinds[0].name
        others = tuple(kind for kind in self.kinds if kind.name != name)
        parts = {part: {**self.own.get(part, {})} for part in {*self.own, *own}}
        for part, values in own.items():
            parts[part][name] = values
        return replace(self, kinds=(*others, *kinds), own=parts)


def read_experts(path: Path) -> StoredExperts:
    """Read `experts.safetensors`.

    Raises:
        InputError: it is none.
    """
    tensors, header = _open(path)
    config = json.loads(header["config"])
    own: dict[str, dict[str, dict[str, torch.Tensor]]] = {}
    for key, value in tensors.items():
        part, _, named = key.partition("/")
        name, _, rest = named.rpartition("/")
        own.setdefault(part, {}).setdefault(name, {})[rest] = value.float()
    return StoredExperts(tuple(map(as_kind, config["kinds"])), config["shared"], own)


def as_kind(values: Mapping[str, Any]) -> Kind:
    """A kind from plain values; lists become tuples."""
    precision = tuple(tuple(row) for row in values["precision"])
    return Kind(values["name"], tuple(values["mean"]), precision)


def save_experts(path: Path, experts: StoredExperts, card: str) -> None:
    """Write experts as 16-bit safetensors: `base/KIND/NAME` and `field/KIND/NAME`."""
    values = {
        f"{part}/{kind}/{name}": value
        for part, kinds in experts.own.items()
        for kind, own in kinds.items()
        for name, value in own.items()
    }
    config = {"kinds": [asdict(kind) for kind in experts.kinds], "shared": dict(experts.shared)}
    save_tensors(path, values, config, card)


def _compact(folder: Path, digest: Hash) -> CompactBase:
    """The compact base of a model folder."""
    path = folder / "base.safetensors"
    tensors, header = _open(path)
    base = CompactBase(_config(CompactConfig, header))
    _fill(base, tensors, path)
    digest.update(path.read_bytes())
    return _ready(base)


def _cells(folder: Path, digest: Hash) -> int:
    """Cells of a model's regions, as the first of its networks says that has any."""
    for path in (folder / "base.safetensors", folder / "field.safetensors"):
        if path.is_file():
            digest.update(path.read_bytes())
            return int(json.loads(_open(path)[1]["config"])["cells"])
    return LargeConfig.cells


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


def model_folder(name: str | PathLike[str]) -> Path:
    """The folder of a model: "default" is the one in the package.

    Raises:
        InputError: there is none.
    """
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
