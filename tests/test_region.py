"""Regions, cells and fields: hand-derived values and round trips."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from segvol_gru.region import Field, Region, regrid, to_cells

INDEX = st.tuples(*[st.integers(0, 20)] * 3)
SIZE = st.tuples(*[st.integers(1, 20)] * 3)


def test_cells_cover_their_voxels() -> None:
    """Six voxels from 2 on in three cells: centres of the cells at voxels 2.5, 4.5, 6.5."""
    region = Region((2, 0, 0), (6, 1, 1))
    points = torch.tensor([[2.5, 0.0, 0.0], [4.5, 0.0, 0.0], [6.5, 0.0, 0.0]])
    assert torch.equal(region.to_cells(points, (3, 1, 1))[:, 0], torch.tensor([0.0, 1.0, 2.0]))


def test_coarse_cells_hold_means_and_fine_cells_interpolate() -> None:
    line = torch.tensor([0.0, 2.0, 4.0, 6.0]).view(4, 1, 1)
    assert to_cells(line, (2, 1, 1)).flatten().tolist() == [1.0, 5.0]
    fine = to_cells(line, (8, 1, 1)).flatten().tolist()
    assert fine == [0.0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.0]


@given(lo=INDEX, size=SIZE)
def test_a_field_of_one_cell_per_voxel_is_rendered_unchanged(
    lo: tuple[int, int, int], size: tuple[int, int, int]
) -> None:
    region = Region(lo, size)
    logits = torch.randn(size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Field(region, logits).render(region), logits)


@given(lo=INDEX, size=SIZE, other=INDEX, other_size=SIZE)
def test_a_union_holds_both_and_the_inside_fits(
    lo: tuple[int, int, int],
    size: tuple[int, int, int],
    other: tuple[int, int, int],
    other_size: tuple[int, int, int],
) -> None:
    a, b = Region(lo, size), Region(other, other_size)
    both = a.union(b)
    for part in (a, b):
        assert all(x <= y for x, y in zip(both.lo, part.lo, strict=True))
        assert all(x >= y for x, y in zip(both.hi, part.hi, strict=True))
    inner = both.inside((10, 11, 12))
    assert all(0 <= x <= n for x, n in zip(inner.lo, (10, 11, 12), strict=True))
    assert all(x <= n for x, n in zip(inner.hi, (10, 11, 12), strict=True))


@given(
    lo=st.tuples(*[st.integers(0, 40)] * 3),
    size=st.tuples(*[st.integers(1, 30)] * 3),
    slack=st.floats(1.0, 3.0),
)
def test_a_framed_box_is_inside_its_region(
    lo: tuple[int, int, int], size: tuple[int, int, int], slack: float
) -> None:
    shape = (70, 80, 90)
    hi = tuple(a + n - 1 for a, n in zip(lo, size, strict=True))
    region = Region.around(lo, hi, [slack] * 3, shape, (2.0, 1.0, 0.5))
    for a, b, first, end, n in zip(lo, hi, region.lo, region.hi, shape, strict=True):
        assert 0 <= first <= a
        assert b < end <= n


def test_regrid_moves_values_with_their_voxels() -> None:
    """A region half as long from the middle on sees the second half, fading to zero."""
    old, new = Region((0, 0, 0), (8, 4, 4)), Region((4, 0, 0), (4, 4, 4))
    values = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 4, 4)
    moved = regrid(values, old, new)[0, 0, :, 0, 0]
    assert moved.tolist() == pytest.approx([1.75, 2.25, 2.75, 2.25])
    assert torch.allclose(regrid(values, old, old), values, atol=1e-6)


def test_regrid_knows_nothing_outside() -> None:
    old, new = Region((0, 0, 0), (4, 4, 4)), Region((10, 0, 0), (4, 4, 4))
    assert not regrid(torch.ones(1, 2, 4, 4, 4), old, new).any()


CELLS = st.tuples(*[st.integers(1, 9)] * 3)


def noise(size: tuple[int, int, int]) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@settings(deadline=None)  # the first call is slow
@given(size=SIZE, cells=CELLS, data=st.data())
def test_rendering_is_trilinear_interpolation(
    size: tuple[int, int, int], cells: tuple[int, int, int], data: st.DataObject
) -> None:
    lo = data.draw(st.tuples(*[st.integers(0, n - 1) for n in size]))
    window = Region(lo, tuple(n - a for a, n in zip(lo, size, strict=True)))
    logits = noise(cells)
    whole = F.interpolate(logits[None, None], size, mode="trilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(
        Field(Region((0, 0, 0), size), logits).render(window), whole[window.slices()]
    )


@given(lo=INDEX, size=SIZE, cells=CELLS, other=INDEX, other_size=SIZE, new=CELLS)
def test_a_field_on_other_cells_is_its_rendering_averaged(
    lo: tuple[int, int, int],
    size: tuple[int, int, int],
    cells: tuple[int, int, int],
    other: tuple[int, int, int],
    other_size: tuple[int, int, int],
    new: tuple[int, int, int],
) -> None:
    field, region = Field(Region(lo, size), noise(cells)), Region(other, other_size)
    whole = torch.full((40, 40, 40), -8.0)
    whole[field.region.slices()] = field.render(field.region)
    expected = to_cells(whole[region.slices()], new)
    torch.testing.assert_close(field.onto(region, new, -8.0), expected, atol=1e-5, rtol=1e-4)
    signs = (noise(size) > 0).to(torch.int8)
    whole = torch.zeros(40, 40, 40)
    whole[field.region.slices()] = signs.float()
    expected = to_cells(whole[region.slices()], new)
    torch.testing.assert_close(Field(field.region, signs).onto(region, new), expected)


@given(n=st.integers(1, 60), m=st.integers(1, 60), cells=st.integers(1, 50), data=st.data())
def test_a_voxel_weighs_on_cells_to_the_bit_what_averaging_gives_it(
    n: int, m: int, cells: int, data: st.DataObject
) -> None:
    lo, other, voxel = data.draw(st.tuples(*[st.integers(0, n - 1)] * 3))
    alone = torch.zeros(n, 1, 1)
    alone[voxel] = 1.0
    field, region = Field(Region((lo, 0, 0), (n, 1, 1)), alone), Region((other, 0, 0), (m, 1, 1))
    whole = torch.zeros(200, 1, 1)
    whole[field.region.slices()] = alone
    expected = to_cells(whole[region.slices()], (cells, 1, 1))
    assert torch.equal(field.onto(region, (cells, 1, 1)), expected)


class Sizes(TorchFunctionMode):
    """Sees how many values the largest tensor has that is made."""

    largest = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.largest = max(self.largest, made.numel())
        return made


def test_a_long_axis_takes_memory_in_proportion_to_it() -> None:
    size, cells = (5000, 2, 3), (8, 8, 8)
    region = Region((0, 0, 0), size)
    for field in (Field(region, torch.ones(size)), Field(region, torch.ones(cells))):
        with Sizes() as seen:
            field.onto(region, cells)
        assert seen.largest <= 5000 * 8 * 8
