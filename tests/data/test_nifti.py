import gzip

import nibabel as nib
import numpy as np
import pytest

from segvol_gru.data.io import read_mask, read_volume, write_mask
from segvol_gru.errors import InputError
from segvol_gru.grid import Grid

AFFINE = np.array([[0, 0, 3.0, -7], [-0.9, 0, 0, 5], [0, 0.9, 0, 2], [0, 0, 0, 1]])


def save(path, array, affine=AFFINE, slope=None, inter=None, **fields):
    image = nib.Nifti1Image(array, affine)
    image.header.set_slope_inter(slope, inter)
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    if slope is not None:  # nibabel rescales on saving; what we want is raw values and a slope
        raw = bytearray(path.read_bytes())
        header = nib.Nifti1Header(bytes(raw[:348]))
        header.set_slope_inter(slope, inter)
        path.write_bytes(header.binaryblock + raw[348:352] + array.tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "dtype", "value"),
    [
        (np.uint8, 1, 0, np.uint8, 9),
        (np.int16, 1, 0, np.int16, 9),
        (np.uint16, 1, -1024, np.int16, -1015),
        (np.int16, 2, -1000, np.int16, -982),
        (np.uint8, 0.5, 0.25, np.float32, 4.75),
        (np.int32, 0.5, 0, np.float64, 4.5),
        (np.float32, 2, 1, np.float32, 19),
    ],
)
def test_slope_and_intercept_are_applied(tmp_path, stored, slope, inter, dtype, value):
    array = np.full((2, 3, 4), 9, stored)
    volume = read_volume(save(tmp_path / "a.nii", array, slope=slope, inter=inter))
    assert volume.array.dtype == dtype
    assert (volume.array == value).all()


def test_whole_scaling_does_not_wrap(tmp_path):
    array = np.array([0, 30_000, 65_535], np.uint16).reshape(3, 1, 1)
    volume = read_volume(save(tmp_path / "a.nii", array, slope=3, inter=-1024))
    assert volume.array.ravel().tolist() == [-1024, 88_976, 195_581]


def test_array_is_the_file_in_reverse_axis_order_and_not_copied_twice(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    volume = read_volume(save(tmp_path / "a.nii.gz", array), modality="CT")
    assert np.array_equal(volume.array, array.transpose(2, 1, 0))
    assert volume.array.flags.c_contiguous
    assert volume.spacing_mm == (3.0, pytest.approx(0.9), pytest.approx(0.9))
    assert volume.to_world((0, 0, 0)).tolist() == [-7, 5, 2]
    assert volume.to_world((1, 0, 0)).tolist() == [-4, 5, 2]


@pytest.mark.parametrize(("unit", "factor"), [(0, 1), (2, 1), (1, 1000), (3, 1e-3), (5, 1)])
def test_units_become_mm_and_stay_in_the_header(tmp_path, unit, factor):
    path = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8), np.eye(4), xyzt_units=unit)
    volume = read_volume(path)
    assert volume.spacing_mm == pytest.approx((factor, factor, factor))
    write_mask(tmp_path / "m.nii", np.ones((4, 3, 2), bool), volume)
    assert nib.load(tmp_path / "m.nii").header["xyzt_units"] == unit
    assert read_mask(tmp_path / "m.nii", volume).all()


def test_series_need_a_choice(tmp_path):
    array = np.arange(48, dtype=np.int16).reshape(2, 3, 4, 2)
    path = save(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=r"holds 2 frames of 1 channels.*time=0 to 1"):
        read_volume(path)
    with pytest.raises(InputError, match="time is 2"):
        read_volume(path, time=2)
    with pytest.raises(InputError, match="time is -1"):
        read_volume(path, time=-1)
    with pytest.raises(InputError, match="channel is 1"):
        read_volume(path, time=0, channel=1)
    for choice in ({"time": 1}, {"channel": 1}, {"time": 1, "channel": 0}):
        volume = read_volume(path, **choice)
        assert np.array_equal(volume.array, array[..., 1].T)
    write_mask(tmp_path / "m.nii", volume.array > 9, volume)
    image, mask = nib.load(path), nib.load(tmp_path / "m.nii")
    assert mask.shape == (2, 3, 4)
    assert np.array_equal(mask.header["pixdim"], image.header["pixdim"])
    assert np.array_equal(mask.affine, image.affine)


def test_colours_and_five_axes_need_a_choice(tmp_path):
    rgb = np.zeros((2, 3, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"] = 7
    path = save(tmp_path / "rgb.nii", rgb)
    with pytest.raises(InputError, match="choose with channel=0 to 2"):
        read_volume(path)
    assert (read_volume(path, channel=1).array == 7).all()
    five = np.arange(72, dtype=np.int16).reshape(2, 3, 4, 1, 3)
    path = save(tmp_path / "five.nii", five)
    assert np.array_equal(read_volume(path, channel=2).array, five[..., 0, 2].T)
    with pytest.raises(InputError, match="at most five axes"):
        read_volume(save(tmp_path / "six.nii", np.zeros((2, 2, 2, 1, 1, 2), np.uint8)))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 1, 1)])
def test_planes_are_volumes_of_one_slice(tmp_path, shape):
    array = np.arange(12, dtype=np.uint8).reshape(shape)
    path = save(tmp_path / "a.nii", array)
    volume = read_volume(path)
    assert volume.shape == (1, 4, 3)
    write_mask(tmp_path / "m.nii", volume.array > 3, volume)
    assert nib.load(tmp_path / "m.nii").shape == shape[:3]
    assert np.array_equal(read_mask(tmp_path / "m.nii", volume), volume.array > 3)


def test_complex_voxels_are_refused(tmp_path):
    with pytest.raises(InputError, match="complex64"):
        read_volume(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.complex64)))


def test_nan_voxels_become_the_lowest_value(tmp_path):
    array = np.full((2, 3, 4), 5, np.float32)
    array[0], array[1, 0] = np.nan, 2
    assert read_volume(save(tmp_path / "a.nii", array)).array.min() == 2


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (3, 4)])
def test_codes_and_qfac_come_back_bit_for_bit(tmp_path, codes):
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), AFFINE)
    image.set_sform(AFFINE, codes[0])
    image.set_qform(AFFINE, codes[1])
    path = tmp_path / "a.nii"
    nib.save(image, path)
    raw = bytearray(path.read_bytes())
    raw[76:80] = bytes(4)  # qfac 0, which nibabel "corrects" to 1
    path.write_bytes(raw)
    volume = read_volume(path)
    write_mask(tmp_path / "m.nii", np.ones((4, 3, 2), bool), volume)
    written = (tmp_path / "m.nii").read_bytes()
    for place in (slice(76, 108), slice(123, 124), slice(252, 328)):  # pixdim, units, forms
        assert written[place] == bytes(raw[place])


def test_big_endian_and_nifti2(tmp_path):
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(array, AFFINE, header), tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(array, AFFINE), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        volume = read_volume(tmp_path / name)
        assert np.array_equal(volume.array, array.T)
        write_mask(tmp_path / f"m{name}", volume.array > 300, volume)
        ours, theirs = nib.load(tmp_path / f"m{name}"), nib.load(tmp_path / name)
        assert type(ours.header) is type(theirs.header)
        assert ours.header.endianness == theirs.header.endianness
        assert np.array_equal(ours.affine, theirs.affine)
        assert np.array_equal(read_mask(tmp_path / f"m{name}", volume), volume.array > 300)


def test_equal_masks_give_equal_files(tmp_path):
    volume = read_volume(save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16)))
    for name in ("one.nii.gz", "two.nii.gz"):
        write_mask(tmp_path / name, np.ones((4, 3, 2), bool), volume)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_long_axes_from_memory_become_nifti2(tmp_path):
    grid = Grid((1, 1, 40_000), np.eye(4)[:, [2, 1, 0, 3]])
    write_mask(tmp_path / "m.nii", np.ones(grid.shape, bool), grid)
    assert read_mask(tmp_path / "m.nii", grid).shape == grid.shape


def test_absurd_shapes_are_refused_before_memory_is_asked_for(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 30_000))
    for size in ((30_000, 30_000, 30_000), (1_000, 1_000, 1_000)):
        header.set_data_shape(size)
        path = tmp_path / "bomb.nii.gz"
        path.write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
        with pytest.raises(InputError, match="which it cannot hold"):
            read_volume(path)


def test_a_bomb_behind_the_voxels_is_not_inflated_to_its_end(tmp_path):
    whole = save(tmp_path / "a.nii", np.arange(64, dtype=np.int16).reshape(4, 4, 4)).read_bytes()
    for n_bytes in (0, 5000, 2**26):
        (tmp_path / f"{n_bytes}.nii.gz").write_bytes(gzip.compress(whole + bytes(n_bytes), 1))
    for n_bytes in (0, 5000):  # some programs pad what they write
        assert read_volume(tmp_path / f"{n_bytes}.nii.gz").array[0, 0, 1] == 16
    with pytest.raises(InputError, match="bytes follow the voxels"):
        read_volume(tmp_path / f"{2**26}.nii.gz")


def test_singular_geometry_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((2, 3, 4), np.int16))
    raw = bytearray(path.read_bytes())
    raw[280:328] = bytes(48)  # the sform's rows
    path.write_bytes(raw)
    with pytest.raises(InputError, match="repair the header"):
        read_volume(path)


@pytest.mark.parametrize(
    ("place", "value"), [(108, 0.0), (108, 1e30), (108, -1e30), (108, 2.0**40), (112, 1e38)]
)
def test_wild_offsets_and_slopes_are_refused(tmp_path, place, value):
    path = save(tmp_path / "a.nii", np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    raw = bytearray(path.read_bytes())
    raw[place : place + 4] = np.float32(value).tobytes()
    raw[116:120] = np.float32(0.5).tobytes()  # the intercept
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cannot read"):
        read_volume(path)
