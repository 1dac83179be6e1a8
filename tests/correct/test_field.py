"""The field corrector: gate, memory, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from segvol_gru.correct.field import (
    CHANNELS,
    ConvGRU,
    FieldConfig,
    FieldCorrector,
    field_channels,
)
from segvol_gru.correct.rules import NEAR_CELLS
from segvol_gru.likeness import see

SMALL = FieldConfig(
    widths=(8, 12, 16), encoder_blocks=(1, 1, 1), head_width=4, memory_width=5, cells=16
)
FIRST, SECOND = ((4, 8, 8), 1), ((12, 3, 9), 0)


def corrector():
    """A corrector with weights from a fixed seed; at the start, zero weights hide gradients."""
    network = FieldCorrector(SMALL)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return network


def inputs(batch=1):
    generator = torch.Generator().manual_seed(4)
    shape = (batch, 1, 16, 16, 16)
    return tuple(torch.randn(shape, generator=generator) for _ in range(2))


def test_shapes_and_precision(prompts):
    network, (image, logits) = corrector(), inputs(2)
    memory = network.initial_memory(2)
    assert memory.shape == (2, 5, 4, 4, 4)
    before = logits.clone()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        after, later = network.correct(image, logits, memory, prompts([FIRST], [SECOND]))
    assert (after.shape, later.shape) == (logits.shape, memory.shape)
    assert after.dtype == later.dtype == torch.float32
    assert torch.equal(logits, before)
    assert not memory.any()


def test_same_inputs_same_outputs(prompts):
    network, (image, logits) = corrector(), inputs()
    asked, memory = prompts([FIRST]), network.initial_memory(1)
    one = network.correct(image, logits, memory, asked)
    two = network.correct(image, logits, memory, asked)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def test_closed_gate_keeps_the_logits(prompts):
    network, (image, logits) = corrector(), inputs()
    with torch.no_grad():
        network.unet.head.weight[1] = 0
        network.unet.head.bias[1] = -1e4
    after, memory = network.correct(image, logits, network.initial_memory(1), prompts([FIRST]))
    assert torch.equal(after, logits)
    assert memory.any()


def test_open_gate_takes_the_fresh_logits(prompts):
    network, (image, logits) = corrector(), inputs()
    with torch.no_grad():
        network.unet.head.weight[:] = 0
        network.unet.head.bias[:] = torch.tensor([2.5, 1e4])
    after, _ = network.correct(image, logits, network.initial_memory(1), prompts([FIRST]))
    torch.testing.assert_close(after, torch.full_like(after, 2.5))


@torch.no_grad()
def test_a_negative_click_leaves_what_is_far_and_looks_different(prompts):
    network, (_, logits) = corrector(), inputs()
    network.unet.head.weight[:] = 0
    network.unet.head.bias[:] = torch.tensor([-50.0, 1e4])  # takes everything away
    image = torch.zeros(1, 1, 16, 16, 16)
    image[..., 8:] = 30.0
    memory, at = network.initial_memory(1), (0, 0, 0)
    added, _ = network.correct(image, logits, memory, prompts([(at, 1)]))
    torch.testing.assert_close(added, torch.full_like(logits, -50.0))
    removed, _ = network.correct(image, logits, memory, prompts([(at, 0)]))
    torch.testing.assert_close(removed[..., :8], torch.full((1, 1, 16, 16, 8), -50.0))
    far, before = removed[0, 0, 15, 15, 15], logits[0, 0, 15, 15, 15]
    share = 2 * np.exp(-3 * 15**2 / (2 * NEAR_CELLS**2))
    assert float(far) == pytest.approx(float(before + share * (-50 - before)), rel=1e-4)


def test_gradients_reach_every_parameter(prompts):
    network, (image, logits) = corrector(), inputs(2)
    memory, loss = network.initial_memory(2), torch.zeros(())
    for asked in (prompts([FIRST], [SECOND]), prompts([FIRST, SECOND], [SECOND, FIRST])):
        after, memory = network.correct(image, logits, memory, asked)
        loss = loss + (after * logits).sum()
        logits = after.detach()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_memory_changes_the_answer_and_can_be_restored(prompts):
    network, (image, logits) = corrector(), inputs()
    empty = network.initial_memory(1)
    _, kept = network.correct(image, logits, empty, prompts([FIRST]))
    asked = prompts([FIRST, SECOND])
    once, _ = network.correct(image, logits, kept, asked)
    network.correct(image, logits, kept, prompts([FIRST, FIRST]))  # a click that is taken back
    again, _ = network.correct(image, logits, kept, asked)
    forgotten, _ = network.correct(image, logits, empty, asked)
    assert torch.equal(once, again)
    assert not torch.equal(once, forgotten)


def convolved(field, conv):
    """(c, d, h, w) through a 3x3x3 convolution with zero padding, by scipy."""
    weight, bias = conv.weight.detach().double().numpy(), conv.bias.detach().double().numpy()
    return np.stack(
        [
            b + sum(ndimage.correlate(f, k, mode="constant") for f, k in zip(field, w, strict=True))
            for w, b in zip(weight, bias, strict=True)
        ]
    )


def test_conv_gru_equals_the_unrolled_equations():
    generator = torch.Generator().manual_seed(5)
    gru = ConvGRU(2, 3)
    hidden = torch.zeros(1, 3, 4, 5, 6)
    expected = hidden[0].double().numpy()
    for _ in range(3):
        x = torch.randn(1, 2, 4, 5, 6, generator=generator)
        hidden = gru(x, hidden)
        both = np.concatenate([x[0].double().numpy(), expected])
        gates = 1 / (1 + np.exp(-convolved(both, gru.gates)))
        update, reset = gates[:3], gates[3:]
        gated = np.concatenate([both[:2], reset * expected])
        proposal = np.tanh(convolved(gated, gru.proposal))
        expected = (1 - update) * expected + update * proposal
        np.testing.assert_allclose(hidden[0].detach().numpy(), expected, atol=1e-5)


def test_channels_by_hand(prompts):
    logits = torch.zeros(1, 1, 16, 16, 16)
    logits[..., 8:] = 4.0  # mask: x >= 8
    clicks = prompts([((5, 5, 5), 1), ((9, 9, 9), 0)])
    x = field_channels(see(torch.ones_like(logits)), logits, clicks)
    assert x.shape == (1, CHANNELS, 16, 16, 16)
    at_add, at_remove = x[0, :, 5, 5, 5].tolist(), x[0, :, 9, 9, 9].tolist()
    # image, box, trusted box, tanh(z/4), +, -, 6 of likeness, 4p(1-p), newest, error, the mask's
    # looks, joined to + and to -
    assert at_add[:5] == pytest.approx([1, 0, 0, 0, 1])
    assert at_add[6:8] == [1, 1]
    assert at_add[12] == 1
    assert at_add[14] == pytest.approx(1)
    assert at_add[16:] == [1, 1]  # the image is one intensity throughout
    p = 1 / (1 + np.exp(-4))
    assert at_remove[3] == pytest.approx(np.tanh(1))
    assert at_remove[5] == 1
    assert at_remove[12:15] == pytest.approx([4 * p * (1 - p), -1, -1], rel=1e-5)


def test_features_count_for_nothing_until_trained(prompts):
    config = FieldConfig(widths=(8, 16, 16, 16), cells=16, memory_width=8)
    plain, hearing = (
        FieldCorrector(config).eval(),
        FieldCorrector(replace(config, features=5)).eval(),
    )
    hearing.load_state_dict(plain.state_dict())
    generator = torch.Generator().manual_seed(0)
    image, logits, features = (
        torch.randn(1, n, 16, 16, 16, generator=generator) for n in (1, 1, 5)
    )
    clicks = prompts([FIRST])
    memory = plain.initial_memory(1)
    with torch.no_grad():
        expected = plain.correct(image, logits, memory, clicks)
        both = torch.cat([image, features], 1)
        for seen in (image, both):
            for a, b in zip(expected, hearing.correct(seen, logits, memory, clicks), strict=True):
                assert torch.equal(a, b)
        hearing.project.weight.fill_(0.1)
        assert not torch.equal(expected[0], hearing.correct(both, logits, memory, clicks)[0])
    back = FieldCorrector(hearing.config)
    back.load_state_dict(hearing.state_dict())
    assert torch.equal(back.project.weight, hearing.project.weight)
    with pytest.raises(RuntimeError, match="project"):
        plain.load_state_dict(hearing.state_dict())
