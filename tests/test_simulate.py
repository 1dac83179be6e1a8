"""The robot clicker against the official outputs and a plain implementation of the rule."""

from __future__ import annotations

import numpy as np
import pytest
from goldens import GOLDENS, NAMES, load, needs_goldens
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segvol_gru import simulate
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box
from segvol_gru.simulate import (
    challenge_box,
    jittered_box,
    next_click,
    random_error_click,
    tight_box,
)


def plain_click(gt, pred, pool_above=60_000_000):
    """The rule as section 4 of the protocol words it, slow and literal."""
    error = gt ^ pred
    if not error.any():
        return None
    labels, n = ndimage.label(error, structure=np.ones((3, 3, 3)))
    fortran = np.isfortran(gt) and np.isfortran(pred)
    scan = labels.ravel(order="F" if fortran else "C")
    sizes = np.bincount(scan, minlength=n + 1)[1:]
    tied = [i + 1 for i in range(n) if sizes[i] == sizes.max()]
    chosen = next(int(v) for v in scan if v in tied)
    component = labels == chosen
    where = ndimage.find_objects(component.astype(np.uint8))[0]
    crop = component[where]
    pads = [max(1, int(0.25 * s)) for s in crop.shape]
    padded = np.pad(crop, [(p, p) for p in pads])
    inner = tuple(slice(p, p + s) for p, s in zip(pads, crop.shape, strict=True))
    if padded.size > pool_above:
        even = np.pad(padded, [(0, s % 2) for s in padded.shape])
        d, h, w = (s // 2 for s in even.shape)
        pooled = even.reshape(d, 2, h, 2, w, 2).max(axis=(1, 3, 5))
        assume(not pooled.all())  # the real branch has an axis long enough for background cells
        depth = ndimage.distance_transform_edt(pooled)
        depth = depth.repeat(2, 0).repeat(2, 1).repeat(2, 2)[inner]
    else:
        depth = ndimage.distance_transform_edt(padded)[inner]
    full = np.zeros(gt.shape)
    full[where] = depth * crop
    candidates = np.argwhere(full == full.max())
    at = candidates[np.random.RandomState(42).choice(len(candidates))]
    return tuple(int(v) for v in at), bool(gt[tuple(at)])


@st.composite
def mask_pairs(draw, largest=9):
    shape = tuple(draw(st.integers(1, largest)) for _ in range(3))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    grain = draw(st.integers(1, 4))
    share = draw(st.sampled_from([0.02, 0.2, 0.5, 0.9, 1.0]))
    masks = []
    for _ in range(2):
        coarse = generator.random(tuple(-(-n // grain) for n in shape)) < share
        fine = coarse.repeat(grain, 0).repeat(grain, 1).repeat(grain, 2)
        masks.append(np.array(fine[: shape[0], : shape[1], : shape[2]], order=draw(orders)))
    return masks[0], masks[1]


orders = st.sampled_from(["C", "F"])


@given(mask_pairs())
@settings(max_examples=300, deadline=None)
def test_click_equals_the_plain_rule(pair):
    gt, pred = pair
    assert next_click(gt, pred) == plain_click(gt, pred)


@given(mask_pairs(largest=14), st.sampled_from([0, 50, 200]))
@settings(max_examples=300, deadline=None)
def test_pooled_click_equals_the_plain_rule(pair, pool_above):
    gt, pred = pair
    wanted = plain_click(gt, pred, pool_above)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulate, "POOL_ABOVE_VOXELS", pool_above)
        assert next_click(gt, pred) == wanted


@needs_goldens
@pytest.mark.parametrize("name", NAMES)
def test_clicks_equal_the_official_script(name):
    case = load(name)
    gts = case["gts"]
    for step in range(5):
        index = step - int(case["first_step"])
        if index < 0:
            continue
        pred = case["pred"][index]
        if case["pred_fortran"][index]:
            pred = np.asfortranarray(pred)
        pred = pred.astype(np.uint8)
        for k, label in enumerate(case["labels"]):
            found = next_click(gts == label, pred == label)
            flag = int(case["click_is_fg"][step, k])
            wanted = (
                None if flag < 0 else (tuple(int(v) for v in case["click_zyx"][step, k]), flag == 1)
            )
            assert found == wanted, (name, step, int(label))


@needs_goldens
@pytest.mark.parametrize("case", range(6))
def test_clicks_equal_the_segvol_goldens(case):
    with np.load(GOLDENS / "segvol" / "clicks.npz") as golden:
        shape = tuple(golden[f"{case}/shape"])
        size = int(np.prod(shape))
        gt, pred = (
            np.unpackbits(golden[f"{case}/{key}"], count=size).reshape(shape).astype(bool)
            for key in ("gt", "pred")
        )
        label = int(golden[f"{case}/label"])
        at = tuple(int(v) for v in golden[f"{case}/click_zyx"])
    assert next_click(gt, pred) == (None if label < 0 else (at, label == 1))


def test_pick_follows_the_legacy_stream():
    for count in [*range(1, 300), 4097, 65537, 1_000_000]:
        wanted = np.random.RandomState(42).choice(count)
        assert simulate._pick(count) == wanted, count


def test_stream_decides_any_count():
    for bit in range(32):
        assert any(not v >> bit & 1 for v in simulate._STREAM)


def test_no_error_gives_no_click():
    mask = np.ones((2, 3, 4), dtype=bool)
    assert next_click(mask, mask) is None
    assert random_error_click(mask, mask, np.random.default_rng(0)) is None


def test_click_is_deepest_with_the_volume_border_as_outside():
    gt = np.zeros((5, 5, 5), dtype=bool)
    gt[:, :, :3] = True  # a slab at the border: its middle plane is deepest only at the centre
    gt[:2] = gt[3:] = False
    assert next_click(gt, np.zeros_like(gt)) == plain_click(gt, np.zeros_like(gt))
    line = np.zeros((1, 1, 5), dtype=bool)
    line[0, 0, :3] = True  # one voxel thick: all depths are 1, candidate 2 of 3
    assert next_click(line, np.zeros_like(line)) == ((0, 0, 2), True)


def test_background_click_inside_a_false_positive():
    gt = np.zeros((7, 7, 7), dtype=bool)
    pred = gt.copy()
    pred[1:6, 1:6, 1:6] = True
    assert next_click(gt, pred) == ((3, 3, 3), False)


def test_equal_sizes_follow_memory_order():
    gt = np.zeros((4, 4, 4), dtype=bool)
    gt[0, 0, 3] = gt[3, 0, 0] = True
    pred = np.zeros_like(gt)
    assert next_click(gt, pred) == ((0, 0, 3), True)
    both = next_click(np.asfortranarray(gt), np.asfortranarray(pred))
    assert both == ((3, 0, 0), True)
    assert next_click(np.asfortranarray(gt), pred) == ((0, 0, 3), True)


def test_long_arrays_keep_exact_depths():
    gt = np.zeros((2, 3, 1500), dtype=bool)
    gt[:, :, 10:1400] = True
    pred = np.zeros_like(gt)
    assert next_click(gt, pred) == plain_click(gt, pred)


@given(mask_pairs(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_random_click_lies_in_the_largest_error(pair, seed):
    gt, pred = pair
    found = random_error_click(gt, pred, np.random.default_rng(seed))
    if found is None:
        assert not (gt ^ pred).any()
        return
    at, positive = found
    labels, n = ndimage.label(gt ^ pred, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    assert sizes[labels[at] - 1] == sizes.max()
    assert gt[at] == positive != pred[at]


@pytest.mark.parametrize(
    ("gt", "pred"),
    [
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2), dtype=bool)),
        (np.zeros((2, 2), dtype=bool), np.zeros((2, 2), dtype=bool)),
        (np.zeros((2, 2, 2), dtype=bool), np.zeros((2, 2, 3), dtype=bool)),
    ],
)
def test_unusable_masks_are_refused(gt, pred):
    with pytest.raises(InputError, match="wanted"):
        next_click(gt, pred)


def slanted():
    """Slices 1, 2, 4 hold one pixel row each: x 2..3, 5..6, 8..9 at y = 1, 2, 4."""
    gt = np.zeros((6, 256, 512), dtype=bool)
    gt[1, 1, 2:4] = gt[2, 2, 5:7] = gt[4, 4, 8:10] = True
    return gt


def test_tight_box():
    assert tight_box(slanted()) == Box((1, 1, 2), (4, 4, 9))
    with pytest.raises(InputError, match="empty"):
        tight_box(np.zeros((2, 2, 2), dtype=bool))


def test_challenge_box_looks_at_the_middle_of_the_slices_present():
    seen = set()
    for seed in range(60):
        box = challenge_box(slanted(), np.random.default_rng(seed))
        assert (box.lo[0], box.hi[0], box.tight) == (1, 4, (True, False, False))
        shift = box.hi[1] - 2  # slices 1, 2, 4: the middle one is 2
        assert (box.lo[1], box.lo[2]) == (max(0, 2 - shift), max(0, 5 - 2 * shift))
        assert box.hi[2] == 6 + 2 * shift
        seen.add(shift)
    assert seen == {0, 1, 2, 3, 4, 5}


@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_jittered_box_stays_near_and_inside(seed, fraction):
    box, shape = Box((2, 3, 4), (5, 12, 4), (True, False, True)), (7, 20, 6)
    moved = jittered_box(box, shape, fraction, np.random.default_rng(seed))
    assert moved.tight == box.tight
    for axis in range(3):
        assert 0 <= moved.lo[axis] <= moved.hi[axis] < shape[axis]
        reach = fraction * box.size[axis] + 0.5
        inverted = 2 * reach >= box.size[axis]
        if not inverted:
            assert abs(moved.lo[axis] - box.lo[axis]) <= reach
            assert abs(moved.hi[axis] - box.hi[axis]) <= reach
    assert jittered_box(box, shape, 0.0, np.random.default_rng(seed)) == box


def test_negative_jitter_is_refused():
    with pytest.raises(InputError, match="fraction"):
        jittered_box(Box((0, 0, 0), (1, 1, 1)), (2, 2, 2), -0.1, np.random.default_rng(0))
