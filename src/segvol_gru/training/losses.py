"""Losses on logits: overlap, voxel-wise agreement, borders, and no harm done by a click."""

from __future__ import annotations

import edt
import numpy as np
import torch
import torch.nn.functional as F
from monai.losses.dice import DiceLoss
from numpy.typing import NDArray
from torch import Tensor

FAR_VOX = 16.0  # errors farther from a border than this weigh no more
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
    return dice_loss(logits, target) + agreement_loss(logits, target)


def agreement_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy per item: (B, 1, D, H, W) twice -> (B,)."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return loss.mean((1, 2, 3, 4))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice loss per item: (B, 1, D, H, W) twice -> (B,)."""
    loss: Tensor = _dice(logits, target)
    return loss.flatten(1).mean(1)


def harm_loss(before: Tensor, after: Tensor) -> Tensor:
    """How much a click made the soft Dice worse, per item: 0 where it did not.

    Args:
        before: (B,) `dice_loss` of the logits the click was given on; carries no gradient.
        after: (B,) that of the corrected ones.

    Returns:
        (B,) float32.
    """
    return torch.relu(after - before.detach())


def hausdorff_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Errors weighed by how far they lie from the borders, per item; 1 at most.

    The smooth stand-in for the Hausdorff distance: the mean of
    (p - g)^2 (d_p^2 + d_g^2) / (2 FAR_VOX^2), d the distances to the border of the predicted and
    of the true mask, which carry no gradient.

    Args:
        logits: (B, 1, D, H, W) float32.
        target: (B, 1, D, H, W) float32 in {0, 1}.

    Returns:
        (B,) float32.

    Source: Karimi & Salcudean 2019, arXiv 1904.10030, the distance-transform form with alpha 2.
    """
    far = border_distance(logits.detach() > 0).square() + border_distance(target > 0.5).square()
    wrong = (logits.sigmoid() - target).square()
    return (wrong * far).mean((1, 2, 3, 4)) / (2 * FAR_VOX**2)


def border_distance(mask: Tensor) -> Tensor:
    """Distance in voxels from every voxel to the nearest one of the other side, capped.

    Args:
        mask: (B, 1, D, H, W) bool.

    Returns:
        (B, 1, D, H, W) float32 from 1 to `FAR_VOX`; 0 for a mask that is empty or full.
    """
    fields = [_border_distance(item) for item in mask[:, 0].cpu().numpy()]
    return torch.from_numpy(np.stack(fields))[:, None].to(mask.device)


def _border_distance(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    if mask.all() or not mask.any():
        return np.zeros(mask.shape, np.float32)
    # One call does both sides: labels 1 and 2, every voxel to the nearest other label.
    sides = np.ascontiguousarray(mask).view(np.uint8) + np.uint8(1)
    distance: NDArray[np.float32] = edt.edt(sides)
    return np.minimum(distance, np.float32(FAR_VOX))


def consistency_loss(before: Tensor, after: Tensor, target: Tensor) -> Tensor:
    """How much a correction moved what was right already, per item.

    Args:
        before: (B, 1, D, H, W) logits the click was given on.
        after: logits after the correction.
        target: in {0, 1}.

    Returns:
        (B,) float32: the mean squared change of probability over the voxels that `before` had
        right; 0 where it had none.
    """
    before = before.detach()
    right = ((before > 0) == (target > 0.5)).float()
    moved = (after.sigmoid() - before.sigmoid()).square() * right
    return moved.sum((1, 2, 3, 4)) / right.sum((1, 2, 3, 4)).clamp(min=1)
