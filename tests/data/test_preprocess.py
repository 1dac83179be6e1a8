from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from segvol_gru.data import intensity
from segvol_gru.data.intensity import Histogram, ct_window_name
from segvol_gru.data.preprocess import (
    CT_WINDOWS,
    Window,
    foreground_crop,
    foreground_norm,
    window_for,
)
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box
from segvol_gru.volume import Volume

SOFT = ("CT_OpenKBP*", "CT_IBSI_STS*")
SHARED = Path(__file__).resolve().parents[3] / "shared"
GRID = (24, 64, 64)
ALL = Box((0, 0, 0), (23, 63, 63))


def volume(array, modality=None):
    return Volume(array, (3.0, 2.0, 2.0), modality=modality)


def ball(centre, radii):
    axes = np.ogrid[tuple(slice(0, n) for n in GRID)]
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) < 1


def noise(sd=12):
    return np.random.default_rng(7).normal(0, sd, GRID)


def chest():
    """In HU: a body in air, two lungs, a heart between them, a spine with its canal."""
    hu = np.full(GRID, -1000.0)
    hu[ball((12, 32, 32), (99, 28, 31))] = 40
    hu[ball((12, 30, 16), (40, 18, 11))] = -850
    hu[ball((12, 30, 48), (40, 18, 11))] = -850
    hu[ball((12, 30, 34), (9, 9, 8))] = 45
    hu[ball((12, 53, 32), (99, 5, 5))] = 500
    hu[ball((12, 53, 32), (99, 3, 3))] = 20
    return np.rint(hu + noise()).astype(np.int16)


def head():
    """Brain with ventricles and a bleeding inside a closed ring of skull, in HU."""
    hu = np.full(GRID, -1000.0)
    hu[ball((12, 32, 32), (99, 28, 24))] = -60  # scalp
    hu[ball((12, 32, 32), (99, 26, 22))] = 900
    hu[ball((12, 32, 32), (99, 23, 19))] = 33
    hu[ball((12, 30, 32), (6, 5, 3))] = 8
    hu[ball((12, 42, 36), (5, 5, 5))] = 65
    return np.rint(hu + noise(6)).astype(np.int16)


def test_windows_are_the_papers():
    widths = {name: (w.hi - w.lo, (w.hi + w.lo) / 2) for name, w in CT_WINDOWS.items()}
    assert widths == {
        "soft-tissue": (400, 40), "lung": (1500, -160), "brain": (80, 40), "bone": (1800, 400),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64, np.int64])
def test_apply_by_hand(dtype):
    hu = np.array([-2000, -160, 40, 240, 3000], dtype=dtype)
    grey = CT_WINDOWS["soft-tissue"].apply(hu)
    assert grey.dtype == np.float32
    assert grey.tolist() == [0, 0, 127.5, 255, 255]
    assert hu[0] == -2000
    assert Window(0, 255).apply(np.arange(256, dtype=np.uint8)).tolist() == list(range(256))


@pytest.mark.parametrize(
    ("scan", "box", "name"),
    [
        (chest, None, "soft-tissue"),
        (chest, ((3, 14, 7), (21, 46, 26)), "lung"),  # one lung
        (chest, ((4, 22, 27), (20, 38, 42)), "soft-tissue"),  # heart, lung in the corners
        (chest, ((0, 48, 27), (23, 58, 37)), "bone"),  # spine
        (chest, ((8, 4, 28), (16, 10, 36)), "soft-tissue"),  # muscle
        (chest, ((0, 0, 0), (5, 3, 3)), "soft-tissue"),  # air alone
        (head, None, "soft-tissue"),
        (head, ((8, 38, 32), (16, 46, 40)), "brain"),  # bleeding
        (head, ((7, 26, 29), (17, 34, 35)), "brain"),  # ventricles
        (chest, ((0, 51, 30), (23, 55, 34)), "soft-tissue"),  # the canal in it
        (head, ((0, 4, 8), (23, 60, 56)), "soft-tissue"),  # the whole head
    ],
)
def test_auto_looks_into_the_box(scan, box, name):
    found = window_for(volume(scan()), box=box and Box(*box))
    assert found.name == name
    assert found == CT_WINDOWS[name]
    assert window_for(volume(scan().astype(np.float32)), box=box and Box(*box)) == found


def test_nodule_in_lung_gets_the_lung_window():
    scan = chest()
    scan[ball((12, 30, 16), (4, 6, 6))] = 20
    assert window_for(volume(scan), box=Box((8, 24, 10), (16, 36, 22))).name == "lung"


def test_brain_needs_a_closed_and_wide_skull():
    box = Box((8, 38, 32), (16, 46, 40))
    cut = head()[:, :, :50]  # the skull of one side is outside the image
    assert window_for(volume(cut), box=box).name == "soft-tissue"
    opened = head()
    opened[:, 50:, 20:44] = 33
    assert window_for(volume(opened), box=box).name == "soft-tissue"
    fat = head()
    fat[:, 15:22] = np.where(fat[:, 15:22] < 200, -90, fat[:, 15:22])
    assert window_for(volume(fat), box=box).name == "soft-tissue"
    small = Volume(head(), (1.0, 0.5, 0.5))  # a canal of 20 mm, as in a spine
    assert window_for(small, box=box).name == "soft-tissue"
    flat = Volume(head(), (1.0, 0.5, 2.0))  # narrow one way is narrow
    assert window_for(flat, box=box).name == "soft-tissue"
    touching = Box((8, 38, 32), (16, 55, 34))  # a twentieth of it is bone
    assert window_for(volume(head()), box=touching).name == "soft-tissue"


def test_what_counts_as_hounsfield():
    scan = chest()
    assert window_for(volume(scan)).name == "soft-tissue"
    padded = np.where(scan < -990, -3024, scan)
    assert window_for(volume(padded)).name == "soft-tissue"
    assert window_for(volume(scan, "MR")).name == "percentile"
    inside = scan.clip(-150)  # a crop without air says nothing; the modality does
    assert window_for(volume(inside)).name == "percentile"
    assert window_for(volume(inside, "CT")).name == "soft-tissue"
    phase = np.random.default_rng(0).integers(-4096, 4096, GRID).astype(np.int16)
    assert window_for(volume(phase)).name == "percentile"
    assert window_for(volume((phase // 2).astype(np.int16))).name == "percentile"


def test_shifted_ct_is_refused_with_the_remedy():
    shifted = (chest() + 1024).clip(0).astype(np.uint16)
    with pytest.raises(InputError, match="subtract 1024"):
        window_for(volume(shifted, "CT"))
    assert window_for(volume(shifted, "CT"), (864, 1264)) == Window(864, 1264)


def test_images_that_are_grey_already_pass_through():
    grey = np.random.default_rng(0).integers(0, 256, GRID)
    for dtype in (np.uint8, np.int16, np.float32):
        for modality in (None, "CT", "US"):
            assert window_for(volume(grey.astype(dtype), modality)) == Window(0, 255, "none")
    assert window_for(volume((grey // 64).astype(np.uint8))).name == "none"
    assert window_for(volume((grey // 64).astype(np.int16))).name == "percentile"
    assert window_for(volume(grey / 255.0)).name == "percentile"


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.int32])
def test_percentiles_are_numpys_over_what_is_not_background(dtype):
    rng = np.random.default_rng(3)
    image = rng.gamma(2.0, 300.0, GRID).astype(dtype)
    image[:, :20] = 0
    found = window_for(volume(image, "MR"))
    assert (found.lo, found.hi) == pytest.approx(np.percentile(image[image > 0], [0.5, 99.5]))
    assert found.apply(image)[:, :20].max() == 0
    if np.issubdtype(dtype, np.signedinteger) or dtype == np.float32:
        negative = image - dtype(50)
        found = window_for(volume(negative, "MR"))
        assert (found.lo, found.hi) == pytest.approx(np.percentile(negative, [0.5, 99.5]))


@pytest.mark.parametrize("value", [0, 7, -3])
def test_constant_images_become_black(value):
    constant = volume(np.full(GRID, value, np.int16))
    for window in ("auto", "percentile"):
        assert not window_for(constant, window).apply(constant.array).any()
    assert window_for(constant, "soft-tissue").name == "soft-tissue"


def test_sparse_stain_keeps_its_range():
    stain = np.zeros(GRID, np.uint16)
    stain[3, 4, 5:8] = (900, 900, 4000)
    assert window_for(volume(stain)).hi >= 900
    stain[:] = 5
    stain[3, 4, 5] = 4000
    assert window_for(volume(stain)) == Window(5, 4000, "percentile")


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ("liver", "wanted one of auto, soft-tissue, lung, brain, bone, percentile, none"),
        ((3,), "a name or a pair"),
        ((3, "a"), "a name or a pair"),
        ((3, 3), "smaller first"),
        ((0, np.nan), "smaller first"),
        (5, "a name or a pair"),
        ((5000, 6000), "would become one grey"),
        (Window(-9000, -8000), "would become one grey"),
    ],
)
def test_bad_windows_are_refused(window, message):
    with pytest.raises(InputError, match=message):
        window_for(volume(chest()), window)


def test_a_window_of_hounsfield_units_must_meet_the_values():
    tiny = volume(np.random.default_rng(0).random(GRID) - 900.0, "MR")
    with pytest.raises(InputError, match="window soft-tissue shows -160 to 240"):
        window_for(tiny, "soft-tissue")
    assert window_for(volume(chest(), "MR"), "lung").name == "lung"
    with pytest.raises(InputError, match="outside the volume"):
        window_for(volume(chest()), box=Box((0, 0, 0), (24, 1, 1)))


@given(
    hnp.arrays(
        st.sampled_from(["u1", "i1", "u2", "i2", "i4", "f4", "f8"]),
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=7),
        elements={"allow_nan": False, "allow_infinity": False, "min_value": 0, "max_value": 100},
    ),
    st.permutations(range(3)),
    st.floats(0, 1),
)
def test_histogram_is_exact_below_the_sample_size(array, order, q):
    view = array.transpose(order)[::-1]
    histogram = Histogram.of(view)
    values = view.astype(float)
    assert (histogram.lo, histogram.hi) == (values.min(), values.max())
    assert histogram.quantile(q) == pytest.approx(np.quantile(values, q), rel=1e-6, abs=1e-6)
    expected = np.count_nonzero((values >= 3) & (values < 50)) / values.size
    assert histogram.share(3, 50) == pytest.approx(expected)


def test_negative_integers_are_counted():
    array = np.array([[[-32768, -1, 0, 32767, -1]]], dtype=np.int16)
    histogram = Histogram.of(array)
    assert histogram.values.tolist() == [-32768, -1, 0, 32767]
    assert histogram.up_to.tolist() == [1, 3, 4, 5]
    assert histogram.positive().values.tolist() == [32767]
    assert Histogram.of(array.astype(np.int8).clip(-5, 5)).values.tolist() == [-1, 0]
    assert Histogram.of(array > 0).values.tolist() == [0, 1]


def test_large_float_images_are_sampled_alike_in_any_memory_order(monkeypatch):
    monkeypatch.setattr(intensity, "SAMPLE", 20_000)
    monkeypatch.setattr(intensity, "CHUNK", 1_000)
    image = np.random.default_rng(1).normal(500, 100, (50, 64, 64)).astype(np.float32)
    image[0, 0, 0], image[7, 8, 9] = -4000, 9000
    sampled = Histogram.of(image)
    every = 11  # 204 800 voxels; the first step from 11 on that divides no axis
    by_hand = np.append(image.ravel()[::every], (image.min(), image.max()))
    assert np.array_equal(sampled.values, np.sort(by_hand))
    assert (sampled.lo, sampled.hi) == (-4000, 9000)
    for q in (0.005, 0.5, 0.995):
        rank = np.count_nonzero(image <= sampled.quantile(q)) / image.size
        assert abs(rank - q) < 4 * np.sqrt(q * (1 - q) / 20_000)
    assert np.array_equal(Histogram.of(image[:, ::-1]).values[[0, -1]], sampled.values[[0, -1]])
    assert np.array_equal(Histogram.of(image.copy().T).values, sampled.values)


def test_foreground_norm_by_hand():
    values = np.zeros((1, 2, 4))
    values[0, 1] = (10, 10, 12, 12)  # mean 5.5: these four are foreground
    got = foreground_norm(values)
    assert got.dtype == np.float32
    assert np.allclose(got[0], [[-1, -1, -1, -1], [-1, -1, 1, 1]])


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
def test_constant_volumes_have_no_foreground(value):
    constant = np.full((2, 3, 4), value, np.float32)
    assert not foreground_norm(constant).any()
    crop = foreground_crop(constant)
    assert (crop.start, crop.end) == ((0, 0, 0), (2, 3, 4))


def test_foreground_crop_and_the_way_back():
    values = np.zeros((4, 5, 6))
    values[1:3, 2:4, 3:5] = np.arange(8).reshape(2, 2, 2) + 10
    crop = foreground_crop(values)
    assert (crop.start, crop.end) == ((1, 2, 3), (3, 4, 5))
    assert crop.image.max() == 1
    back = crop.paste(np.ones((2, 2, 2), bool), outside=False)
    assert np.array_equal(back, values > 10) or back.sum() == 8


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is not part of the repo")
def test_foreground_agrees_with_segvol():
    with np.load(SHARED / "goldens" / "segvol" / "pipeline.npz") as golden:
        norm = foreground_norm(golden["raw"])
        crop = foreground_crop(golden["raw"])
        assert np.abs(norm[::2, ::4, ::4] - golden["foreground_norm"][0]).max() < 1e-4
        assert crop.start == tuple(golden["crop_start"])
        assert crop.end == tuple(golden["crop_end"])
        assert np.abs(crop.image[::2, ::4, ::4] - golden["image_cropped_minmax"][0]).max() < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is not part of the repo")
def test_auto_on_public_cases():
    """The counts that `ct_window_name` quotes; HU are estimated from the windowed copies."""

    def count(pattern, lo, hi):
        names = Counter()
        for path in sorted((SHARED / "data" / "cases").glob(pattern)):
            with np.load(path) as case:
                grey, labels, spacing = (
                    case["imgs"].astype(np.float32),
                    case["gts"],
                    case["spacing"],
                )
            hu = (lo + grey / 255 * (hi - lo)).astype(np.int16)
            if pattern in SOFT:  # black is fat or air, white is bone
                hu[grey == 0], hu[grey == 255] = -1000, 400
            for label in np.unique(labels[labels > 0]):
                at = np.argwhere(labels == label)
                box = Box(tuple(at.min(0).tolist()), tuple(at.max(0).tolist()))
                names[ct_window_name(hu, spacing.tolist(), box)] += 1
        return dict(names)

    assert count("CT_LIDC*", -1000, 400) == {"lung": 42, "soft-tissue": 4}
    assert count("CT_LungDemo*", -910, 590) == {"lung": 3}
    assert count("CT_OpenKBP*", -160, 240) == {"soft-tissue": 272, "bone": 1}
    assert count("CT_IBSI_STS*", -160, 240) == {"soft-tissue": 42}
