"""Examples: functions of (seed, index), framed and prompted as asked, read by their part only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segvol_gru.errors import InputError
from segvol_gru.training.draw import (
    Example,
    ExampleConfig,
    Structure,
    _bend,
    _relight,
    draw_example,
)
from segvol_gru.training.examples import MIN_CELLS, Examples

CELLS = 24
REAL = ExampleConfig(cells=CELLS, synthetic_share=0.0)
PLAIN = replace(REAL, rotate=0.0, exchange=0.0, bend=0.0, recolour=0.0, shade=0.0)
STARTS = ("tight", "jittered", "one slice", "click")


def only(start: str) -> ExampleConfig:
    weights = tuple(float(start == name) for name in STARTS)
    return ExampleConfig(cells=CELLS, synthetic_share=0.0, starts=weights)  # type: ignore[arg-type]


def equal(a: Example, b: Example) -> bool:
    return all(torch.equal(x.nan_to_num(-9), y.nan_to_num(-9)) for x, y in pairs(a, b))  # type: ignore[attr-defined]


def pairs(a: Example, b: Example) -> list[tuple[object, object]]:
    return [(a[key], b[key]) for key in a]  # type: ignore[literal-required]


@given(index=st.integers(0, 10**9), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_an_example_follows_from_seed_and_index(index: int, seed: int) -> None:
    """Whatever was drawn before, by whichever process."""
    one, other = (Examples(make_cases(), REAL, seed, 10) for _ in range(2))
    other[index + 1]
    assert equal(one[index], other[index])
    assert not torch.equal(one[index]["image"], one[index + 1]["image"])


def test_phantoms_follow_from_seed_and_index() -> None:
    config = ExampleConfig(cells=CELLS, synthetic_share=1.0)
    one, other = (Examples([], config, 3, 10) for _ in range(2))
    assert equal(one[4], other[4])


def test_cases_without_a_structure_are_refused() -> None:
    """Nobody trains on phantoms without having asked for it."""
    (empty,) = make_cases(1)
    empty.tasks.clear()
    with pytest.raises(InputError, match="none of 1 cases has a structure of 50 voxels"):
        Examples([empty], REAL, 3, 10)


def test_unnamed_structures_are_regions_of_the_images() -> None:
    """The cubes of the cases are stable regions, and more is; a share of 0 changes no example."""
    config = replace(PLAIN, unnamed_share=1.0)
    one, other = (Examples(make_cases(), config, 3, 10) for _ in range(2))
    assert equal(one[4], other[4])
    for index in range(5):
        image, target = (one[index][key][0] for key in ("image", "target"))
        assert float((image[target > 0.5].mean() - image[target < 0.5].mean()).abs()) > 0.5
    with pytest.raises(InputError, match="unnamed_share"):
        ExampleConfig(synthetic_share=0.6, unnamed_share=0.5)


@given(index=st.integers(0, 10**6), unnamed=st.sampled_from([0.0, 1.0]))
@settings(max_examples=25, deadline=None)
def test_every_example_is_usable(index: int, unnamed: float) -> None:
    config = replace(REAL, unnamed_share=unnamed)
    example = Examples(make_cases(), config, 1, 10)[index]
    image, target = example["image"], example["target"]
    assert image.shape == target.shape == (1, CELLS, CELLS, CELLS)
    assert float(image.mean()) == pytest.approx(0, abs=1e-3)
    assert float(image.std()) == pytest.approx(1, abs=1e-2)
    assert set(target.unique().tolist()) <= {0.0, 1.0}
    assert float(target.sum()) >= MIN_CELLS
    assert int(example["index"]) == index
    boxed = not bool(example["box"].isnan().any())
    assert boxed == (int(example["label"]) == -1)


def test_a_tight_box_touches_its_target() -> None:
    for index in range(10):
        example = Examples(make_cases(), only("tight"), 1, 20)[index]
        at = example["target"][0].nonzero()
        faces = torch.cat([at.amin(0) - 0.5, at.amax(0) + 0.5])
        torch.testing.assert_close(example["box"], faces)
        assert float(example["tight"]) == 1


def test_a_jittered_box_errs_by_its_share_at_most() -> None:
    for index in range(10):
        example = Examples(make_cases(), only("jittered"), 1, 20)[index]
        at = example["target"][0].nonzero()
        low, high = at.amin(0) - 0.5, at.amax(0) + 0.5
        error = (example["box"] - torch.cat([low, high])).abs().view(2, 3)
        assert torch.all(error <= 0.1 * (high - low) + 1e-4)


def test_a_box_of_one_slice_is_not_called_tight() -> None:
    shares = {
        round(3 * float(Examples(make_cases(), only("one slice"), 1, 40)[i]["tight"]))
        for i in range(30)
    }
    assert shares == {0, 1}


def test_a_start_without_box_clicks_inside() -> None:
    for index in range(10):
        example = Examples(make_cases(), only("click"), 1, 20)[index]
        z, y, x = example["point"].long().tolist()
        assert float(example["target"][0, z, y, x]) == 1
        assert bool(example["box"].isnan().all())


class Counted:
    """An array that counts the voxels read from it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array, self.read = array, 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __getitem__(self, part: tuple[slice, slice, slice], /) -> NDArray[Any]:
        found: NDArray[Any] = self.array[part]
        self.read += found.size
        return found


def test_only_the_framed_part_is_read() -> None:
    case = make_cases(1, side=64)[0]
    image, labels = Counted(case.image), Counted(case.labels)
    lo, hi, _ = case.tasks[1]
    structure = Structure(image, labels, 1, lo, hi, case.spacing_mm)
    draw_example(structure, only("tight"), np.random.default_rng(0))
    assert 0 < image.read == labels.read < image.array.size / 4


def test_data_sets_weigh_by_the_root_of_their_tasks() -> None:
    """One case with 2 tasks against six with 12: sqrt(2 + 2) : sqrt(2 + 12)."""
    cases = make_cases(7)
    for loaded in cases[1:]:
        object.__setattr__(loaded.case, "dataset", "other")
    share = Examples(cases, REAL, 1, 10).group_share
    np.testing.assert_allclose(share, np.array([2, np.sqrt(14)]) / (2 + np.sqrt(14)))


def test_what_is_emphasised_is_drawn_more_often() -> None:
    """A data set three times as often as its tasks say, one of two equal structures four times."""
    cases = make_cases(2)
    object.__setattr__(cases[1].case, "dataset", "other")
    name = cases[0].case.dataset
    config = replace(REAL, emphasis={"other": 3.0, f"{name}:2": 4.0})
    plain, examples = (Examples(cases, c, 1, 10) for c in (REAL, config))
    np.testing.assert_allclose(plain.group_share, [0.5, 0.5])
    np.testing.assert_allclose(examples.group_share, [0.25, 0.75])
    drawn = [examples._structure(np.random.default_rng(i)) for i in range(400)]
    ours = [s.label for s in drawn if s.image is cases[0].image]
    assert 60 < len(ours) < 140
    before, after = plain._shares(cases[0]), examples._shares(cases[0])
    np.testing.assert_allclose(after[1] / after[0], 4 * before[1] / before[0])
    assert np.mean(np.array(ours) == 2) == pytest.approx(after[1], abs=0.12)


@pytest.mark.parametrize("times", [0.0, -1.0, float("nan")])
def test_an_emphasis_that_is_no_share_is_refused(times: float) -> None:
    with pytest.raises(InputError, match=r"emphasis has cubes = .*, wanted more than 0"):
        ExampleConfig(emphasis={"cubes": times})


def test_mirrored_as_often_as_asked() -> None:
    """Never, or along every axis; a cube out of the middle of its volume shows which."""
    cases = make_cases(1)
    config = replace(PLAIN, exact_framing=1.0, starts=(1.0, 0.0, 0.0, 0.0))
    images = [
        Examples(cases, replace(config, flip=flip), 4, 10)[2]["target"] for flip in (0.0, 1.0)
    ]
    assert torch.equal(images[0].flip(1, 2, 3), images[1])


def test_no_line_of_cells_turns_back_when_bent() -> None:
    """Along every line of cells the places shown stay in their order."""
    generator, width = np.random.default_rng(0), 2 / CELLS
    for _ in range(60):
        moved = _bend(CELLS, generator)[0]
        assert float(moved.abs().max()) > 0.01 * width
        for axis in range(3):  # places are named x first
            steps = width + moved[..., 2 - axis].diff(dim=axis)
            assert float(steps.min()) > 0


def test_bent_as_often_as_asked() -> None:
    """Always or never; what is bent is the same structure in the same frame."""
    cases = make_cases(1)
    straight, bent = (Examples(cases, replace(PLAIN, bend=bend), 4, 10) for bend in (0.0, 1.0))
    for index in range(6):
        one, other = straight[index]["target"] > 0, bent[index]["target"] > 0
        shared = float((one & other).sum() / (one | other).sum())
        assert 0.4 < shared < 1


def test_another_look_leaves_grey_levels_in_range() -> None:
    ramp = torch.linspace(0, 255, 8**3).reshape(8, 8, 8)
    generator = np.random.default_rng(3)
    assert torch.equal(_relight(ramp, PLAIN, generator), ramp)
    recoloured = _relight(ramp, replace(PLAIN, recolour=1.0), generator)
    assert float(recoloured.flatten().diff().min()) < 0  # not monotonic: another modality
    shaded = _relight(torch.full((8, 8, 8), 100.0), replace(PLAIN, shade=1.0), generator)
    assert float(shaded.std()) > 1
    for look in (recoloured, shaded):
        assert look.shape == ramp.shape
        assert 0 <= float(look.min()) <= float(look.max()) <= 255


def test_pictures_keep_what_they_show() -> None:
    """Without rotation the cube stays a box whose inside is brighter (or darker) throughout."""
    for index in range(8):
        example = Examples(make_cases(1), PLAIN, 1, 20)[index]
        inside = example["image"][example["target"] > 0]
        outside = example["image"][example["target"] == 0]
        assert abs(float(inside.mean() - outside.mean())) > 0.3
