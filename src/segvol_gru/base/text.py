"""Text prompts: CLIP's text tower, and text vectors kept in a file.

The tower has 63 M frozen parameters and is needed only to turn a name into a vector, so it is
optional: vectors computed once can be saved and used without it.

    name -> "A computerized tomography of a {name}." -> BPE -> tower -> dim_align -> (E,)

Source: Radford et al. 2021, arXiv 2103.00020 (text tower of ViT-B/32); BAAI-DCAI/SegVol@5768c97.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from segvol_gru.base.vocabulary import Vocabulary
from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError

TEMPLATE = "A computerized tomography of a {}."
FORMAT = "segvol-gru text vectors 1"


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Sizes of the CLIP text tower; the defaults are openai/clip-vit-base-patch32."""

    vocabulary: int = 49408
    """Tokens; the last two are start and end of text."""
    width: int = 512
    """Width of the residual stream."""
    layers: int = 12
    """Transformer blocks."""
    heads: int = 8
    """Attention heads."""
    hidden: int = 2048
    """Width inside the blocks' MLPs."""
    positions: int = 77
    """Longest text in tokens, both marks included."""

    @property
    def end(self) -> int:
        """Token of the end of the text, also the padding."""
        return self.vocabulary - 1


class _Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        # No padding mask: the vector read is that of the *first* end mark, which under the
        # causal mask sees nothing of the padding behind it.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    """Two linear layers with CLIP's own approximation of GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        out: Tensor = self.fc2(x * torch.sigmoid(1.702 * x))
        return out


class _Layer(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config.width, config.heads)
        self.layer_norm1 = nn.LayerNorm(config.width)
        self.mlp = _Mlp(config.width, config.hidden)
        self.layer_norm2 = nn.LayerNorm(config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class _Tower(nn.Module):
    """Tokens -> the final state at the first end mark."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.end = config.end
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": nn.Embedding(config.vocabulary, config.width),
                "position_embedding": nn.Embedding(config.positions, config.width),
            }
        )
        layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embeddings["token_embedding"](tokens)
        x = x + self.embeddings["position_embedding"](places)
        layers = self.encoder["layers"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x)
        first_end = (tokens == self.end).int().argmax(1)
        out: Tensor = self.final_layer_norm(x[torch.arange(len(x), device=x.device), first_end])
        return out


class TextEncoder(nn.Module):
    """Tokens -> text vectors of the segmentation network.

    Args:
        config: sizes of the tower.
        width: E of the segmentation network.
    """

    def __init__(self, config: TextConfig, width: int) -> None:
        super().__init__()
        self.clip_text_model = nn.ModuleDict({"text_model": _Tower(config)})
        # Never trained by the authors (it ran without gradient): a fixed random projection.
        self.dim_align = nn.Linear(config.width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T) int64 tokens, each row with an end mark, -> (B, E) float."""
        out: Tensor = self.dim_align(self.clip_text_model["text_model"](tokens))
        return out

    @torch.inference_mode()
    def vectors(self, names: Iterable[str], vocabulary: Vocabulary) -> dict[str, Tensor]:
        """Text vectors of anatomical names, one (1, E) float32 on the CPU each."""
        device = self.dim_align.weight.device
        return {
            name: self(vocabulary.tokens(TEMPLATE.format(name)).to(device)).float().cpu()
            for name in names
        }


def save_vectors(path: Path, vectors: Mapping[str, Tensor]) -> None:
    """Keep text vectors, so that the tower and its vocabulary are not needed again.

    Args:
        path: safetensors file to write.
        vectors: name -> (1, E) float32.

    Raises:
        InputError: the file cannot be written.
    """
    with whole_file(path) as fresh:  # `save_file`'s only its owner may read
        fresh.write_bytes(save(dict(vectors), {"format": FORMAT}))


def load_vectors(path: Path, width: int) -> dict[str, Tensor]:
    """Read what `save_vectors` wrote.

    Args:
        path: the file.
        width: E that the vectors must have.

    Returns:
        Name -> (1, E) float32.

    Raises:
        InputError: not such a file, or for a network of another width.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} is not a file of text vectors: {error}.") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{path} does not say {FORMAT!r}; write it with save_vectors.")
    wrong = [name for name, v in vectors.items() if tuple(v.shape) != (1, width)]
    if wrong:
        raise InputError(
            f"text vector {wrong[0]!r} has shape {tuple(vectors[wrong[0]].shape)}, wanted "
            f"(1, {width}); compute the vectors with the network they are used with."
        )
    return vectors


def text_vector(name: str, source: Path, encoder: TextEncoder | None, width: int) -> Tensor:
    """The vector of an anatomical name, from whichever file there is.

    Args:
        name: for example "liver".
        source: text vectors (`.safetensors`), or CLIP's vocabulary.
        encoder: the network's text tower; needed with a vocabulary.
        width: E of the network.

    Returns:
        (1, E) float32.

    Raises:
        InputError: the name is not among the vectors, or there is no tower to compute it.
    """
    if source.suffix == ".safetensors":
        vectors = load_vectors(source, width)
        if name not in vectors:
            raise InputError(
                f"{source} has no vector for {name!r}, only for {', '.join(sorted(vectors))}; "
                "choose one of them or give CLIP's vocabulary."
            )
        return vectors[name]
    if encoder is None:
        raise InputError(
            f"the weights have no text tower to read {name!r} with; import a checkpoint that "
            "has one, or give a file of text vectors."
        )
    return encoder.vectors([name], Vocabulary(source))[name]
