"""CLIP's byte-pair encoding: text -> tokens, from one file and without downloads.

The file is OpenAI's list of merges (MIT). It lies beside every CLIP checkpoint as `merges.txt`
and in the wheel of `open_clip_torch` as `bpe_simple_vocab_16e6.txt.gz`.

Source: Radford et al. 2021, arXiv 2103.00020; openai/CLIP, re-implemented.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from segvol_gru.errors import InputError

MERGES = 49152 - 256 - 2  # of the 49408 tokens, 512 are bytes and 2 mark start and end
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")


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
