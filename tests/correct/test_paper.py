"""The paper's corrector: memory carried, one click at a time, in the right frame and unit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segvol_gru.correct.features import FEATURES
from segvol_gru.correct.paper import PaperConfig, PaperCorrector
from segvol_gru.errors import InputError

SIDE = 12
SMALL = PaperConfig(points=24, width=16, layers=2, radius_cells=3.0)


def corrector(config=SMALL, spread=0.3):
    """A corrector with weights from a fixed seed, far from the start."""
    network = PaperCorrector(config)
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=generator))
    return network


def ball(batch=1, radius=3.5):
    """Logits of a ball, soft enough for an uncertain border: (B, 1, 12, 12, 12)."""
    at = torch.arange(SIDE) - 5.5
    distance = (at.view(-1, 1, 1) ** 2 + at.view(-1, 1) ** 2 + at**2).sqrt()
    return 2 * (radius - distance).expand(batch, 1, SIDE, SIDE, SIDE).contiguous()


ADD, REMOVE = ((5, 5, 10), 1), ((5, 5, 7), 0)
NONE = ((0, 0, 0), -1)


def play(network, logits, *rounds):
    """Run rounds of prompts; logits and memory after each."""
    memory, out = network.initial_memory(len(logits)), []
    for asked in rounds:
        logits, memory = network.correct(torch.zeros_like(logits), logits, memory, asked)
        out.append((logits, memory))
    return out


def test_size_at_defaults():
    network = PaperCorrector()
    assert sum(p.numel() for p in network.parameters()) == 1_838_180 < 2_000_000
    assert network.initial_memory(3).shape == (3, 1, 256)


def test_start_is_a_brush(prompts):
    logits, network = ball(), PaperCorrector(SMALL)
    ((after, _),) = play(network, logits, prompts([REMOVE]))
    changed = after != logits
    assert 0 < int(changed.sum()) <= 2 * SMALL.points
    assert ((after > 0) <= (logits > 0)).all()
    assert int((after > 0).sum()) < int((logits > 0).sum()) - SMALL.points // 2
    ((after, _),) = play(network, logits, prompts([ADD]))
    assert ((after > 0) >= (logits > 0)).all()
    assert int((after > 0).sum()) > int((logits > 0).sum()) + SMALL.points // 2


@pytest.mark.parametrize("sampling", ["paper", "stratified"])
def test_only_points_change(prompts, sampling):
    network = corrector(PaperConfig(points=24, width=16, sampling=sampling, offset_cells=0.0))
    logits, asked = ball(), prompts([ADD, REMOVE])
    chosen = network.choose(logits, asked)
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    for z, y, x in chosen.coordinates[0][chosen.valid[0]].tolist():
        allowed[0, 0, z, y, x] = True
    before = logits.clone()
    ((after, _),) = play(network, logits, asked)
    assert torch.equal(logits, before)
    assert torch.equal(after != logits, allowed)


@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_sequence_form_equals_step_form(steps, batch, seed):
    network, generator = corrector(), torch.Generator().manual_seed(seed)
    history = torch.rand(batch, steps, 2, SMALL.points, FEATURES, generator=generator)
    whole = network(history, network.initial_memory(batch))
    memory = network.initial_memory(batch)
    for t in range(steps):
        step = network(history[:, t : t + 1], memory)
        memory = step.memory
        torch.testing.assert_close(step.p_prob[:, 0], whole.p_prob[:, t])
        torch.testing.assert_close(step.offset[:, 0], whole.offset[:, t])
    torch.testing.assert_close(memory, whole.memory)


def test_answers_by_hand():
    """One point per set, width 1, every GRU weight 0: h stays 0 and the heads are what is left."""
    network = PaperCorrector(PaperConfig(points=1, width=1))
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    network.point.weight.data[0, 3] = 2.0
    network.slots.bias.data[1 * 4 + 3] = 1.0  # set E, third axis of dC
    x = torch.zeros(1, 1, 2, 1, 8)
    x[0, 0, 0, 0, 3], x[0, 0, 1, 0, 3] = 0.5, 1.0
    answer = network(x, network.initial_memory(1))
    assert answer.p_prob.flatten().tolist() == pytest.approx([0.7310586, 0.8807971])
    assert answer.offset.flatten().tolist() == pytest.approx([0, 0, 0, 0, 0, 0.7615942])
    assert not answer.memory.any()


def test_both_sets_are_answered_after_both_are_read():
    network = corrector()
    history = torch.zeros(1, 1, 2, SMALL.points, FEATURES)
    plain = network(history, network.initial_memory(1)).p_prob
    for changed, other in ((0, 1), (1, 0)):
        x = history.clone()
        x[:, :, changed] = 1.0
        answer = network(x, network.initial_memory(1)).p_prob
        assert not torch.equal(answer[:, :, other], plain[:, :, other])


def test_offsets_move_the_writes(prompts):
    network, logits = PaperCorrector(SMALL), ball()
    asked = prompts([ADD])
    chosen = network.choose(logits, asked)
    with torch.no_grad():
        network.point.bias[1:] = torch.tensor([0.0, -50.0, 0.0])  # dC = (0, -1, 0)
    ((after, _),) = play(network, logits, asked)
    moved = chosen.coordinates[0][chosen.valid[0]] - torch.tensor([0, 1, 0])
    written = torch.zeros_like(logits, dtype=torch.bool)
    for z, y, x in moved.clamp(min=0).tolist():
        written[0, 0, z, y, x] = True
    assert SMALL.offset_cells == 1
    assert torch.equal(after != logits, written)


def test_memory_changes_the_answer(prompts):
    network = corrector()
    first, second = prompts([ADD]), prompts([ADD, REMOVE])
    (logits, _), (kept, _) = play(network, ball(), first, second)
    ((forgotten, _),) = play(network, logits, second)
    assert not torch.equal(kept, forgotten)


def test_undo_is_going_back_to_the_old_memory(prompts):
    network = corrector()
    first, wrong, second = (prompts([ADD, c][:n]) for n, c in ((1, ADD), (2, ADD), (2, REMOVE)))
    (logits, memory), once = play(network, ball(), first, second)
    network.correct(logits, logits, memory, wrong)  # a click that is taken back
    again = network.correct(logits, logits, memory, second)
    assert torch.equal(again[0], once[0])
    assert torch.equal(again[1], once[1])


def test_same_inputs_same_outputs_whatever_the_global_seed(prompts):
    runs = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            runs.append(play(corrector(), ball(), prompts([ADD]), prompts([ADD, REMOVE])))
    for (logits, memory), (logits2, memory2) in zip(*runs, strict=True):
        assert torch.equal(logits, logits2)
        assert torch.equal(memory, memory2)


def test_draws_differ_between_clicks_and_seeds(prompts):
    logits = torch.full((1, 1, SIDE, SIDE, SIDE), -4.0)
    one, two = prompts([ADD, NONE]), prompts([ADD, ADD])
    draws = [corrector().choose(logits, p).coordinates[0, 1] for p in (one, two)]
    other = PaperConfig(points=24, width=16, radius_cells=3.0, seed=1)
    draws.append(corrector(other).choose(logits, one).coordinates[0, 1])
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_items_without_a_new_click_stay_as_they_are(prompts):
    network, logits = corrector(), ball(3)
    first = prompts([ADD], [ADD], [NONE])
    second = prompts([ADD, REMOVE], [ADD, NONE], [NONE, NONE])
    (once, memory), (twice, later) = play(network, logits, first, second)
    for b, steps in enumerate((2, 1, 0)):
        assert torch.equal(once[b], logits[b]) == (steps < 1)
        assert torch.equal(twice[b], once[b]) == (steps < 2)
        assert torch.equal(later[b], memory[b]) == (steps < 2)
    assert not later[2].any()
    ((none, zero),) = play(network, logits, prompts([], [], []))
    assert torch.equal(none, logits)
    assert not zero.any()


def test_an_item_does_not_depend_on_its_batch(prompts):
    network = corrector()
    logits = torch.cat([ball(), ball(1, 4.5)])
    both = play(network, logits, prompts([ADD], [REMOVE]), prompts([ADD, NONE], [REMOVE, ADD]))
    alone = play(network, logits[1:], prompts([REMOVE]), prompts([REMOVE, ADD]))
    for (z, memory), (z1, memory1) in zip(both, alone, strict=True):
        torch.testing.assert_close(z[1:], z1)
        torch.testing.assert_close(memory[1:], memory1)


@pytest.mark.parametrize("sampling", ["paper", "stratified"])
def test_gradients_reach_every_parameter(prompts, sampling):
    network = corrector(PaperConfig(points=24, width=16, layers=2, sampling=sampling))
    logits, memory, loss = ball(2), network.initial_memory(2), torch.zeros(())
    slope = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    for asked in (prompts([ADD], [REMOVE]), prompts([ADD, REMOVE], [REMOVE, ADD])):
        after, memory = network.correct(logits, logits, memory, asked)
        loss = loss + (slope * after).sum()
        logits = after.detach()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_memory_carries_gradient_from_later_clicks(prompts):
    network = corrector()
    (logits, memory), _ = play(network, ball(), prompts([ADD]), prompts([ADD, REMOVE]))
    memory.retain_grad()
    after, _ = network.correct(logits, logits.detach(), memory, prompts([ADD, REMOVE]))
    after.sum().backward()
    assert memory.grad.any()


def test_training_lowers_the_loss(prompts):
    network = PaperCorrector(SMALL)
    logits, target = ball(), (ball(1, 5.0) > 0).float()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        ((after, _),) = play(network, logits, prompts([ADD]))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(after, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    before = float(torch.nn.functional.binary_cross_entropy_with_logits(logits, target))
    assert losses[0] < before
    assert losses[-1] < losses[0]


def test_autocast_and_inference_mode_change_nothing(prompts):
    network, rounds = corrector(), (prompts([ADD]), prompts([ADD, REMOVE]))
    plain = play(network, ball(), *rounds)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        fast = play(network, ball(), *rounds)
    for (logits, memory), (logits2, memory2) in zip(plain, fast, strict=True):
        assert logits2.dtype == memory2.dtype == torch.float32
        assert torch.equal(logits, logits2)
        assert torch.equal(memory, memory2)


def test_config_survives_a_round_trip():
    config = PaperConfig(sampling="stratified", seed=3)
    assert PaperConfig(**config.to_dict()) == config
    with pytest.raises(InputError, match="sampling is 'best'"):
        PaperConfig(sampling="best")
