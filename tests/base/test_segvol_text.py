"""The text tower, its vocabulary and the file of text vectors."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from segvol_gru.base.segvol import SMALL
from segvol_gru.base.text import (
    TextConfig,
    TextEncoder,
    load_vectors,
    save_vectors,
    text_vector,
)
from segvol_gru.base.vocabulary import MERGES, Vocabulary
from segvol_gru.errors import InputError

START, END = 62, 63  # of the small tower

# What transformers 5.23 `CLIPTextModel` answers (pooler_output, numbers 1 to 3) for the
# weights of `tower()` with quick_gelu, eos_token_id 63 and both rows of `TOKENS`.
TOKENS = torch.tensor([[START, 5, 9, 11, END, END, END], [START, 5, 9, 11, 22, 1, END]])
POOLED = [
    [-0.14920847, 0.43338248, 0.35137540],
    [-0.19245648, 0.59270608, 0.56783807],
]


@pytest.fixture(scope="module")
def tower() -> TextEncoder:
    encoder = TextEncoder(SMALL.text, SMALL.width).eval()
    with torch.no_grad():
        for i, value in enumerate(encoder.parameters()):
            value.copy_((torch.arange(value.numel()) * (i + 1)).sin().view_as(value) * 0.3)
    return encoder


@torch.inference_mode()
def test_tower_is_clips(tower: TextEncoder) -> None:
    pooled = tower.clip_text_model["text_model"](TOKENS)
    torch.testing.assert_close(pooled[:, 1:4], torch.tensor(POOLED), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_padding_behind_the_end_changes_nothing(tower: TextEncoder) -> None:
    torch.testing.assert_close(tower(TOKENS[:1]), tower(TOKENS[:1, :5]))


@pytest.fixture(scope="module")
def merges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary of the right length: three real merges, the rest never met."""
    real = ["l i", "v e", "ve r</w>"]
    filler = [f"\u4e00{i} \u4e00" for i in range(MERGES - len(real))]
    path = tmp_path_factory.mktemp("clip") / "merges.txt"
    path.write_text("\n".join(["#version: 0.2", *real, *filler]) + "\n", encoding="utf-8")
    return path


def test_pairs_merge_by_rank(merges: Path) -> None:
    # Tokens: 256 bytes ("!" first), the same at a word's end, then merges in order, two marks.
    li, ver = 512, 514
    dot_at_end, a_at_end = 256 + ord(".") - ord("!"), 256 + ord("a") - ord("!")
    tokens = Vocabulary(merges).tokens("A  liver.")
    assert tokens.tolist() == [[49406, a_at_end, li, ver, dot_at_end, 49407]]


def test_a_packed_vocabulary_is_the_same(merges: Path, tmp_path: Path) -> None:
    packed = tmp_path / "bpe_simple_vocab_16e6.txt.gz"
    packed.write_bytes(gzip.compress(merges.read_bytes()))
    text = "left kidney's 2nd-largest cyst"
    assert torch.equal(Vocabulary(packed).tokens(text), Vocabulary(merges).tokens(text))


def test_what_is_no_vocabulary_is_refused(merges: Path, tmp_path: Path) -> None:
    short, broken = tmp_path / "short.txt", tmp_path / "broken.gz"
    short.write_text("#version: 0.2\na b\n")
    broken.write_bytes(gzip.compress(merges.read_bytes())[:1000])
    for path in (short, broken, tmp_path / "absent.txt"):
        with pytest.raises(InputError, match=path.name):
            Vocabulary(path)
    with pytest.raises(InputError, match="shorten it"):
        Vocabulary(merges).tokens("q " * 100)


def test_vectors_are_kept_in_a_file(tower: TextEncoder, tmp_path: Path) -> None:
    path = tmp_path / "vectors.safetensors"
    vectors = {"liver": tower(TOKENS[:1]).detach(), "aorta": tower(TOKENS[1:]).detach()}
    save_vectors(path, vectors)
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode  # others may read it
    with pytest.raises(InputError, match="existing, writable folder"):
        save_vectors(tmp_path / "nowhere" / "vectors.safetensors", vectors)
    again = load_vectors(path, SMALL.width)
    assert again.keys() == vectors.keys()
    assert all(torch.equal(again[name], vectors[name]) for name in vectors)
    with pytest.raises(InputError, match=r"wanted \(1, 768\)"):
        load_vectors(path, 768)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="not a file of text vectors"):
        load_vectors(path, SMALL.width)


def test_vectors_come_from_names(merges: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    narrow = TextConfig(width=8, layers=1, heads=2, hidden=8)
    encoder = TextEncoder(narrow, SMALL.width).eval()
    vectors = encoder.vectors(["liver", "spleen"], Vocabulary(merges))
    assert list(vectors) == ["liver", "spleen"]
    assert vectors["liver"].shape == (1, SMALL.width)
    assert not torch.equal(vectors["liver"], vectors["spleen"])
    assert torch.equal(text_vector("liver", merges, encoder, SMALL.width), vectors["liver"])
    kept = tmp_path / "vectors.safetensors"
    save_vectors(kept, vectors)
    assert torch.equal(text_vector("liver", kept, None, SMALL.width), vectors["liver"])
    with pytest.raises(InputError, match="no vector for 'aorta', only for liver, spleen"):
        text_vector("aorta", kept, None, SMALL.width)
    with pytest.raises(InputError, match="no text tower"):
        text_vector("aorta", merges, None, SMALL.width)
