"""What SegVol costs at full size, against one plain pass of its encoder, in one run.

    python benchmarks/bench_segvol.py [--repeats 3]

Random weights of the released sizes without the text tower. The yardstick is the encoder in
float32 with attention written out as einsum, softmax, einsum, as in the reference. A click is
one decode of a window whose embedding is kept, upsampling, pasting, and the field corrector.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from segvol_gru.base.ask import Crop
from segvol_gru.base.compact import CompactBase
from segvol_gru.base.precision import Precision, autocast, native_bfloat16
from segvol_gru.base.segvol import SegVolConfig, describe, random_segvol
from segvol_gru.base.views import Views
from segvol_gru.base.vit import Block, ImageEncoder, SelfAttention
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.pipeline import Model, refine, start_from_logits
from segvol_gru.prompts import Box, Click
from segvol_gru.scan import Scan
from segvol_gru.state import canvas

SHAPE = (64, 320, 320)
BOX = Box((20, 120, 120), (40, 200, 210))
BARS = {"encode float32, fused": 0.8, "encode bfloat16, fused": 0.6, "click in one window": 0.08}
PEAK_BAR_GB = 2.0


def plain_attention(part: SelfAttention, x: Tensor) -> Tensor:
    batch, tokens, width = x.shape
    qkv = part.qkv(x).view(batch, tokens, 3, part.heads, -1).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    weights = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    mixed = torch.einsum("bhqk,bhkd->bhqd", weights.softmax(-1), v)
    out: Tensor = part.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
    return out


def plain_encode(encoder: ImageEncoder, image: Tensor) -> Tensor:
    x: Tensor = encoder.patch_embedding(image)
    for block in encoder.blocks:
        assert isinstance(block, Block)
        x = x + plain_attention(block.attn, block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    x = encoder.norm(x)
    return x.transpose(1, 2).reshape(len(x), -1, *encoder.patch_embedding.grid)


def seconds(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Clicker:
    """Clicks at ever new places inside the box, each answered by SegVol and the corrector."""

    def __init__(self, views: Views, image: np.ndarray) -> None:
        self.views = views
        self.clicks: tuple[Click, ...] = ()
        self.scan = Scan(image, (1.0, 1.0, 1.0), (0.0, 1.0))
        self.model = Model(CompactBase().eval(), FieldCorrector().eval(), "benchmark")
        self.state = start_from_logits(self.model, self.scan, views.segment(BOX))

    def click(self) -> None:
        """One click, from prompt to mask."""
        n = len(self.clicks)
        newest = Click((25 + n, 140 + 3 * n, 150 + 2 * n), n % 2 == 0)
        self.clicks = (*self.clicks, newest)
        field = self.views.segment(BOX, self.clicks)
        state = start_from_logits(self.model, self.scan, field)
        canvas(refine(self.model, self.scan, state, newest), self.scan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = SegVolConfig()
    model = random_segvol(config, generator)
    image = torch.rand(SHAPE, generator=generator)
    view = torch.rand(1, 1, *config.image, generator=generator)
    clicker = Clicker(Views(model, Crop(image)), image.numpy())

    def encode(precision: Precision) -> Tensor:
        with autocast(torch.device("cpu"), precision):
            return model.encode(view).float()

    steps: dict[str, Callable[[], object]] = {
        "click in one window": clicker.click,
        "encode bfloat16, fused": lambda: encode("bfloat16"),
        "encode float32, fused": lambda: encode("float32"),
        "encode float32, plain": lambda: plain_encode(model.image_encoder, view),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    with torch.inference_mode():
        for _ in range(repeats):
            for name, step in steps.items():  # interleaved, so that a busy machine slows all
                times[name].append(seconds(step))
        plain = plain_encode(model.image_encoder, view)
        fused, half = encode("float32"), encode("bfloat16")
    report(times, plain, fused, half)


def report(times: dict[str, list[float]], plain: Tensor, fused: Tensor, half: Tensor) -> None:
    native = "native" if native_bfloat16(torch.device("cpu")) else "emulated"
    print(f"{torch.get_num_threads()} threads, bfloat16 {native}, torch {torch.__version__}")
    said = describe()
    total = sum(said.multiply_adds.values()) / 1e9
    print(f"{said.with_text:,} parameters, {said.without_text:,} without text, {total:.2f} G adds")
    yardstick = statistics.median(times["encode float32, plain"])
    for name, taken in times.items():
        ratio, bar = statistics.median(taken) / yardstick, BARS.get(name)
        told = "" if bar is None else f"  bar {bar:.2f}x  {'met' if ratio <= bar else 'MISSED'}"
        print(f"{name:24} {statistics.median(taken):7.2f} s  {ratio:5.3f}x{told}")
    print(f"fused differs by at most {float((fused - plain).abs().max()):.1e} from plain,")
    relative = float((half - plain).norm() / plain.norm())
    print(f"bfloat16 by {relative:.2%} (relative norm)")
    met = "met" if peak_gb() <= PEAK_BAR_GB else "MISSED"
    print(f"peak memory {peak_gb():.2f} GB  bar {PEAK_BAR_GB:.1f} GB  {met}")


if __name__ == "__main__":
    main()
