"""The paper's training of SegVol and its GRU corrector, round by round, in two stages.

    view ─► encode once ─► decode(box) ─► z0 ─► click ─► GRU ─► z1 ─► click ─► GRU ─► z2 ...
                 │              stages 1, 2: Dice + BCE of every mask
                 └────► decode(box, all clicks)
                                stage 2 only: the same, border distance, consistency with z0

Which stage a step belongs to follows from its number, so all ranks agree. Clicks are the
competition's, on the errors of the mask at hand.

Source: the paper, section 3.2 ("Interactive Optimization Strategy") and Table 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from segvol_gru.base.segvol import SegVol
from segvol_gru.correct.paper import PaperCorrector
from segvol_gru.correct.rules import obey
from segvol_gru.prompt_maps import CellPrompts
from segvol_gru.training.losses import consistency_loss, hausdorff_loss, segmentation_loss
from segvol_gru.training.program import Program, RoundsResult, Turn
from segvol_gru.training.rounds import CLICK_STREAM, click_on_errors, hard_dice
from segvol_gru.training.segvol_views import View

TIGHT = 1 / 3  # a competition box is tight along D alone


@dataclass(frozen=True)
class StagesConfig:
    """Rounds, stages and what they cost."""

    weights: tuple[float, ...] = (1, 3, 10, 10, 3, 1)
    """Weights of 0, 1, 2, ... rounds (paper 3.2: 2-3 most often, 1 and 4 less, 0 and 5 rarely)."""
    box_share: float = 0.08
    """Share of the run in stage 1, box losses alone: 2 of 25 epochs."""
    point: float = 1.0
    """Stage 2: weight of the masks that SegVol itself makes of box and clicks."""
    hausdorff: float = 1.0
    """Stage 2: weight of the border distance in every mask's loss after a click."""
    consistency: float = 1.0
    """Stage 2: weight of changes where the first mask was right."""
    random_click_share: float = 0.0
    """Share of clicks at a random voxel of the largest error instead of its deepest."""


class SegVolRounds(Program):
    """SegVol and the paper's corrector under training.

    Args:
        segvol: the network, without its text tower.
        corrector: the GRU.
        config: how to play.
    """

    def __init__(self, segvol: SegVol, corrector: PaperCorrector, config: StagesConfig) -> None:
        super().__init__()
        self.segvol, self.corrector, self.config = segvol, corrector, config

    def heavy(self) -> Iterable[nn.Module]:
        """See `Program`: the encoder's blocks and the decoder."""
        return [*self.segvol.image_encoder.blocks, self.segvol.mask_decoder]

    def second_stage(self, turn: Turn) -> bool:
        """Whether a step belongs to stage 2."""
        return turn.step >= self.config.box_share * turn.of

    def forward(self, batch: View, turn: Turn) -> RoundsResult:
        """Play one batch.

        Args:
            batch: collated views on the networks' device.
            turn: says the stage; its chance decides how many rounds are played.
        """
        config, target, second = self.config, batch["target"], self.second_stage(turn)
        chance = [np.random.default_rng([CLICK_STREAM, int(i)]) for i in batch["index"]]
        share = np.array(config.weights) / sum(config.weights)
        rounds = int(turn.chance.choice(len(share), p=share))
        embedding = self.segvol.encode(batch["image"])
        first = self.segvol.upsample(self.segvol.decode(embedding, boxes=batch["box"]))
        losses, dices = [segmentation_loss(first, target).mean()], [hard_dice(first, target)]
        logits, prompts = first.detach(), first_prompts(batch["box"])
        memory = self.corrector.initial_memory(len(target))
        for _ in range(rounds):
            clicks = click_on_errors(logits, target, config.random_click_share, chance)
            prompts = prompts.with_clicks(*clicks)
            after, memory = self.corrector.correct(batch["image"], logits, memory, prompts)
            losses.append(self._refined(first, after, target, second))
            logits = obey(after.detach(), prompts)
            dices.append(hard_dice(logits, target))
        loss = losses[0] + sum(losses[1:], torch.zeros_like(losses[0])) / max(rounds, 1)
        if second and rounds:
            loss = loss + config.point * self._prompted(embedding, batch, prompts)
        return RoundsResult(loss, tuple(float(x.detach()) for x in losses), tuple(dices))

    def _refined(self, first: Tensor, after: Tensor, target: Tensor, second: bool) -> Tensor:
        """What a corrected mask costs."""
        loss = segmentation_loss(after, target)
        if second:
            loss = loss + self.config.hausdorff * hausdorff_loss(after, target)
            loss = loss + self.config.consistency * consistency_loss(first, after, target)
        return loss.mean()

    def _prompted(self, embedding: Tensor, batch: View, prompts: CellPrompts) -> Tensor:
        """What the mask costs that SegVol makes of the box and all clicks."""
        points = (prompts.points, prompts.labels)
        logits = self.segvol.upsample(self.segvol.decode(embedding, points, batch["box"]))
        loss = segmentation_loss(logits, batch["target"])
        loss = loss + self.config.hausdorff * hausdorff_loss(logits, batch["target"])
        return loss.mean()


def first_prompts(boxes: Tensor) -> CellPrompts:
    """Boxes as the corrector knows them, no clicks yet.

    Args:
        boxes: (B, 6) corners in voxels, the larger inclusive; negative where there is none.
    """
    half = torch.tensor([-0.5] * 3 + [0.5] * 3, device=boxes.device)
    there = boxes[:, :1] >= 0
    return CellPrompts(
        points=boxes.new_zeros(len(boxes), 0, 3),
        labels=torch.zeros(len(boxes), 0, dtype=torch.int64, device=boxes.device),
        box=torch.where(there, boxes + half, torch.nan),
        tight=there[:, 0] * TIGHT,
        cell_mm=boxes.new_ones(len(boxes), 3),
    )
