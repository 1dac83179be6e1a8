"""SegVol's examples: the paper's transforms, classes in turn, image and mask in step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate

from segvol_gru.data.dataset import Case, LoadedCase
from segvol_gru.errors import InputError
from segvol_gru.prompts import Index
from segvol_gru.training.segvol_views import (
    View,
    ViewConfig,
    Views,
    normalised,
    view_transform,
)

FRAME: Index = (16, 24, 24)
PLAIN = ViewConfig(flip=0.0, intensity_share=0.0)


def views(config: ViewConfig = PLAIN, count: int = 2, seed: int = 1) -> Views:
    return Views(make_cases(count), config, FRAME, seed)


@given(index=st.integers(0, 10**6), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_a_view_follows_from_seed_and_index(index: int, seed: int) -> None:
    one, other = views(ViewConfig(), seed=seed), views(ViewConfig(), seed=seed)
    other[index + 1]
    a, b = one[index], other[index]
    for key in ("image", "target", "box", "index"):
        assert torch.equal(a[key], b[key])  # type: ignore[literal-required]


@given(index=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_image_and_target_stay_in_step(index: int) -> None:
    """Whatever was cut, resized, mirrored and repainted: structures are brighter than air."""
    view = views(ViewConfig())[index]
    image, target = view["image"], view["target"]
    assert image.shape == target.shape == (1, *FRAME)
    assert image.dtype == target.dtype == torch.float32
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    if 0 < float(target.mean()) < 0.9:
        assert image[target > 0].mean() > image[target == 0].mean()


def test_classes_take_turns() -> None:
    """Two data sets of two labels each: any four examples from a multiple of four show all."""
    cases = make_cases(4)
    for loaded in cases[2:]:
        object.__setattr__(loaded.case, "dataset", "other")
    data = Views(cases, PLAIN, FRAME, 1)
    orders = set()
    for first in range(0, 40, 4):
        shown = [(k.dataset, k.label) for k in map(data.class_of, range(first, first + 4))]
        assert set(shown) == {("cubes", 1), ("cubes", 2), ("other", 1), ("other", 2)}
        orders.add(tuple(shown))
    assert len(orders) > 3


def test_objects_with_numbers_are_one_class() -> None:
    cases = make_cases(2)
    for loaded in cases:
        object.__setattr__(loaded.case, "instances", True)
    data = Views(cases, PLAIN, FRAME, 1)
    assert [(k.dataset, k.label) for k in data.classes] == [("cubes", None)]
    sizes = {float(data[i]["target"].sum()) for i in range(12)}
    assert len(sizes) > 2


def test_patches_and_whole_volumes_come_three_to_one() -> None:
    config = PLAIN
    transform = view_transform(config, FRAME)
    given_ = {key: torch.rand(1, 28, 28, 28).round() for key in ("image", "target")}
    patches = 0
    for seed in range(300):
        transform.set_random_state(seed=seed)
        patches += isinstance(transform(dict(given_)), list)
    assert patches / 300 == pytest.approx(0.75, abs=0.08)


def test_a_patch_is_cut_at_full_resolution_and_a_whole_volume_is_not() -> None:
    only_patch, only_whole = replace(PLAIN, whole=0.0), replace(PLAIN, patch=0.0)
    label = make_cases(1)[0].labels == 1  # a cube of 10 x 10 x 10
    patch, whole = views(only_patch, 1), views(only_whole, 1)
    full = [p for p in (patch[i]["target"].sum() for i in range(12)) if p in (1000.0, 1100.0)]
    assert full
    shrunk = {float(whole[i]["target"].sum()) for i in range(6)}
    scale = np.prod(FRAME) / label.size
    assert all(0.3 < s / (1050 * scale) < 3 for s in shrunk)


def test_flips_and_intensities_come_as_often_as_asked() -> None:
    asked = ViewConfig(whole=1.0, patch=0.0, flip=0.2, intensity_share=0.2)
    transform = view_transform(asked, (4, 4, 4))
    ramp = torch.arange(64.0).view(1, 4, 4, 4) / 63
    mirrored, painted = np.zeros(3), 0
    for seed in range(400):
        transform.set_random_state(seed=seed)
        found = transform({"image": ramp.clone(), "target": ramp.clone()})
        target = torch.as_tensor(found["target"])[0]
        mirrored += [
            float(target[1, 0, 0]) < float(target[0, 0, 0]),
            float(target[0, 1, 0]) < float(target[0, 0, 0]),
            float(target[0, 0, 1]) < float(target[0, 0, 0]),
        ]
        painted += not torch.equal(
            torch.as_tensor(found["image"]), torch.as_tensor(found["target"])
        )
    np.testing.assert_allclose(mirrored / 400, 0.2, atol=0.06)
    assert painted / 400 == pytest.approx(1 - 0.8**2, abs=0.08)


def test_the_box_is_the_competitions_and_its_corners_are_voxels() -> None:
    """Exact along D; in the middle slice grown by up to 5 / 256 of the side, here nothing."""
    for index in range(12):
        view = views()[index]
        at = view["target"][0].nonzero()
        if len(at):
            assert view["box"][[0, 3]].tolist() == [at[:, 0].min(), at[:, 0].max()]
            assert torch.all(view["box"] >= 0)
            assert torch.all(view["box"][3:] < torch.tensor(FRAME))
        else:
            assert view["box"].tolist() == [-1] * 6


def test_the_foreground_is_cut_out_but_never_the_structure() -> None:
    """Air around a bright block goes; a dark structure outside of it makes the cut wider."""
    image = np.zeros((20, 20, 20), np.uint8)
    image[8:14, 8:14, 8:14] = np.random.default_rng(0).integers(100, 200, (6, 6, 6))
    labels = np.zeros_like(image)
    labels[9:12, 9:12, 9:12] = 1
    labels[1:5, 9:13, 9:13] = 2
    tasks = {1: ((9, 9, 9), (11, 11, 11), 27), 2: ((1, 9, 9), (4, 12, 12), 64)}
    case = Case(Path("a.npz"), "CT", "a", "a", "train", "open", False)
    loaded = LoadedCase(case, image, labels, (1.0, 1.0, 1.0), tasks)
    cut, target = normalised(loaded, 1)
    assert cut.shape == target.shape == (6, 6, 6)
    assert float(cut.max()) == 1.0
    wider, dark = normalised(loaded, 2)
    assert wider.shape == dark.shape == (13, 6, 6)
    assert int(dark.sum()) == 64
    assert float(wider[dark].max()) == 0


def test_a_volume_smaller_than_the_frame_is_padded() -> None:
    data = Views(make_cases(1, side=28), replace(PLAIN, whole=0.0), (40, 40, 40), 1)
    view = data[0]
    assert view["image"].shape == (1, 40, 40, 40)
    assert float(view["target"].sum()) in (1000.0, 1100.0)


def test_views_collate() -> None:
    data = views()
    batch: View = default_collate([data[i] for i in range(3)])
    assert batch["image"].shape == (3, 1, *FRAME)
    assert batch["box"].shape == (3, 6)


def test_without_structures_there_is_nothing_to_train_on() -> None:
    with pytest.raises(InputError, match="no case has a structure"):
        Views([], PLAIN, FRAME, 1)
