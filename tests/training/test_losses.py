"""Losses against values derived by hand, and against MONAI's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses.hausdorff_loss import HausdorffDTLoss
from scipy import ndimage
from torch import Tensor

from segvol_gru.training.losses import (
    FAR_VOX,
    border_distance,
    consistency_loss,
    dice_loss,
    harm_loss,
    hausdorff_loss,
    segmentation_loss,
)

SURE = 30.0  # a logit whose probability is 0 or 1 in float32


def line(*values: float) -> Tensor:
    """A volume of one row: (1, 1, 1, 1, n)."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, -1)


def test_undecided_logits_against_two_of_eight_voxels() -> None:
    """p = 0.5: overlap 2 * (2 * 0.5) / (8 * 0.5 + 2) = 1 / 3, cross-entropy ln 2."""
    logits, target = line(*[0.0] * 8), line(1, 1, 0, 0, 0, 0, 0, 0)
    torch.testing.assert_close(dice_loss(logits, target), torch.tensor([2 / 3]), atol=1e-5, rtol=0)
    wanted = torch.tensor([2 / 3 + math.log(2)])
    torch.testing.assert_close(segmentation_loss(logits, target), wanted, atol=1e-5, rtol=0)


def test_every_item_has_its_own_loss() -> None:
    target = line(1, 1, 0, 0)
    right, wrong = SURE * (2 * target - 1), -SURE * (2 * target - 1)
    both = segmentation_loss(torch.cat([right, wrong]), torch.cat([target, target]))
    torch.testing.assert_close(both, torch.tensor([0.0, 1.0 + SURE]), atol=1e-4, rtol=0)


def test_only_getting_worse_is_harm() -> None:
    target = line(1, 1, 0, 0, 0, 0, 0, 0)
    good, undecided = SURE * (2 * target - 1), torch.zeros_like(target)
    good, undecided = dice_loss(good, target), dice_loss(undecided, target)
    harm = harm_loss(good, undecided)
    torch.testing.assert_close(harm, torch.tensor([2 / 3]), atol=1e-4, rtol=0)
    assert float(harm_loss(undecided, good)) == 0


def test_distances_to_the_border_by_hand() -> None:
    mask = line(0, 0, 1, 1, 1, 0).bool()
    assert border_distance(mask).flatten().tolist() == [2, 1, 1, 2, 1, 1]
    far = torch.zeros(1, 1, 1, 1, 40, dtype=torch.bool)
    far[..., 0] = True
    assert float(border_distance(far).max()) == FAR_VOX
    for none in (torch.zeros_like(far), torch.ones_like(far)):
        assert float(border_distance(none).max()) == 0


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_distances_are_scipys(seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random((5, 6, 7)) < 0.5
    wanted = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    found = border_distance(torch.from_numpy(mask)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, np.minimum(wanted, FAR_VOX), rtol=1e-6)


def test_a_sure_error_far_away_by_hand() -> None:
    """Truth 1 0 0 0, prediction 1 0 0 1: one wrong voxel, 3 from the true, 1 from its own border.

    (3^2 + 1^2) / 4 voxels / (2 FAR_VOX^2).
    """
    logits, target = line(SURE, -SURE, -SURE, SURE), line(1, 0, 0, 0)
    wanted = torch.tensor([10 / 4 / (2 * FAR_VOX**2)])
    torch.testing.assert_close(hausdorff_loss(logits, target), wanted)


def test_hausdorff_is_monais_where_nothing_is_far() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 1, 6, 7, 8, generator=generator)
    target = (torch.rand(3, 1, 6, 7, 8, generator=generator) < 0.4).float()
    ours = hausdorff_loss(logits, target) * 2 * FAR_VOX**2
    theirs = (
        HausdorffDTLoss(include_background=True, sigmoid=True, reduction="none")(logits, target)
        .flatten(1)
        .mean(1)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_hausdorff_pulls_stray_voxels_harder() -> None:
    logits = torch.zeros(1, 1, 1, 1, 12, requires_grad=True)
    target = line(*[1.0] * 2, *[0.0] * 10)
    hausdorff_loss(logits, target).sum().backward()
    assert logits.grad is not None
    slope = logits.grad.flatten()
    assert torch.all(slope[3:].diff() > 0)


def test_moving_what_was_right_is_inconsistent() -> None:
    """Two voxels were right, one of them went from 1 to 0.5: (0.5^2 + 0) / 2."""
    before, target = line(SURE, -SURE, SURE, -SURE), line(1, 0, 0, 1)
    after = line(0, -SURE, 0, 0)
    found = consistency_loss(before, after, target)
    torch.testing.assert_close(found, torch.tensor([0.125]))
    assert float(consistency_loss(before, -before, 1 - (before > 0).float())) == pytest.approx(0)
