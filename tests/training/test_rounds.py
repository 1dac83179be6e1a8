"""Rounds: clicks on the model's own errors, every round supervised, memory carried."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CELLS, make_cases, make_config, make_rounds
from torch import Tensor
from torch.utils.data import default_collate

from segvol_gru.base.compact import CompactBase, CompactConfig
from segvol_gru.correct.field import FieldConfig, FieldCorrector
from segvol_gru.errors import InputError
from segvol_gru.training.draw import Example
from segvol_gru.training.examples import Examples
from segvol_gru.training.program import Turn
from segvol_gru.training.rounds import (
    RoundsConfig,
    click_on_errors,
    corrupted,
    first_prompts,
    hard_dice,
    start_field_from_base,
)


def batch(count: int = 2, first: int = 0) -> Example:
    data = Examples(make_cases(), make_config().examples, 3, 100)
    found: Example = default_collate([data[first + i] for i in range(count)])
    return found


def turn(step: int = 0) -> Turn:
    return Turn(step, 10, np.random.default_rng([1, step]))


def masks(*corners: tuple[int, int]) -> Tensor:
    """Cubes from a to b along every axis: (B, 1, 8, 8, 8) float32."""
    out = torch.zeros(len(corners), 1, 8, 8, 8)
    for item, (a, b) in zip(out, corners, strict=True):
        item[0, a:b, a:b, a:b] = 1
    return out


def chance(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(count)]


def test_clicks_lie_on_errors_and_name_the_truth() -> None:
    """Missed, invented, and nothing wrong: positive, negative, none."""
    target, logits = masks((1, 6), (0, 0), (2, 5)), masks((0, 0), (1, 6), (2, 5)) - 0.5
    for share in (0.0, 1.0):
        points, labels = click_on_errors(logits, target, share, chance(3))
        assert labels.tolist() == [1, 0, -1]
        inside = points[:2].long()
        assert torch.all((inside >= 1) & (inside < 6))
    deepest, _ = click_on_errors(logits, target, 0.0, chance(3))
    assert deepest[0].tolist() == [3, 3, 3]


def test_clicks_of_an_item_do_not_depend_on_its_batch() -> None:
    target, logits = masks((1, 6), (2, 7)), masks((0, 0), (0, 0)) - 0.5
    both, _ = click_on_errors(logits, target, 1.0, chance(2))
    alone, _ = click_on_errors(logits[1:], target[1:], 1.0, chance(2)[1:])
    assert torch.equal(both[1:], alone)


def test_corrupted_masks_are_near_the_truth_but_wrong() -> None:
    target = torch.zeros(1, 32, 32, 32)
    target[0, 8:24, 8:24, 8:24] = 1
    dice = [
        hard_dice(corrupted(target, np.random.default_rng(seed))[None], target[None])
        for seed in range(12)
    ]
    assert min(dice) > 0.2
    assert np.mean(dice) < 0.98
    assert len(set(dice)) == 12


def test_hard_dice_by_hand() -> None:
    """Cubes of 8 and 64 voxels, one in the other: 2 * 8 / 72."""
    assert hard_dice(masks((2, 4)) - 0.5, masks((2, 6))) == pytest.approx(16 / 72)
    assert hard_dice(masks((2, 2)) - 0.5, masks((2, 2))) == 1


def test_every_round_has_a_loss_and_a_dice() -> None:
    for rounds in range(4):
        weights = tuple(float(i == rounds) for i in range(6))
        result = make_rounds(rounds=weights)(batch(), turn())
        assert len(result.losses) == len(result.dice) == 1 + rounds
        assert float(result.loss.detach()) >= sum(result.losses) - 1e-4


def test_rounds_come_as_often_as_their_weights_say() -> None:
    """The paper's weights: 2 and 3 rounds most often, 0 and 5 rarely."""
    model = make_rounds(rounds=(1, 3, 10, 10, 3, 1))
    played = [len(model(batch(1), turn(step)).losses) - 1 for step in range(60)]
    counts = np.bincount(played, minlength=6)
    assert counts[2:4].sum() > 30
    assert counts[[0, 5]].sum() < 12


def test_a_step_without_rounds_teaches_the_base() -> None:
    model = make_rounds(rounds=(1.0,))
    model.config = replace(model.config, base_share=0.01)
    model(batch(), turn()).loss.backward()
    assert all(p.grad is not None for p in model.base.parameters())


@pytest.mark.parametrize("wrong", [{"weights": (1, 2), "base_share": 0.0}, {"weights": (0, 0)}])
def test_rounds_that_can_teach_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="wanted"):
        RoundsConfig(**wrong)


def test_later_rounds_teach_what_is_remembered_earlier() -> None:
    """The memory carries gradient from the second round to what the first one kept."""
    model = make_rounds(rounds=(0, 0, 1))
    assert model.corrector is not None
    kept: list[Tensor] = []
    correct = model.corrector.correct

    def watched(
        image: Tensor, logits: Tensor, memory: Tensor, prompts: object
    ) -> tuple[Tensor, Tensor]:
        assert not logits.requires_grad  # each round answers for its own step
        after, memory = correct(image, logits, memory, prompts)  # type: ignore[arg-type]
        memory.retain_grad()
        kept.append(memory)
        return after, memory

    model.corrector.correct = watched  # type: ignore[method-assign]
    model(batch(), turn()).loss.backward()
    assert kept[0].grad is not None
    assert float(kept[0].grad.abs().sum()) > 0


def test_a_base_learns_to_correct_itself() -> None:
    """Every step plays rounds in which the base is asked again, with all clicks and its mask."""
    model = make_rounds(rounds=(0, 0, 0, 1))
    model.corrector = None
    model.config = replace(model.config, reprompt_share=1.0)
    asked: list[tuple[int, bool]] = []
    handle = model.base.register_forward_pre_hook(
        lambda _, given: asked.append((given[2].labels.shape[1], bool(given[1].any())))
    )
    result = model(batch(), turn())
    handle.remove()
    assert len(result.losses) == 4
    assert asked == [(1, False), (2, True), (3, True), (4, True)]  # a start has room for a click


def test_a_forgetful_corrector_begins_every_round_with_nothing() -> None:
    model = make_rounds(rounds=(0, 0, 0, 1))
    assert model.corrector is not None
    correct = model.corrector.correct
    seen: list[bool] = []

    def watched(*given: object) -> tuple[Tensor, Tensor]:
        seen.append(bool(given[2].any()))  # type: ignore[attr-defined]
        return correct(*given)  # type: ignore[arg-type]

    model.corrector.correct = watched  # type: ignore[method-assign]
    model(batch(), turn())
    model.config = replace(model.config, forget=True)
    model(batch(), turn())
    assert seen == [False, True, True] + [False] * 3


def test_a_field_corrector_starts_from_what_the_base_knows() -> None:
    """Its fresh answer is the base's, its gate nearly closed."""
    widths, blocks = (4, 4, 4, 4), (1, 1, 1, 1)
    base = CompactBase(CompactConfig(widths, blocks, 1, 4, CELLS))
    field = FieldCorrector(FieldConfig(widths, blocks, 1, 4, 4, CELLS))
    torch.nn.init.zeros_(field.recall.weight)
    torch.nn.init.zeros_(field.recall.bias)  # type: ignore[arg-type]
    start_field_from_base(field, base)
    example = batch()
    image, prompts = example["image"], first_prompts(example)
    logits = torch.zeros_like(image)
    with torch.no_grad():
        wanted = base(image, logits, prompts)
        got, _ = field.correct(image, logits, field.initial_memory(2), prompts)
    torch.testing.assert_close(got, torch.sigmoid(torch.tensor(-1.0)) * wanted, atol=1e-4, rtol=0)


def test_base_steps_sometimes_see_their_own_mask() -> None:
    model = make_rounds(corrector=False)
    seen: list[float] = []
    model.base.register_forward_pre_hook(lambda _, given: seen.append(float(given[1].abs().sum())))
    for step in range(12):
        model(batch(), turn(step))
    assert sum(value > 0 for value in seen) == len(seen) - 12 > 0
