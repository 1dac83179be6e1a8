"""The residual U-Net and the maps that show it prompts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from segvol_gru.errors import InputError
from segvol_gru.likeness import box_likeness, ranks, see
from segvol_gru.prompt_maps import (
    COMMON_CHANNELS,
    CellPrompts,
    box_maps,
    click_maps,
    common_maps,
    newest,
    shown,
)
from segvol_gru.unet import Conv3d, ResidualBlock, ResidualUNet


def prompts(box: list[float], tight: float = 1.0) -> CellPrompts:
    none = torch.full((1, 1), -1)
    return CellPrompts(
        torch.zeros(1, 1, 3), none, torch.tensor([box]), torch.tensor([tight]), torch.ones(1, 3)
    )


def test_a_convolution_is_pytorch_s_on_every_path() -> None:
    torch.manual_seed(0)
    ours = Conv3d(3, 5, 3, padding=1, stride=2)
    plain = nn.Conv3d(3, 5, 3, padding=1, stride=2)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 6, 7, 8)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), plain(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(x).dtype == torch.bfloat16
    assert torch.equal(ours(x), plain(x))
    assert ours(x).requires_grad


def test_a_fresh_block_is_the_identity() -> None:
    x = torch.randn(2, 16, 4, 4, 4)
    assert torch.equal(ResidualBlock(16)(x), x)


def test_the_network_keeps_the_resolution_and_reaches_every_weight() -> None:
    torch.manual_seed(0)
    net = ResidualUNet(3, 2, (8, 16, 16), (1, 1, 1), 1, 8)
    for module in net.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.ones_(module.weight)
    out = net(torch.randn(2, 3, 16, 24, 8))
    assert out.shape == (2, 2, 16, 24, 8)
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())


def test_the_memory_hook_sees_a_quarter_of_the_resolution() -> None:
    net = ResidualUNet(1, 1, (8, 16, 16), (1, 1, 1), 1, 8)
    seen = []

    def hook(features: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(features.shape))
        return features

    net(torch.randn(1, 1, 16, 16, 16), hook)
    assert seen == [(1, 16, 4, 4, 4)]


def test_box_maps_hold_the_share_of_each_cell() -> None:
    """Faces from -0.5 to 1.0 along D: the first cell is inside, of the second a half."""
    inside, trusted = box_maps(prompts([-0.5, -0.5, -0.5, 1.0, 3.5, 3.5], 1 / 3), (4, 4, 4))[0]
    assert inside[:, 0, 0].tolist() == [1.0, 0.5, 0.0, 0.0]
    assert torch.allclose(trusted, inside / 3)


def test_no_box_shows_nothing() -> None:
    assert not box_maps(prompts([torch.nan] * 6, 0.0), (4, 4, 4)).any()


def test_click_maps_peak_at_the_chosen_clicks_only() -> None:
    points = torch.tensor([[[1.0, 1.0, 1.0], [6.0, 6.0, 6.0]]])
    marks = click_maps(points, torch.tensor([[True, False]]), (8, 8, 8), 1.0)
    assert marks.shape == (1, 1, 8, 8, 8)
    assert marks[0, 0, 1, 1, 1] == 1
    assert marks[0, 0, 6, 6, 6] < 1e-6
    assert torch.isclose(marks[0, 0, 2, 1, 1], torch.tensor(-0.5).exp())


def test_common_maps_in_order() -> None:
    image = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    asked = replace(prompts([-0.5, -0.5, -0.5, 3.5, 7.5, 7.5]), labels=torch.tensor([[0]]))
    asked = CellPrompts(
        *(
            torch.cat([getattr(asked, f)] * 2)
            for f in ("points", "labels", "box", "tight", "cell_mm")
        )
    )
    seen = torch.cat(common_maps(see(image), torch.full_like(image, 4.0), asked), 1)
    assert seen.shape == (2, COMMON_CHANNELS, 8, 8, 8)
    assert torch.equal(seen[:, :1], image)
    assert seen[0, 1].mean() == 0.5
    assert torch.allclose(seen[:, 3], torch.tensor(1.0).tanh())
    assert not seen[:, 4].any()
    assert seen[0, 5, 0, 0, 0] == 1
    assert not seen[:, 6].any()
    assert seen[0, 7, 0, 0, 0] == 1
    assert torch.equal(seen[:, 8:9], 2 * ranks(image) - 1)
    assert seen[0, 10, 0, 0, 0] == 1
    assert torch.equal(seen[:, 11:], box_likeness(ranks(image), seen[:, 1:2]))


def test_the_newest_click_is_the_last_that_was_given() -> None:
    labels = torch.tensor([[1, 0, -1], [-1, -1, -1], [0, 1, 1]])
    expected = [[False, True, False], [False] * 3, [False, False, True]]
    assert newest(labels).tolist() == expected


def test_logits_are_shown_between_minus_one_and_one() -> None:
    assert shown(torch.tensor([0.0, 4.0])).tolist() == [0.0, torch.tanh(torch.tensor(1.0)).item()]


def test_a_convolution_of_full_rank_is_any_convolution() -> None:
    """Singular value decomposition of a kernel gives filters and mixture with its very answer."""
    torch.manual_seed(0)
    full, factored = ResidualBlock(8), ResidualBlock(8, rank=8)
    with torch.no_grad():
        for whole, parts in ((full.conv1, factored.conv1), (full.conv2, factored.conv2)):
            u, s, v = torch.linalg.svd(whole.weight.flatten(1), full_matrices=False)
            parts[0].weight.copy_(v.view(8, 8, 3, 3, 3))
            parts[1].weight.copy_((u * s)[:, :, None, None, None])
        for block in (full, factored):
            block.norm2.weight.fill_(1.0)
    x = torch.randn(2, 8, 4, 4, 4)
    assert not torch.allclose(full(x), x)
    assert torch.allclose(full(x), factored(x), atol=1e-5)


def test_ranks_count_from_the_finest_resolution() -> None:
    net = ResidualUNet(1, 1, (8, 16, 32), (1, 1, 1), 1, 8, ranks=(0, 4, 6))
    shapes = {name: tuple(p.shape[:2]) for name, p in net.named_parameters() if "conv1" in name}
    assert shapes["levels.0.0.conv1.weight"] == shapes["ups.0.blocks.0.conv1.weight"] == (8, 8)
    assert shapes["levels.1.0.conv1.0.weight"] == (4, 16)
    assert shapes["ups.1.blocks.0.conv1.1.weight"] == (16, 4)
    assert shapes["levels.2.0.conv1.0.weight"] == (6, 32)
    assert net(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)


@pytest.mark.parametrize(
    ("widths", "blocks", "given"), [((4, 4), (1,), ()), ((4,), (1,), (0, 0)), ((), (), ())]
)
def test_sizes_that_do_not_go_together_are_refused(
    widths: tuple[int, ...], blocks: tuple[int, ...], given: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match="wanted one of each for every resolution"):
        ResidualUNet(1, 1, widths, blocks, 1, 4, given)
