"""Images go in and masks come out on the very same grid, whatever the file says of its axes."""

import contextlib
import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segvol_gru.data.io import read_mask, read_volume, write_mask, write_probability
from segvol_gru.errors import InputError
from segvol_gru.grid import Grid, same_grid
from segvol_gru.volume import Volume

ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
SHAPE_IJK = (5, 4, 3)
CHANGED = {  # the header fields in which a mask differs from its image
    "datatype", "bitpix", "dim", "vox_offset", "magic", "scl_slope", "scl_inter", "cal_max",
    "cal_min", "intent_code", "intent_name", "intent_p1", "intent_p2", "intent_p3",
}  # fmt: skip
once_per_test = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def affine_ijk(orientation, sizes, angles, origin, shear=0.0):
    """A file's affine, (i, j, k) -> RAS mm, built from a signed permutation and rotations."""
    order, signs = orientation
    a, b = angles
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    skew = np.eye(3)
    skew[0, 2] = shear
    affine = np.eye(4)
    affine[:3, :3] = (turn @ tilt @ skew @ np.eye(3)[:, order]) * signs * sizes
    affine[:3, 3] = origin
    return affine


def voxels(shape_ijk, dtype=np.int16):
    """A file's array in which every voxel has its own value."""
    return np.arange(np.prod(shape_ijk), dtype=dtype).reshape(shape_ijk)


def write_itk_image(path, array_ijk, affine):
    """An ITK file with its geometry from a RAS affine, independent of the package."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array_ijk.T))
    lps = np.diag((-1.0, -1, 1, 1)) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path))


def raw_header(path):
    block = nib.openers.Opener(str(path)).read(348)
    return nib.Nifti1Header(block, check=False)


placements = st.tuples(
    st.sampled_from(ORIENTATIONS),
    st.tuples(*[st.floats(0.2, 6).map(lambda v: round(v, 3))] * 3),
    st.tuples(st.floats(-0.7, 0.7), st.floats(-0.7, 0.7)),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.sampled_from((0.0, 0.0, 0.2)),
)


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_all_formats_agree_in_every_orientation(tmp_path, orientation):
    check_formats(tmp_path, (orientation, (0.7, 1.3, 4.0), (0.3, -0.2), (-12.5, 80.0, 33.3), 0.0))


@once_per_test
@given(placements)
def test_all_formats_agree_anywhere(tmp_path, placement):
    check_formats(tmp_path, placement)


def check_formats(folder, placement):
    """The same point in mm names the same voxel, and masks come back on the image's grid."""
    affine = affine_ijk(*placement)
    file_array = voxels(SHAPE_IJK)
    nifti = nib.Nifti1Image(file_array, affine)
    nib.save(nifti, folder / "image.nii.gz")
    write_itk_image(folder / "image.nrrd", file_array, affine)
    write_itk_image(folder / "image.mha", file_array, affine)
    target_ijk = (3, 1, 2)
    point_mm = (affine @ (*target_ijk, 1))[:3]
    volumes = [read_volume(folder / name) for name in ("image.nii.gz", "image.nrrd", "image.mha")]
    for volume in volumes:
        assert volume.shape == SHAPE_IJK[::-1]
        z, y, x = np.rint(volume.to_voxel(point_mm)).astype(int)
        assert (x, y, z) == target_ijk
        assert volume.array[z, y, x] == file_array[target_ijk]
        assert np.allclose(volume.to_world((2, 1, 3)), point_mm, atol=2e-3)
        assert np.allclose(volume.spacing_mm, np.linalg.norm(affine[:3, :3], axis=0)[::-1], 1e-4)
        assert same_grid(volume.grid, volumes[0].grid)
    check_oracles(folder, volumes)
    mask = volumes[0].array % 3 == 0
    for name, volume in zip(("image.nii.gz", "image.nrrd", "image.mha"), volumes, strict=True):
        check_mask(folder, folder / name, volume, mask)


def check_oracles(folder, volumes):
    """Nibabel's and ITK's own answers for one index."""
    nifti = nib.load(folder / "image.nii.gz")
    assert np.allclose(volumes[0].to_world((2, 1, 3)), nifti.affine @ (3, 1, 2, 1) @ np.eye(4, 3))
    for name, volume in zip(("image.nrrd", "image.mha"), volumes[1:], strict=True):
        lps = sitk.ReadImage(str(folder / name)).TransformIndexToPhysicalPoint((3, 1, 2))
        assert np.allclose(volume.to_world((2, 1, 3)), np.array(lps) * (-1, -1, 1))


def check_mask(folder, image_path, volume, mask):
    suffix = "".join(image_path.suffixes)
    path = folder / f"mask{suffix}"
    write_mask(path, mask, volume)
    assert np.array_equal(read_mask(path, like=volume), mask)
    assert read_mask(path).dtype == np.uint8
    if suffix == ".nii.gz":
        ours, theirs = raw_header(path), raw_header(image_path)
        for field in set(theirs.structarr.dtype.names) - CHANGED:
            assert ours[field].tobytes() == theirs[field].tobytes(), field
    else:
        ours, theirs = (sitk.ReadImage(str(p)) for p in (path, image_path))
        assert ours.GetDirection() == theirs.GetDirection()
        assert ours.GetSpacing() == theirs.GetSpacing()
        assert ours.GetOrigin() == theirs.GetOrigin()
        assert ours.GetPixelID() == sitk.sitkUInt8
    # Through a saved session the header survives too.
    again = folder / f"again{suffix}"
    write_mask(again, mask, Grid.from_json(volume.grid.to_json()))
    assert again.read_bytes() == path.read_bytes()


@once_per_test
@given(placements)
def test_masks_cross_formats_and_arrays_from_memory_have_a_place(tmp_path, placement):
    affine = affine_ijk(*placement)[:, [2, 1, 0, 3]]
    volume = Volume(voxels((3, 4, 5)), affine=affine)
    mask = volume.array % 2 == 0
    for name in ("m.nii", "m.nii.gz", "m.nrrd", "m.mha", "m.mhd"):
        write_mask(tmp_path / name, mask, volume)
        assert np.array_equal(read_mask(tmp_path / name, like=volume), mask)
        assert np.allclose(read_volume(tmp_path / name).affine, affine, rtol=1e-5, atol=1e-4)


def test_labels_probabilities_and_mirrored_masks(tmp_path):
    volume = Volume(voxels((3, 4, 5)), (1, 1, 1))
    for top, dtype in ((255, np.uint8), (300, np.uint16)):
        labels = np.where(volume.array == 7, top, 0)
        for suffix in (".nii.gz", ".nrrd", ".mha", ".npz"):
            write_mask(tmp_path / f"m{suffix}", labels, volume)
            back = read_mask(tmp_path / f"m{suffix}", volume)
            assert np.array_equal(back, labels)
            assert back.dtype == dtype
    p_prob = np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    for suffix in (".nii", ".nrrd", ".mhd"):
        write_probability(tmp_path / f"p{suffix}", p_prob, volume)
        assert np.array_equal(read_volume(tmp_path / f"p{suffix}").array, p_prob)
    moved = Volume(volume.array, affine=np.diag((-1.0, 1, 1, 1)))
    with pytest.raises(InputError, match="lies up to"):
        read_mask(tmp_path / "m.nrrd", moved)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((3, 4, 4), bool), r"wanted the image's \(3, 4, 5\)"),
        (np.full((3, 4, 5), -1), "no labels"),
        (np.full((3, 4, 5), 0.5), "no labels"),
        (np.full((3, 4, 5), np.nan), "no labels"),
        (np.full((3, 4, 5), 70_000), "at most 65535"),
        (np.full((3, 4, 5), "a"), "whole labels"),
    ],
)
def test_bad_masks_are_refused_and_nothing_is_written(tmp_path, mask, message):
    volume = Volume(voxels((3, 4, 5)), (1, 1, 1))
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(b"as it was")
    with pytest.raises(InputError, match=message):
        write_mask(path, mask, volume)
    assert path.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_bad_targets_are_refused(tmp_path):
    volume = Volume(voxels((3, 4, 5)), (1, 1, 1))
    mask = np.zeros((3, 4, 5), bool)
    with pytest.raises(InputError, match="no known ending"):
        write_mask(tmp_path / "mask.png", mask, volume)
    with pytest.raises(InputError, match="existing, writable folder"):
        write_mask(tmp_path / "nowhere" / "mask.nii", mask, volume)
    with pytest.raises(InputError, match="apply the sigmoid"):
        write_probability(tmp_path / "p.nii", mask - 3.0, volume)
    with pytest.raises(InputError, match="no known ending"):
        write_probability(tmp_path / "p.npz", mask, volume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["no.nii.gz", "no.nrrd", "no.mha", "no.npz"])
def test_missing_files_are_named(tmp_path, name):
    for read in (read_volume, read_mask):
        with pytest.raises(InputError, match="there is no file"):
            read(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".npz"])
@pytest.mark.parametrize("keep", [0.0, 0.2, 0.7, 0.99])
def test_truncated_files_are_refused(tmp_path, suffix, keep):
    volume = Volume(np.random.default_rng(0).integers(0, 200, (9, 30, 31)), (1, 1, 1))
    path = tmp_path / f"CT_cut{suffix}"
    write_mask(path, volume.array, volume)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InputError, match=r"cannot read|is no"):
        read_mask(path)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".mhd", ".npz"])
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_one_flipped_byte_never_gives_other_voxels(tmp_path, suffix, data):
    """Every compressed format has a checksum; ITK and nibabel do not look at all of them."""
    array = np.random.default_rng(0).integers(0, 200, (9, 30, 31))
    path = tmp_path / f"flip{suffix}"
    write_mask(path, array, Volume(array, (1, 1, 1)))
    victim = path.with_suffix(".zraw") if suffix == ".mhd" else path
    whole = bytearray(victim.read_bytes())
    whole[data.draw(st.integers(len(whole) // 8, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    victim.write_bytes(whole)
    with contextlib.suppress(InputError):
        assert np.array_equal(read_mask(path), array)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".npz"])
def test_other_content_is_refused(tmp_path, suffix):
    path = tmp_path / f"text{suffix}"
    path.write_text("not an image\n" * 100)
    with pytest.raises(InputError, match="cannot read"):
        read_volume(path)


def test_unknown_endings_and_folders_are_refused(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match="no known ending"):
        read_volume(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="holds no DICOM series"):
        read_volume(tmp_path)
    with pytest.raises(InputError, match="leave channel and time out"):
        read_volume(tmp_path, time=1)
