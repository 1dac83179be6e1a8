"""The reference's zoom-out, zoom-in against its golden cases, and the geometry by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from segvol_gru.base.ask import EMPTY, Crop
from segvol_gru.base.segvol import SMALL, SegVol
from segvol_gru.base.windows import (
    bounds,
    cover,
    enlarged,
    middle_slice_bounds,
    slide,
    starts,
    tiles,
)
from segvol_gru.base.zoom import (
    Cancelled,
    ReferenceZoom,
    Watch,
    nearest_box,
    window_box,
)
from segvol_gru.data.preprocess import foreground_crop, foreground_norm
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click, Index
from segvol_gru.region import Region

Arrays = dict[str, np.ndarray]
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
sizes = st.tuples(*[st.integers(1, 40)] * 3)
window_sizes = st.tuples(*[st.integers(6, 20)] * 3)


def corners(region: Region) -> list[int]:
    return [*region.lo, *(b - 1 for b in region.hi)]


@pytest.fixture(scope="module")
def golden_zoom(golden_model: SegVol, pipeline: Arrays) -> ReferenceZoom:
    cut = foreground_crop(pipeline["raw"])
    crop = Crop(torch.from_numpy(cut.image), cut.start)
    return ReferenceZoom(golden_model, crop, torch.Generator())


@pytest.fixture(scope="module")
def golden_box(pipeline: Arrays) -> Box:
    z0, y0, x0, z1, y1, x1 = (int(v) for v in pipeline["box_zyx_minmax"])
    return Box((z0, y0, x0), (z1, y1, x1))


def test_preprocessing_is_the_references(golden_zoom: ReferenceZoom, pipeline: Arrays) -> None:
    norm = foreground_norm(pipeline["raw"])[::2, ::4, ::4]
    np.testing.assert_allclose(norm, pipeline["foreground_norm"][0], **TOLERANCE)
    crop = golden_zoom.crop
    assert crop.origin == tuple(pipeline["crop_start"])
    image = crop.image[::2, ::4, ::4].numpy()
    np.testing.assert_allclose(image, pipeline["image_cropped_minmax"][0], **TOLERANCE)


def test_pipeline_is_the_references(
    golden_zoom: ReferenceZoom, golden_box: Box, pipeline: Arrays
) -> None:
    inner, _ = golden_zoom.crop.prompts(golden_box, ())
    assert inner is not None
    shape = golden_zoom.crop.whole.size
    [asked] = pipeline["zoom_out_box_prompt"].tolist()
    assert list(nearest_box(inner, shape, SMALL.image)) == asked
    coarse = golden_zoom.zoom_out(inner, (), None)
    golden = pipeline["zoom_out_logits"][0, 0]
    np.testing.assert_allclose(coarse[::2, ::4, ::4].numpy(), golden, **TOLERANCE)
    roi = golden_zoom.region_of_interest(coarse, inner)
    assert roi is not None
    assert corners(roi) == pipeline["roi_min_max"].tolist()
    field = golden_zoom.segment(golden_box)
    assert field.region == Region(golden_zoom.crop.origin, shape)
    fine = field.logits[roi.slices()][::2, ::3, ::3].numpy()
    np.testing.assert_allclose(fine, pipeline["zoom_in_logits"][0, 0], **TOLERANCE)


def test_regions_of_interest_are_the_references(pipeline: Arrays) -> None:
    for row in pipeline["roi_cases_shape3_fg6_box6_result6"].tolist():
        shape, found, box, result = row[:3], row[3:9], row[9:15], row[15:]
        parts = [
            Region((r[0], r[2], r[4]), (r[1] - r[0], r[3] - r[2], r[5] - r[4]))
            for r in (found, box)
            if r[0] >= 0
        ]
        both = parts[0] if len(parts) == 1 else parts[0].union(parts[1])
        assert corners(enlarged(both, SMALL.image, tuple(shape))) == result


def test_sliding_window_is_the_references(pipeline: Arrays) -> None:
    coarse_mask = torch.from_numpy(pipeline["sw_global_preds"][0, 0] > 0)
    boxes = []

    def predict(image: Tensor, place: Region) -> Tensor:
        boxes.append(window_box(coarse_mask, place))
        return image[0, 0] * 2 - 1

    out = slide(torch.from_numpy(pipeline["sw_input"][0, 0]), SMALL.image, predict)
    np.testing.assert_allclose(out.numpy(), pipeline["sw_output"][0, 0], **TOLERANCE)
    np.testing.assert_array_equal(np.array(boxes), pipeline["sw_window_boxes"][:, 0])


def test_boxes_of_masks_are_the_references(pipeline: Arrays) -> None:
    mask = torch.from_numpy(pipeline["mask_for_box"] > 0)
    middle, tight = middle_slice_bounds(mask), bounds(mask)
    assert middle is not None
    assert tight is not None
    assert corners(middle) == pipeline["segfm_middle_slice_box"].tolist()
    assert corners(tight) == pipeline["tight_box_original_segvol"].tolist()


def test_middle_slice_box_misses_what_sticks_out() -> None:
    mask = torch.zeros(5, 6, 6, dtype=torch.bool)
    mask[1, 0:6, 0:6] = True  # 36 voxels, the median among them
    mask[3, 2, 2] = True
    mask[2, 5, 5] = True
    assert middle_slice_bounds(mask) == Region((1, 0, 0), (3, 6, 6))
    mask[1] = False
    mask[1, 3, 4] = True  # three slices of one voxel: the second decides
    assert middle_slice_bounds(mask) == Region((1, 5, 5), (3, 1, 1))
    assert middle_slice_bounds(torch.zeros(2, 2, 2, dtype=torch.bool)) is None


def test_windows_start_at_half_steps_and_end_at_the_border() -> None:
    assert starts(10, 4) == [0, 2, 4, 6]
    assert starts(11, 4) == [0, 2, 4, 6, 7]
    assert starts(4, 4) == [0]
    assert starts(3, 4) == [0]
    assert starts(3, 1) == [0, 1, 2]
    assert len(tiles((100, 512, 512), (32, 256, 256))) == 54


@given(sizes, window_sizes)
def test_windows_hold_every_voxel(size: Index, window: Index) -> None:
    seen = torch.zeros([max(n, w) for n, w in zip(size, window, strict=True)], dtype=torch.bool)
    for tile in tiles(size, window):
        assert tile.size == window
        seen[tile.slices()] = True
    assert seen.all()


@given(sizes, window_sizes)
def test_sliding_an_identity_changes_nothing(size: Index, window: Index) -> None:
    image = torch.arange(float(np.prod(size))).reshape(size)

    def predict(part: Tensor, place: Region) -> Tensor:
        inner = place.inside(size)
        assert torch.equal(part[0, 0][inner.slices(place.lo)], image[inner.slices()])
        return part[0, 0]

    torch.testing.assert_close(slide(image, window, predict), image)


@given(sizes, st.data())
def test_cover_holds_the_region_and_stays_where_it_can(size: Index, data: st.DataObject) -> None:
    window = data.draw(window_sizes)
    lo = data.draw(st.tuples(*[st.integers(0, n - 1) for n in size]))
    extent = data.draw(st.tuples(*[st.integers(1, n - a) for n, a in zip(size, lo, strict=True)]))
    region = Region(lo, extent)
    seen = torch.zeros(size, dtype=torch.bool)
    for view in cover(region, window, size):
        assert view.size == window
        seen[view.inside(size).slices()] = True
        for a, b, w, n in zip(view.lo, view.hi, window, size, strict=True):
            assert (a >= 0 and b <= n) or w > n
    assert seen[region.slices()].all()


def test_a_box_can_vanish_in_the_zoom_out() -> None:
    thin = Box((1, 0, 0), (1, 9, 9))
    assert nearest_box(thin, (10, 10, 10), (5, 10, 10)) == EMPTY
    assert nearest_box(thin, (10, 10, 10), (10, 5, 20)) == (1, 0, 0, 1, 4, 19)


def test_an_empty_window_is_asked_about_minus_one() -> None:
    mask = torch.zeros(8, 8, 8, dtype=torch.bool)
    mask[1:3, 2:4, 5] = True
    assert window_box(mask, Region((4, 0, 0), (4, 8, 8))) == EMPTY
    assert window_box(mask, Region((-1, 2, 0), (8, 8, 8))) == (2, 0, 5, 3, 1, 5)


@pytest.fixture(scope="module")
def zoom(small_model: SegVol) -> ReferenceZoom:
    image = torch.rand(20, 70, 100, generator=torch.Generator().manual_seed(2))
    return ReferenceZoom(small_model, Crop(image, (3, 2, 1)), torch.Generator().manual_seed(0))


BOX = Box((8, 20, 30), (12, 40, 60))


def test_the_reference_gives_zoom_in_no_negative_click(zoom: ReferenceZoom) -> None:
    coarse = torch.zeros(zoom.crop.whole.size, dtype=torch.bool)
    coarse[5:9, 18:38, 29:59] = True
    roi = zoom.crop.whole
    inner = Box((5, 18, 29), (9, 38, 59))
    clicks = [Click((6, 20, 30), False), Click((6, 25, 40), True)]
    first = zoom.zoom_in(roi, coarse, inner, clicks, None, Watch())
    without = zoom.zoom_in(roi, coarse, inner, clicks[1:], None, Watch())
    assert torch.equal(first, without)
    assert not torch.allclose(first, zoom.zoom_in(roi, coarse, inner, (), None, Watch()), atol=1e-3)


def test_at_most_five_clicks_are_drawn(zoom: ReferenceZoom) -> None:
    clicks = [Click((i, 10, 10), True) for i in range(12)]
    drawn = zoom._sampled(clicks, Region((2, 0, 0), SMALL.image))
    assert len(drawn) == 5
    assert len(set(drawn)) == 5
    assert all(point[1:] == (10, 10) and point[0] < 10 for point in drawn)


def test_progress_runs_up_and_cancel_stops(zoom: ReferenceZoom) -> None:
    steps: list[tuple[int, int]] = []
    zoom.segment(BOX, watch=Watch(progress=lambda done, total: steps.append((done, total))))
    shares = [done / total for done, total in steps]
    assert shares == sorted(shares)
    with pytest.raises(Cancelled):
        zoom.segment(BOX, watch=Watch(cancelled=lambda: True))


def test_prompts_are_cut_to_the_crop(zoom: ReferenceZoom) -> None:
    clicks = [Click((0, 0, 0), False), Click((3, 2, 1), True)]
    box, inner = zoom.crop.prompts(Box((0, 0, 0), (4, 4, 200)), clicks)
    assert box == Box((0, 0, 0), (1, 2, 99))
    assert inner == (Click((0, 0, 0), True),)
    with pytest.raises(InputError, match="background only"):
        zoom.crop.prompts(Box((0, 0, 0), (2, 9, 9)), ())
