"""The eight numbers of a point, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segvol_gru.correct.features import FEATURES, first_click, state_tensor
from segvol_gru.correct.sampling import Candidates, sample_paper


def test_eight_numbers_by_hand(prompts):
    candidates = Candidates(
        coordinates=torch.tensor([[[[1, 2, 3], [0, 0, 0]], [[3, 0, 4], [2, 2, 2]]]]),
        valid=torch.tensor([[[True, False], [True, True]]]),
        p_prob=torch.tensor([[[0.375, 0.0], [0.75, 0.25]]]),
        label=torch.tensor([[[-1, -1], [0, 1]]]),
    )
    clicks = [((9, 9, 9), -1), ((1, 2, 1), 1), ((3, 0, 4), 0)]
    x = state_tensor(candidates, prompts(clicks), (4, 8, 16))
    first = [0.25, 0.25, 0.0625]
    assert x[0].tolist() == [
        [[0.25, 0.25, 0.1875, 0.375, 1, *first], [0] * 8],
        [[0.75, 0, 0.25, 0, 1, *first], [0.5, 0.25, 0.125, 1, 1, *first]],
    ]
    assert x.dtype == torch.float32


def test_first_click_is_the_oldest_given(prompts):
    several = prompts(
        [((1, 1, 1), 1), ((2, 2, 2), 0)],
        [((1, 1, 1), -1), ((2, 2, 2), 0)],
        [((1, 1, 1), -1), ((2, 2, 2), -1)],
    )
    assert first_click(several).tolist() == [[1, 1, 1], [2, 2, 2], [0, 0, 0]]
    assert first_click(prompts([])).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("k", [1, 7])
@given(st.integers(0, 2**31), st.integers(-3, 9), st.sampled_from([0, 1]))
@settings(deadline=None)
def test_features_are_normalised_and_padding_is_zero(prompts, k, seed, place, label):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(1, 1, 3, 5, 7, generator=generator)
    asked = prompts([((place, 2, place), label)])
    candidates = sample_paper(logits, asked, k, 2.0, [generator])
    x = state_tensor(candidates, asked, (3, 5, 7))
    assert x.shape == (1, 2, k, FEATURES)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert torch.equal(x[..., 4] == 1, candidates.valid)
    assert not x[~candidates.valid].any()
    size = torch.tensor([3.0, 5.0, 7.0])
    valid = candidates.valid
    assert torch.equal((x[..., :3] * size).round().long()[valid], candidates.coordinates[valid])
