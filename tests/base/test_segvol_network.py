"""The network against the reference's golden vectors, the key list and hand-derived codes."""

from __future__ import annotations

import csv
from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from segvol_gru.base.authors import authors_blocks
from segvol_gru.base.prompt_encoder import PromptEncoder
from segvol_gru.base.segvol import (
    PRESETS,
    SMALL,
    SegVol,
    SegVolConfig,
    describe,
    fingerprint,
    random_segvol,
)
from segvol_gru.errors import InputError

# image, points, box, text of the golden's inputs; None means both images or no prompt
CASES: dict[str, tuple[int | None, str | None, str | None, str | None]] = {
    "box": (0, None, "box1", None),
    "points": (0, "1", None, None),
    "box+points": (0, "1", "box1", None),
    "text": (0, None, None, "text1"),
    "box+text": (0, None, "box1", "text1"),
    "points+text": (0, "1", None, "text1"),
    "box+points+text": (0, "1", "box1", "text1"),
    "points_padded": (0, "_padded", None, None),
    "box+points_padded": (0, "_padded", "box1", None),
    "empty_box": (0, None, "empty", None),
    "batch2_box": (None, None, "box2", None),
    "batch2_box+points+text": (None, "2", "box2", "text2"),
    "one_image_two_boxes": (0, None, "box2", None),
}


def close(ours: Tensor, golden: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), golden, atol=1e-4, rtol=1e-4)


def prompts(
    network: dict[str, np.ndarray], name: str
) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None, Tensor | None]:
    _, points, box, text = CASES[name]

    def read(key: str) -> Tensor:
        return torch.from_numpy(network[key])

    both = None if points is None else (read("points" + points), read("labels" + points))
    if box == "empty":
        corners: Tensor | None = -torch.ones(1, 6)
    else:
        corners = None if box is None else read(box)
    return both, corners, None if text is None else read(text)


@pytest.fixture(scope="module")
def embedding(golden_model: SegVol, network: dict[str, np.ndarray]) -> Tensor:
    with torch.inference_mode():
        return golden_model.encode(torch.from_numpy(network["image"]))


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_every_prompt_combination_is_the_references(
    name: str, golden_model: SegVol, network: dict[str, np.ndarray], embedding: Tensor
) -> None:
    chosen = embedding if CASES[name][0] is None else embedding[:1]
    points, boxes, text = prompts(network, name)
    encoder = golden_model.prompt_encoder
    sparse = encoder(points, boxes, text)
    close(sparse, network[f"{name}/sparse"])
    masks, quality = golden_model.mask_decoder(
        chosen, encoder.dense_code(), sparse, encoder.dense_prompt(), text
    )
    close(masks[:, :, ::3, ::3, ::3], network[f"{name}/low_res_all4_sub_3_3_3"])
    close(quality, network[f"{name}/iou_all4"])
    low_res = golden_model.decode(chosen, points, boxes, text)
    close(low_res, network[f"{name}/low_res"])
    logits = golden_model.upsample(low_res)
    if name == "box":
        close(logits, network["box/logits"])
    else:
        close(logits[:, :, ::2, ::4, ::4], network[f"{name}/logits_sub_2_4_4"])


@torch.inference_mode()
def test_every_stage_of_the_encoder_is_the_references(
    golden_model: SegVol, network: dict[str, np.ndarray], embedding: Tensor
) -> None:
    encoder = golden_model.image_encoder
    x = encoder.patch_embedding(torch.from_numpy(network["image"][:1]))
    close(x, network["enc.patch_embedding"])
    for i, block in enumerate(encoder.blocks):
        x = block(x)
        close(x, network[f"enc.block{i}"])
    close(embedding, network["image_embedding"])
    close(golden_model.prompt_encoder.dense_code(), network["dense_pe"])


@torch.inference_mode()
def test_every_stage_of_the_decoder_is_the_references(
    golden_model: SegVol, network: dict[str, np.ndarray], embedding: Tensor
) -> None:
    encoder, decoder = golden_model.prompt_encoder, golden_model.mask_decoder
    dense = encoder.dense_prompt()
    close(dense.expand(1, -1, *SMALL.grid), network["box/dense"])
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])[None]
    tokens = torch.cat([own, torch.from_numpy(network["box/sparse"])], 1)
    image = (embedding[:1] + dense).flatten(2).transpose(1, 2)
    queries, keys = decoder.transformer(
        tokens, image, encoder.dense_code().flatten(2).transpose(1, 2)
    )
    close(queries, network["box/transformer_queries"])
    close(keys, network["box/transformer_keys"])
    upscaled = decoder.output_upscaling(keys.transpose(1, 2).unflatten(2, SMALL.grid))
    close(upscaled[:, :, ::2, ::2, ::2], network["box/upscaled_sub_2_2_2"])


def test_gradients_are_the_references(golden_model: SegVol, network: dict[str, np.ndarray]) -> None:
    golden_model.zero_grad()
    embedding = golden_model.encode(torch.from_numpy(network["image"][:1]))
    logits = golden_model.upsample(
        golden_model.decode(embedding, boxes=torch.from_numpy(network["box1"]))
    )[0]
    label = torch.from_numpy(network["loss/label"])
    p = logits.sigmoid()
    dice = 1 - 2 * (p * label).sum() / (p.sum() + label.sum() + 1)
    bce = F.binary_cross_entropy_with_logits(logits, label)
    close(dice, network["loss/dice"])
    close(bce, network["loss/bce"])
    (dice + bce).backward()
    grads = {name: p.grad for name, p in golden_model.named_parameters() if p.grad is not None}
    patch = grads["image_encoder.patch_embedding.patch_embeddings.1.weight"]
    close(patch.norm(), network["loss/grad_patch_linear_weight_norm"])
    qkv = grads["image_encoder.blocks.0.attn.qkv.weight"]
    close(qkv[:8], network["loss/grad_qkv0"])
    close(grads["prompt_encoder.point_embeddings.2.weight"], network["loss/grad_box_corner0"])
    close(grads["mask_decoder.mask_tokens.weight"], network["loss/grad_mask_tokens"])


def test_keys_and_shapes_are_the_checkpoints(shared: Path) -> None:
    with (shared / "spec" / "segvol-state-dict.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wanted = {row["key"]: tuple(int(n) for n in row["shape"].split("x")) for row in rows}
    del wanted["text_encoder.clip_text_model.text_model.embeddings.position_ids"]
    with torch.device("meta"):
        ours = {k: tuple(v.shape) for k, v in SegVol(SegVolConfig(), True).state_dict().items()}
    gru = {k: tuple(v.shape) for k, v in authors_blocks().state_dict().items()}
    assert len(wanted) == 504
    assert ours | gru == wanted
    told = {k: torch.empty(wanted[k], device="meta") for k in wanted if k not in gru}
    assert describe().keys["with text tower"] == (474, fingerprint(told))


def test_counts_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        assert len(SegVol(SegVolConfig(), text=True).state_dict()) == 474
        assert len(SegVol(SegVolConfig()).state_dict()) == 276
    said = describe()
    assert said.parameters == {
        "image_encoder": 87_388_416,
        "mask_decoder": 29_923_716,
        "prompt_encoder": 17_996,
        "text_encoder": 63_165_952 + 393_984,
    }
    assert said.with_text == 180_890_064
    assert said.without_text == 180_890_064 - 63_559_936
    assert said.with_authors_gru == 295_352_064
    assert sum(said.multiply_adds.values()) == pytest.approx(264.2e9, rel=0.01)
    assert said.multiply_adds["encode"] == pytest.approx(253.06e9, rel=0.01)
    assert said.multiply_adds["decode"] == pytest.approx(11.11e9, rel=0.01)


def one_hot_encoder(row: int) -> PromptEncoder:
    """A code that sees one component of the 3-vector only: [sin(2 pi (2c - 1)), cos(...)]."""
    encoder = PromptEncoder(image=(32, 256, 128), grid=(8, 16, 4), width=2)
    encoder.pe_layer.positional_encoding_gaussian_matrix[row] = 1
    return encoder


def test_a_point_divides_depth_by_height_and_height_by_depth() -> None:
    point = torch.tensor([[7.5, 15.5, 31.5]])
    for row, c in enumerate([8 / 256, 16 / 32, 32 / 128]):
        code = one_hot_encoder(row).locate(point)[0]
        expected = torch.tensor([2 * c - 1, 2 * c - 1]) * 2 * pi
        torch.testing.assert_close(code, torch.stack([expected[0].sin(), expected[1].cos()]))


def test_the_dense_code_puts_height_first() -> None:
    for row, (cell, n, axis) in enumerate([(3, 16, 1), (5, 8, 0), (2, 4, 2)]):
        code = one_hot_encoder(row).dense_code()[0]
        c = torch.tensor((cell + 0.5) / n)
        at = [0, 0, 0]
        at[axis] = cell
        torch.testing.assert_close(code[0, at[0], at[1], at[2]], (2 * pi * (2 * c - 1)).sin())


def test_positions_are_coded_in_float32_whatever_the_arithmetic() -> None:
    """In bfloat16 a phase is off by tenths of a radian, and neighbours share a code."""
    encoder = PromptEncoder(image=(32, 256, 256), grid=(8, 16, 16), width=48)
    matrix = encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix.normal_(generator=torch.Generator().manual_seed(1))
    points = torch.tensor([[10.0, y, 100.0] for y in range(256)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        code, dense = encoder.locate(points), encoder.dense_code()
    assert torch.equal(code, encoder.locate(points))
    assert torch.equal(dense, encoder.dense_code())
    assert len(code.unique(dim=0)) == len(points)


def test_no_prompt_makes_no_token() -> None:
    assert PromptEncoder((8, 8, 8), (2, 2, 2), 16)().shape == (1, 0, 16)


def test_points_alone_get_one_padding_point_and_beside_a_box_none() -> None:
    encoder = PromptEncoder((8, 8, 8), (2, 2, 2), 16)
    points = (torch.zeros(1, 2, 3), torch.tensor([[1, -1]]))
    alone = encoder(points)
    assert alone.shape == (1, 3, 16)
    torch.testing.assert_close(alone[0, 1:], encoder.not_a_point_embed.weight.expand(2, -1))
    assert encoder(points, torch.zeros(1, 6)).shape == (1, 4, 16)


@torch.inference_mode()
def test_one_image_serves_many_prompts_and_an_embedding_serves_again(small_model: SegVol) -> None:
    image = torch.rand(1, 1, *SMALL.image, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[1.0, 2, 3, 9, 40, 50], [4, 4, 4, 8, 30, 80]])
    embedding = small_model.encode(image)
    kept = embedding.clone()
    together = small_model.decode(embedding, boxes=boxes)
    for i in range(2):
        alone = small_model.decode(embedding, boxes=boxes[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)
        fresh = small_model.decode(small_model.encode(image), boxes=boxes[i : i + 1])
        assert torch.equal(alone, fresh)
    assert torch.equal(embedding, kept)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_patch_embedding_is_a_strided_convolution(small_model: SegVol) -> None:
    image = torch.rand(2, 1, *SMALL.image, generator=torch.Generator().manual_seed(1))
    part = small_model.image_encoder.patch_embedding
    linear = part.patch_embeddings[1]
    kernel = linear.weight.view(SMALL.width, 1, *SMALL.patch)
    conv = F.conv3d(image, kernel, linear.bias, stride=SMALL.patch).flatten(2).transpose(1, 2)
    torch.testing.assert_close(part(image), conv + part.position_embeddings, atol=1e-5, rtol=1e-4)


def test_wrong_input_is_told(small_model: SegVol) -> None:
    with pytest.raises(InputError, match="resize or cut"):
        small_model.encode(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(InputError, match="2 images came with 1 prompt"):
        small_model.decode(torch.zeros(2, SMALL.width, *SMALL.grid), boxes=torch.zeros(1, 6))
    with pytest.raises(InputError, match="batch sizes"):
        small_model.prompt_encoder(boxes=torch.zeros(2, 6), text=torch.zeros(1, SMALL.width))
    with pytest.raises(InputError, match="not a multiple of patch"):
        SegVolConfig(image=(30, 256, 256))
    with pytest.raises(InputError, match="not divisible"):
        SegVolConfig(width=760)


@pytest.mark.parametrize("config", PRESETS.values())
def test_sizes_survive_their_header(config: SegVolConfig) -> None:
    assert SegVolConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="not SegVol's sizes"):
        SegVolConfig.from_dict({"width": 48})


def test_random_weights_follow_their_generator() -> None:
    first, same, other = (
        random_segvol(SMALL, torch.Generator().manual_seed(seed), text=True).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[k], same[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)
