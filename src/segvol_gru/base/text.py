"""Text prompts: CLIP's text tower, its vocabulary, and text vectors kept in a file.

The tower has 63 M frozen parameters and is needed only to turn a name into a vector, so it is
optional: vectors computed once can be saved and used without it.

    name -> "A computerized tomography of a {name}." -> BPE -> tower -> dim_align -> (E,)

Source: Radford et al. 2021, arXiv 2103.00020 (text tower of ViT-B/32); BAAI-DCAI/SegVol@5768c97.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from segvol_gru.errors import InputError

TEMPLATE = "A computerized tomography of a {}."
FORMAT = "segvol-gru text vectors 1"
MERGES = 49152 - 256 - 2  # of the 49408 tokens, 512 are bytes and 2 mark start and end
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")


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


class Vocabulary:
    """CLIP's byte-pair encoding from the one file that defines it.

    Args:
        path: `merges.txt` as shipped beside CLIP, or `bpe_simple_vocab_16e6.txt.gz`.

    Raises:
        InputError: the file is not such a list.
    """

    def __init__(self, path: Path) -> None:
        try:
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            lines = raw.decode().split("\n")[1 : MERGES + 1]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as CLIP's merges.txt: {error}.") from error
        merges = [tuple(line.split()) for line in lines]
        if len(merges) < MERGES or any(len(pair) != 2 for pair in merges):
            raise InputError(
                f"{path} holds {len(merges)} lines, wanted a header and {MERGES} pairs; "
                "give the merges.txt of openai/clip-vit-base-patch32."
            )
        letters = list(_letters().values())
        tokens = [*letters, *(c + "</w>" for c in letters), *("".join(pair) for pair in merges)]
        self._ids = {token: i for i, token in enumerate([*tokens, "<start>", "<end>"])}
        self._ranks = {pair: i for i, pair in enumerate(merges)}

    def tokens(self, text: str, positions: int = 77) -> Tensor:
        """Encode one text.

        Args:
            text: any text; lower-cased, white space collapsed.
            positions: longest result.

        Returns:
            (1, T) int64 with start and end marks.

        Raises:
            InputError: the text is too long.
        """
        ids = [self._ids["<start>"]]
        for word in WORDS.findall(" ".join(text.lower().split())):
            ids += [self._ids[piece] for piece in self._pieces(word)]
        ids.append(self._ids["<end>"])
        if len(ids) > positions:
            raise InputError(
                f"text {text!r} has {len(ids)} tokens, more than {positions}; shorten it."
            )
        return torch.tensor([ids])

    def _pieces(self, word: str) -> list[str]:
        """Merge the two neighbours of lowest rank until none is in the list."""
        pieces = [_letters()[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self._ranks.get(pair, MERGES))
            if best not in self._ranks:
                break
            merged, i = [], 0
            while i < len(pieces):
                joined = tuple(pieces[i : i + 2]) == best
                merged.append("".join(best) if joined else pieces[i])
                i += 1 + joined
            pieces = merged
        return pieces


@cache
def _letters() -> dict[int, str]:
    """A printable character for every byte, printable bytes first, as CLIP orders them."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {b: chr(256 + i) for i, b in enumerate(rest)}


def save_vectors(path: Path, vectors: Mapping[str, Tensor]) -> None:
    """Keep text vectors, so that the tower and its vocabulary are not needed again.

    Args:
        path: safetensors file to write.
        vectors: name -> (1, E) float32.
    """
    save_file(dict(vectors), path, {"format": FORMAT})


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
