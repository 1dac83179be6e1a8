import gzip
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from segvol_gru.data.headers import check_header
from segvol_gru.data.io import read_mask, read_volume, write_mask
from segvol_gru.errors import InputError

ARRAY = np.arange(24, dtype="<i2").reshape(2, 3, 4)
PLACE = "space directions: (0,0.5,0) (0.7,0,0) (0,0,3.1)\nspace origin: (1.25,2,3)\n"


def write_nrrd(path, text, array=ARRAY):
    head = f"NRRD0004\n# by hand\ntype: short\nendian: little\nencoding: raw\n{text}\n"
    path.write_bytes(head.encode() + array.tobytes())
    return path


def fields(path):
    lines = path.read_bytes().split(b"\n\n")[0].decode().splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("LPS", (-1, -1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
    ],
)
def test_every_nrrd_space_becomes_ras_and_comes_back(tmp_path, space, signs):
    head = f"dimension: 3\nspace: {space}\nsizes: 4 3 2\n{PLACE}kinds: domain domain domain\n"
    path = write_nrrd(tmp_path / "a.nrrd", head)
    volume = read_volume(path)
    assert np.array_equal(volume.array, ARRAY)
    expected = np.array(signs) * (1.25 + 0.7, 2 + 0.5, 3 + 3.1)
    assert np.allclose(volume.to_world((1, 1, 1)), expected)
    write_mask(tmp_path / "m.nrrd", ARRAY > 5, volume)
    for name in ("space", "space directions", "space origin"):
        assert fields(tmp_path / "m.nrrd")[name] == fields(path)[name]
    assert np.array_equal(read_mask(tmp_path / "m.nrrd", volume), ARRAY > 5)


def test_channels_of_a_nrrd_need_a_choice_and_leave_the_mask_header(tmp_path):
    head = (
        "dimension: 4\nspace: left-posterior-superior\nsizes: 2 4 3 1\n"
        "space directions: none (0.5,0,0) (0,0.7,0) (0,0,3)\nkinds: list domain domain domain\n"
        "space origin: (1,2,3)\n"
    )
    path = write_nrrd(tmp_path / "a.nrrd", head)
    with pytest.raises(InputError, match=r"1 frames of 2 channels.*channel=0 to 1"):
        read_volume(path)
    for choice in ({"channel": 1}, {"time": 1}):
        volume = read_volume(path, **choice)
        assert np.array_equal(volume.array, ARRAY.reshape(1, 3, 4, 2)[..., 1])
    write_mask(tmp_path / "m.nrrd", volume.array > 5, volume)
    assert fields(tmp_path / "m.nrrd")["space directions"] == "(0.5,0,0) (0,0.7,0) (0,0,3)"
    assert np.array_equal(read_mask(tmp_path / "m.nrrd", volume), volume.array > 5)


def test_a_fourth_axis_in_space_needs_a_choice_too(tmp_path):
    head = (
        "dimension: 4\nspace dimension: 4\nsizes: 4 3 1 2\n"
        "space directions: (0.5,0,0,0) (0,0.7,0,0) (0,0,3,0) (0,0,0,1)\nspace origin: (1,2,3,0)\n"
    )
    path = write_nrrd(tmp_path / "a.nrrd", head)
    with pytest.raises(InputError, match="2 frames of 1 channels"):
        read_volume(path)
    volume = read_volume(path, time=1)
    assert np.array_equal(volume.array, ARRAY[1:])
    write_mask(tmp_path / "m.nrrd", volume.array > 15, volume)
    assert np.array_equal(read_mask(tmp_path / "m.nrrd", volume), volume.array > 15)


def test_nrrd_without_space_and_in_microns(tmp_path):
    plain = write_nrrd(tmp_path / "a.nrrd", "dimension: 3\nsizes: 4 3 2\nspacings: 0.5 0.7 2\n")
    assert read_volume(plain).spacing_mm == pytest.approx((2, 0.7, 0.5))
    micron = write_nrrd(
        tmp_path / "b.nrrd",
        'dimension: 3\nspace: left-posterior-superior\nsizes: 4 3 2\nspace units: "um" "um" "um"\n'
        + PLACE,
    )
    volume = read_volume(micron)
    assert volume.spacing_mm == pytest.approx((3.1e-3, 0.7e-3, 0.5e-3))
    for source in (plain, micron):
        volume = read_volume(source)
        write_mask(tmp_path / "m.nrrd", ARRAY > 5, volume)
        assert np.array_equal(read_mask(tmp_path / "m.nrrd", volume), ARRAY > 5)
        assert fields(tmp_path / "m.nrrd").get("space units") == fields(source).get("space units")


def test_detached_headers(tmp_path):
    (tmp_path / "a.raw").write_bytes(ARRAY.tobytes())
    head = f"dimension: 3\nspace: LPS\nsizes: 4 3 2\n{PLACE}data file: a.raw\n"
    volume = read_volume(write_nrrd(tmp_path / "a.nhdr", head, np.zeros(0)))
    assert np.array_equal(volume.array, ARRAY)
    write_mask(tmp_path / "m.mhd", ARRAY > 5, volume)
    assert sorted(p.suffix for p in tmp_path.glob("m.*")) == [".mhd", ".zraw"]
    assert np.array_equal(read_mask(tmp_path / "m.mhd", volume), ARRAY > 5)
    (tmp_path / "m.zraw").unlink()
    with pytest.raises(InputError, match="cannot read"):
        read_mask(tmp_path / "m.mhd")


def test_colour_series_in_mha(tmp_path):
    array = np.arange(2 * 3 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 3, 4, 5, 3)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match=r"2 frames of 3 channels.*time=0 to 1"):
        read_volume(tmp_path / "a.mha")
    with pytest.raises(InputError, match="channel=0 to 2"):
        read_volume(tmp_path / "a.mha", time=1)
    volume = read_volume(tmp_path / "a.mha", time=1, channel=2, modality="Microscopy")
    assert np.array_equal(volume.array, array[1, ..., 2])
    assert volume.modality == "Microscopy"


def test_planes_are_volumes_of_one_slice(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY[0]), str(tmp_path / "a.mha"))
    volume = read_volume(tmp_path / "a.mha")
    assert volume.shape == (1, 3, 4)
    assert volume.spacing_mm == (1, 1, 1)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_a_bomb_behind_compressed_voxels_is_not_inflated_to_its_end(tmp_path, name):
    for n_bytes in (0, 5000, 2**26):
        data = ARRAY.tobytes() + bytes(n_bytes)
        if name.endswith(("hdr", "nrrd")):
            where = "data file: a.raw\n" if name == "a.nhdr" else ""
            head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: little\n{where}"
            head, packed = f"{head}encoding: gzip\n\n", gzip.compress(data, 1)
        else:
            where = "a.raw" if name == "a.mhd" else "LOCAL"
            packed = zlib.compress(data, 1)
            head = (
                "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
                f"CompressedData = True\nCompressedDataSize = {len(packed)}\nDimSize = 4 3 2\n"
                f"ElementType = MET_SHORT\nElementDataFile = {where}\n"
            )
        path = tmp_path / name
        path.write_bytes(head.encode() + (b"" if "a.raw" in where else packed))
        if "a.raw" in where:
            (tmp_path / "a.raw").write_bytes(packed)
        if n_bytes <= 5000:
            assert np.array_equal(read_volume(path).array, ARRAY)
            continue
        with pytest.raises(InputError, match="inflates to more than its 48 bytes"):
            read_volume(path)


def test_wild_axes_in_a_meta_image_are_refused(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY), str(tmp_path / "a.mha"))
    damaged = (tmp_path / "a.mha").read_bytes().replace(b"NDims = 3", b"NDims =93")
    (tmp_path / "a.mha").write_bytes(damaged)
    with pytest.raises(InputError, match="no line `NDims = 2`"):
        read_volume(tmp_path / "a.mha")


@pytest.mark.parametrize(
    "place",
    [
        "spacings: 1 2 3\naxis mins: 5 6 7",
        "spacings: 1 2 3\naxis mins: 0 0 0\ncenters: cell cell cell",
        "Space: RAS\nSpace Directions: (1,0,0) (0,2,0) (0,0,3)\nSpace Origin: (1,2,3)",
        "space: RAS\nspacedirections: (1,0,0) (0,2,0) (0,0,3)\nspaceorigin: (1,2,3)",
    ],
)
def test_masks_lie_on_nrrd_images_however_their_place_is_said(tmp_path, place):
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 7\nendian: little\nencoding: raw\n"
    (tmp_path / "a.nrrd").write_bytes(f"{head}{place}\n\n".encode() + bytes(2 * 5 * 6 * 7))
    volume = read_volume(tmp_path / "a.nrrd")
    write_mask(tmp_path / "m.nrrd", np.ones(volume.shape, np.uint8), volume)
    assert read_mask(tmp_path / "m.nrrd", volume).all()
    check_header(volume.grid)
