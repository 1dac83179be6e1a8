"""Rounds of interaction on the model's own errors: what training backpropagates through.

    box ─► base ─► z0 ─► click on its error ─► corrector ─► z1 ─► click ─► corrector ─► z2 ...
             │ loss 0                             │ loss 1                     │ loss 2

Logits are detached between rounds (each round answers for its own step); the memory is not, so
the GRU learns what to keep for later rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from segvol_gru.base.compact import CompactBase
from segvol_gru.correct import Corrector
from segvol_gru.correct.field import FieldCorrector
from segvol_gru.correct.reprompt import Reprompt
from segvol_gru.correct.rules import obey
from segvol_gru.errors import InputError
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.simulate import next_click, random_error_click
from segvol_gru.training.draw import Example
from segvol_gru.training.losses import agreement_loss, dice_loss, harm_loss, segmentation_loss
from segvol_gru.training.program import Program, RoundsResult, Turn
from segvol_gru.unet import ResidualUNet

CLICK_STREAM = 5  # first word of the seed of an example's clicks


@dataclass(frozen=True)
class RoundsConfig:
    """How many rounds, on which masks, and what they cost."""

    weights: tuple[float, ...] = (0, 3, 10, 10, 3, 1)
    """Weights of 0, 1, 2, ... rounds (paper 3.2, code: 1, 3, 10, 10, 3, 1)."""
    reprompt_share: float = 0.1
    """Share of base steps that play the same rounds with the base as its own corrector."""
    corrupted_share: float = 0.2
    """Share of items whose first mask is a corrupted truth instead of the base's."""
    base_share: float = 0.5
    """Share of steps with rounds that also train the base on its first mask; a step without
    rounds has nothing else to teach, and always does."""
    forget: bool = False
    """Empty the memory before every click, to see what it is worth."""
    random_click_share: float = 0.25
    """Share of clicks at a random voxel of the largest error instead of its deepest."""
    harm: float = 1.0
    """Weight of the loss on steps that make the mask worse."""

    def __post_init__(self) -> None:
        if not (sum(self.weights) > 0 and min(self.weights) >= 0):
            raise InputError(f"weights are {self.weights}, wanted none below 0 and one above.")
        if self.weights[0] and not self.base_share:
            raise InputError(
                f"weights[0] is {self.weights[0]} and base_share 0, wanted one of them the other "
                "way: a step without rounds that leaves the base alone teaches nothing."
            )


@torch.no_grad()
def start_field_from_base(field: FieldCorrector, base: CompactBase) -> None:
    """Give a field corrector what the base has learnt.

    The corrector's first input channels and first output are the base's; the channels only it
    has start at zero, its gate nearly closed.
    """
    ours, theirs = field.unet.state_dict(), base.unet.state_dict()
    for key, value in theirs.items():
        if ours[key].shape == value.shape:
            ours[key].copy_(value)
    for key in ("stem.weight", "from_input.weight"):
        ours[key].zero_()[:, : theirs[key].shape[1]] = theirs[key]
    ours["head.weight"].zero_()[:1] = theirs["head.weight"]
    ours["head.bias"][:1] = theirs["head.bias"]
    ours["head.bias"][1] = -1.0


def first_prompts(batch: Example) -> CellPrompts:
    """The prompts that a collated batch of examples starts with."""
    return CellPrompts(
        points=batch["point"][:, None],
        labels=batch["label"][:, None],
        box=batch["box"],
        tight=batch["tight"],
        cell_mm=torch.ones_like(batch["point"]),
    )


def click_on_errors(
    logits: Tensor, target: Tensor, random_share: float, generators: Sequence[np.random.Generator]
) -> tuple[Tensor, Tensor]:
    """One click per item by the competition's rule, or at random in the largest error.

    Args:
        logits: (B, 1, D, H, W) current logits.
        target: (B, 1, D, H, W) in {0, 1}.
        random_share: how often a random voxel is taken.
        generators: one per item, so that an item's clicks do not depend on its batch.

    Returns:
        (B, 3) float32 cells and (B,) int64 labels, -1 where there is no error.
    """
    predictions: NDArray[np.bool_] = (logits[:, 0] > 0).cpu().numpy()
    truths: NDArray[np.bool_] = (target[:, 0] > 0.5).cpu().numpy()
    points, labels = torch.zeros(len(truths), 3), torch.full((len(truths),), -1)
    items = zip(truths, predictions, generators, strict=True)
    for i, (gt, pred, generator) in enumerate(items):
        if generator.random() < random_share:
            click = random_error_click(gt, pred, generator)
        else:
            click = next_click(gt, pred)
        if click is not None:
            points[i] = torch.tensor(click[0], dtype=torch.float32)
            labels[i] = int(click[1])
    return points.to(logits.device), labels.to(logits.device)


def corrupted(target: Tensor, generator: np.random.Generator) -> Tensor:
    """Logits of a wrong mask: the truth grown, shrunk, cut and leaking, smoothly.

    Args:
        target: (1, D, H, W) float32 in {0, 1}.
        generator: source of the errors.

    Returns:
        (1, D, H, W) float32 logits.
    """
    size = int(generator.choice([3, 5, 9]))
    soft = F.avg_pool3d(target[None], size, stride=1, padding=size // 2)[0]
    knots = int(generator.integers(3, 9))
    noise = torch.from_numpy(generator.standard_normal((1, 1, knots, knots, knots))).float()
    wave = F.interpolate(noise.to(target), size=target.shape[1:], mode="trilinear")[0]
    level = soft - 0.5 + float(generator.uniform(0.1, 0.5)) * wave
    return (level * float(generator.uniform(8, 24))).clamp(-6, 6)


class Rounds(Program):
    """Base and corrector under training.

    Args:
        base: the compact base.
        corrector: a corrector, or None while only the base trains.
        config: how to play.
    """

    def __init__(
        self, base: CompactBase, corrector: Corrector | None, config: RoundsConfig
    ) -> None:
        super().__init__()
        self.base, self.corrector, self.config = base, corrector, config

    def forward(self, batch: Example, turn: Turn) -> RoundsResult:
        """Play one batch.

        Args:
            batch: collated examples on the model's device.
            turn: its chance decides how many rounds are played and what is trained.
        """
        chance = [np.random.default_rng([CLICK_STREAM, int(i)]) for i in batch["index"]]
        if self.corrector is None:
            return self._train_base(batch, turn.chance, chance)
        return self._train_corrector(batch, self.corrector, turn.chance, chance)

    def heavy(self) -> Iterable[nn.Module]:
        """See `Program`: the U-Nets, one call of which is kept at a time."""
        return [part for part in self.modules() if isinstance(part, ResidualUNet)]

    def _train_base(
        self, batch: Example, schedule: np.random.Generator, chance: list[np.random.Generator]
    ) -> RoundsResult:
        if schedule.random() < self.config.reprompt_share:
            return self._train_corrector(batch, Reprompt(self.base), schedule, chance)
        prompts, logits = first_prompts(batch), torch.zeros_like(batch["image"])
        out = self.base(batch["image"], logits, prompts)
        loss = segmentation_loss(out, batch["target"]).mean()
        return RoundsResult(loss, (float(loss.detach()),), (hard_dice(out, batch["target"]),))

    def _train_corrector(
        self,
        batch: Example,
        corrector: Corrector,
        schedule: np.random.Generator,
        chance: list[np.random.Generator],
    ) -> RoundsResult:
        config, image, target = self.config, batch["image"], batch["target"]
        share = np.array(config.weights) / sum(config.weights)
        rounds = int(schedule.choice(len(share), p=share))
        prompts, nothing = first_prompts(batch), torch.zeros_like(image)
        with torch.set_grad_enabled(schedule.random() < config.base_share or not rounds):
            logits = self.base(image, nothing, prompts)
        losses = [segmentation_loss(logits, target).mean()]
        harm = torch.zeros_like(losses[0])
        dices = [hard_dice(logits, target)]
        logits = self._spoilt(logits.detach(), target, chance)
        memory = corrector.initial_memory(len(image))
        for _ in range(rounds):
            points, labels = click_on_errors(logits, target, config.random_click_share, chance)
            prompts = prompts.with_clicks(points, labels)
            if config.forget:
                memory = corrector.initial_memory(len(image))
            after, memory = corrector.correct(image, logits, memory, prompts)
            told = labels >= 0
            overlap = dice_loss(after, target)
            losses.append(((overlap + agreement_loss(after, target)) * told).mean())
            harm = harm + (harm_loss(dice_loss(logits, target), overlap) * told).mean()
            logits = obey(after.detach(), prompts)
            dices.append(hard_dice(logits, target))
        loss = torch.stack(losses).sum() + config.harm * harm
        return RoundsResult(loss, tuple(float(x.detach()) for x in losses), tuple(dices))

    def _spoilt(self, logits: Tensor, target: Tensor, chance: list[np.random.Generator]) -> Tensor:
        """The same first masks, but for some items a corrupted truth."""
        logits = logits.clone()
        for i, generator in enumerate(chance):
            if generator.random() < self.config.corrupted_share:
                logits[i] = corrupted(target[i], generator)
        return logits


def hard_dice(logits: Tensor, target: Tensor) -> float:
    """Mean Dice of the masks at logit 0; 1 where mask and target are empty."""
    mask, truth = (logits > 0).flatten(1), (target > 0.5).flatten(1)
    both, sizes = (mask & truth).sum(1), mask.sum(1) + truth.sum(1)
    return float(torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).mean())
