"""Losses on logits: overlap, voxel-wise agreement, and no harm done by a click."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses.dice import DiceLoss
from torch import Tensor

_dice = DiceLoss(sigmoid=True, reduction="none")


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Dice + binary cross-entropy, per item.

    Args:
        logits: (B, 1, D, H, W) float32.
        target: (B, 1, D, H, W) float32 in {0, 1}.

    Returns:
        (B,) float32.

    Source: paper Table 2.
    """
    overlap = dice_loss(logits, target)
    agreement = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return overlap + agreement.mean((1, 2, 3, 4))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss per item: (B, 1, D, H, W) twice -> (B,)."""
    loss: Tensor = _dice(logits, target)
    return loss.flatten(1).mean(1)


def harm_loss(before: Tensor, after: Tensor, target: Tensor) -> Tensor:
    """How much a click made the soft Dice worse, per item: 0 where it did not.

    Args:
        before: (B, 1, D, H, W) logits the click was given on.
        after: logits after the correction.
        target: in {0, 1}.

    Returns:
        (B,) float32.
    """
    worse: Tensor = dice_loss(after, target) - dice_loss(before, target).detach()
    return torch.relu(worse)
