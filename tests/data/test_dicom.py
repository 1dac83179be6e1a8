"""DICOM series of hand-written files: voxels, places and the reasons to refuse."""

import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segvol_gru.data.io import read_mask, read_volume, write_mask
from segvol_gru.errors import InputError
from segvol_gru.grid import Grid

UPRIGHT = (1, 0, 0, 0, 1, 0)
CT = "1.2.840.10008.5.1.4.1.1.2"
LONG = ("OB", "OW", "SQ", "UN")
RAS = np.array((-1, -1, 1))
PLANE = np.arange(12).reshape(3, 4)


def element(group, number, kind, value):
    """One data element in explicit little-endian form."""
    if isinstance(value, int):
        value = struct.pack("<H", value)
    elif not isinstance(value, bytes):
        parts = value if isinstance(value, tuple) else (value,)
        value = "\\".join(f"{p:.10g}" if isinstance(p, float) else str(p) for p in parts).encode()
    value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return struct.pack("<HH2s", group, number, kind.encode()) + length + value


def write_slice(path, plane, position, number=1, **tags):
    """One CT slice; `tags` replace or add elements by name, None leaves one out."""
    frames = tags.pop("frames", None)
    values = {
        (0x08, 0x16): ("UI", CT),
        (0x08, 0x18): ("UI", f"1.2.9.{number}"),
        (0x08, 0x60): ("CS", "CT"),
        (0x18, 0x50): ("DS", tags.pop("thickness", None)),
        (0x18, 0x88): ("DS", tags.pop("between", None)),
        (0x20, 0x0D): ("UI", "1.2.3"),
        (0x20, 0x0E): ("UI", "1.2.3.4"),
        (0x20, 0x13): ("IS", str(number)),
        (0x20, 0x32): ("DS", position and tuple(position)),
        (0x20, 0x37): ("DS", tuple(map(float, tags.pop("facing", UPRIGHT)))),
        (0x28, 0x02): ("US", 3 if tags.get("colour") else 1),
        (0x18, 0x1164): ("DS", tags.pop("imager", None)),
        (0x28, 0x04): ("CS", "RGB" if tags.get("colour") else tags.pop("meaning", "MONOCHROME2")),
        (0x28, 0x06): ("US", 0 if tags.pop("colour", False) else None),
        (0x28, 0x08): ("IS", frames and str(frames)),
        (0x28, 0x10): ("US", plane.shape[-2]),
        (0x28, 0x11): ("US", plane.shape[-1]),
        (0x28, 0x30): ("DS", tags.pop("pixel", (0.75, 0.5))),
        (0x28, 0x100): ("US", 8 * plane.dtype.itemsize),
        (0x28, 0x101): ("US", 8 * plane.dtype.itemsize),
        (0x28, 0x102): ("US", 8 * plane.dtype.itemsize - 1),
        (0x28, 0x103): ("US", int(plane.dtype.kind == "i")),
        (0x28, 0x1052): ("DS", str(tags.pop("intercept", 0))),
        (0x28, 0x1053): ("DS", str(tags.pop("slope", 1))),
        (0x7FE0, 0x10): ("OW", plane.tobytes()),
    }
    assert not tags
    syntax = element(2, 2, "UI", CT) + element(2, 0x10, "UI", "1.2.840.10008.1.2.1")
    head = element(2, 0, "UL", struct.pack("<I", len(syntax))) + syntax
    body = b"".join(
        element(*key, form, value)
        for key, (form, value) in sorted(values.items())
        if value is not None
    )
    path.write_bytes(bytes(128) + b"DICM" + head + body)


def write_series(folder, positions, planes=None, **tags):
    """Slices at LPS positions; a tag that is a list has one value per slice."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for i, position in enumerate(positions):
        plane = (PLANE + 12 * i if planes is None else np.asarray(planes[i])).astype("<i2")
        own = {name: value[i] if isinstance(value, list) else value for name, value in tags.items()}
        write_slice(folder / f"{i:03d}.dcm", plane, position, i + 1, **own)
    return folder


def heights(*values):
    return [(-10, -20, value) for value in values]


def test_a_series_lies_where_it_says(tmp_path):
    volume = read_volume(write_series(tmp_path / "s", heights(0, 2.5, 5), intercept=-1000))
    assert volume.modality == "CT"
    assert volume.array.dtype.kind == "i"
    assert np.array_equal(volume.array, np.arange(36).reshape(3, 3, 4) - 1000)
    assert volume.spacing_mm == (2.5, 0.75, 0.5)
    assert volume.to_world((0, 0, 0)).tolist() == [10, 20, 0]  # LPS (-10, -20, 0)
    assert read_volume(tmp_path / "s", modality="PET").modality == "PET"


def test_pixels_have_the_size_that_is_given(tmp_path):
    folder, places = tmp_path / "s", heights(0, 2.5, 5)
    volume = read_volume(write_series(folder, places, pixel=None, imager=(0.25, 0.125)))
    assert volume.spacing_mm == (2.5, 0.25, 0.125)
    with pytest.raises(InputError, match="says no pixel size"):
        read_volume(write_series(folder, places, pixel=None))
    assert read_volume(write_series(folder, places[:1], pixel=None)).spacing_mm == (1, 1, 1)


def test_values_that_itk_turns_over_are_refused(tmp_path):
    with pytest.raises(InputError, match="MONOCHROME1"):
        read_volume(write_series(tmp_path / "s", heights(0, 2.5, 5), meaning="MONOCHROME1"))


def test_slices_are_ordered_by_place_whatever_their_names(tmp_path):
    volume = read_volume(write_series(tmp_path / "s", heights(4, 0, 6, 2)))
    assert (volume.array[:, 0, 0] // 12).tolist() == [1, 3, 0, 2]
    assert volume.to_world((0, 0, 0)).tolist() == [10, 20, 0]


@pytest.mark.parametrize("step", [0.6, 0.7, 0.8, 1.0, 2.0, 2.5, 3.0])
def test_rounded_positions_are_even(tmp_path, step):
    places = heights(*(round(-31.7 + z * step, 4) for z in range(40)))
    assert read_volume(write_series(tmp_path / "s", places)).spacing_mm[0] == pytest.approx(step)


def test_positions_of_two_decimals_are_even(tmp_path):
    for step in (0.625, 4 / 3):
        places = heights(*(round(z * step, 2) for z in range(30)))
        found = read_volume(write_series(tmp_path / "s", places)).spacing_mm[0]
        assert found == pytest.approx(step, abs=1e-3)


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    st.tuples(*[st.floats(-1.5, 1.5)] * 3),
    st.floats(0.3, 6),
    st.floats(-30, 30),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.integers(2, 5),
)
def test_oblique_and_tilted_series_lie_where_they_say(tmp_path, angles, step, tilt, origin, n):
    (a, b, c), cos, sin = angles, np.cos, np.sin
    turn = np.array([[cos(a), -sin(a), 0], [sin(a), cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, cos(b), -sin(b)], [0, sin(b), cos(b)]])
    turn = turn @ np.array([[cos(c), 0, sin(c)], [0, 1, 0], [-sin(c), 0, cos(c)]])
    along = step * turn @ (0, np.tan(np.radians(tilt)), 1)
    places = [np.round(origin + z * along, 5).tolist() for z in range(n)]
    facing = np.round(turn[:, :2].T.ravel(), 6)
    volume = read_volume(write_series(tmp_path / "s", places, facing=tuple(facing)))
    for z in range(n):
        wanted = places[z] + turn @ (3 * 0.5, 2 * 0.75, 0)
        assert np.allclose(volume.to_world((z, 2, 3)), wanted * RAS, atol=1e-4)
        assert np.array_equal(volume.array[z], PLANE + 12 * z)


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.nrrd", "m.mha", "m.mhd"])
def test_masks_of_a_tilted_gantry_lie_on_the_image_in_other_programs_too(tmp_path, name):
    volume = read_volume(write_series(tmp_path / "s", [(0, z * 0.875, z * 5.0) for z in range(10)]))
    assert volume.to_world((9, 0, 0)).tolist() == [0, -7.875, 45]
    mask = volume.array % 5 == 0
    # As read, and as it comes back from a session file.
    for grid in (volume.grid, Grid.from_json(volume.grid.to_json())):
        write_mask(tmp_path / name, mask, grid)
        assert np.array_equal(read_mask(tmp_path / name, like=volume), mask)
        if "nii" in name:
            point = (nib.load(tmp_path / name).affine @ (3, 2, 9, 1))[:3]
        else:
            image = sitk.ReadImage(str(tmp_path / name))
            point = np.array(image.TransformIndexToPhysicalPoint((3, 2, 9))) * RAS
        assert np.allclose(point, volume.to_world((9, 2, 3)), atol=1e-4)


def test_positions_of_one_decimal_are_even(tmp_path):
    places = heights(*(round(1.25 * z, 1) for z in range(40)))
    assert read_volume(write_series(tmp_path / "s", places)).spacing_mm[0] == pytest.approx(
        1.25, 0.01
    )


def test_a_step_that_changes_slowly_is_refused(tmp_path):
    places = heights(*np.cumsum(np.linspace(1.9, 2.1, 40)).tolist())
    with pytest.raises(InputError, match="the step changes"):
        read_volume(write_series(tmp_path / "s", places))


@pytest.mark.parametrize("step", [0.005, 0.6, 2.5])
def test_a_missing_slice_is_refused_and_said_where(tmp_path, step):
    places = heights(*(z * step for z in range(40) if z != 17))
    with pytest.raises(InputError, match=r"uneven distances.* 016\.dcm and 017\.dcm"):
        read_volume(write_series(tmp_path / "s", places))


@pytest.mark.parametrize("which", [0, 5])
@pytest.mark.parametrize("left", [0, 10, 300, -10])
def test_a_damaged_slice_at_an_end_is_refused(tmp_path, which, left):
    folder = write_series(tmp_path / "s", heights(*map(float, range(6))))
    file = folder / f"{which:03d}.dcm"
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(InputError, match=rf"00{which}\.dcm looks like a slice but cannot be read"):
        read_volume(folder)


def test_other_files_beside_the_slices_are_no_damage(tmp_path):
    folder = write_series(tmp_path / "s", heights(0.0, 1.0, 2.0))
    slice_, report = (folder / "000.dcm").read_bytes(), b"1.2.840.10008.5.1.4.1.1.88.11\0"
    named = element(2, 2, "UI", CT)
    other = slice_[:132] + slice_[132:].replace(named, element(2, 2, "UI", report))[:300]
    (folder / "report.dcm").write_bytes(other)
    (folder / "notes.txt").write_bytes(b"")
    (folder / "DICOMDIR").write_bytes(b"")
    (folder / "folder").mkdir()
    assert read_volume(folder).shape == (3, 3, 4)


def test_slices_with_scales_of_their_own_keep_their_values(tmp_path):
    planes = np.full((3, 3, 4), 30000)
    for slopes, offsets in (
        ((1, 1000, 1000), (0, 0, 0)),
        ((1, 0.37, 0.37), (0, 0, 0)),
        ((0.37, 1.5, 1), (0, 0, 0)),
        ((1, 1, 1), (0, -1024, 0.5)),
        ((1, 2, 1), (0, 30000, -9000)),
    ):
        folder = write_series(
            tmp_path / "s", heights(0, 1, 2), planes, slope=list(slopes), intercept=list(offsets)
        )
        wanted = 30000 * np.array(slopes) + offsets
        assert np.allclose(read_volume(folder).array[:, 2, 3], wanted, rtol=1e-6)


def test_one_slice_is_as_thick_as_it_says(tmp_path):
    for tags, wanted in (
        ({"between": "3.5", "thickness": "2"}, 3.5),
        ({"thickness": "2"}, 2),
        ({"between": "-3.5", "thickness": "0"}, 1),
        ({}, 1),
    ):
        volume = read_volume(write_series(tmp_path / "s", heights(7), **tags))
        assert volume.shape == (1, 3, 4)
        assert volume.spacing_mm == (wanted, 0.75, 0.5)
        assert volume.to_world((0, 0, 0)).tolist() == [10, 20, 7]


@pytest.mark.parametrize(
    ("places", "tags", "message"),
    [
        (heights(0, 0, 0, 0), {}, "4 of 4 slices .* time series"),
        (heights(0, 2, 4, 0, 2, 4), {}, "6 of 6 slices .* time series"),
        (heights(0, 2, 4, 4), {}, "2 of 4 slices .* time series"),
        (heights(0, 2, 4), {"facing": [UPRIGHT, UPRIGHT, (0, 1, 0, 0, 0, -1)]}, "different ways"),
        (heights(0, 2), {"facing": [UPRIGHT, (1, 0, 0, 0, 0.99995, 0.01)]}, "different ways"),
        (heights(0, 2), {"facing": (0, 0, 0, 0, 0, 0)}, "perpendicular unit"),
        (heights(0, 2), {"pixel": [(1, 1), (1, 2)]}, "wanted equal ones"),
        (heights(0, 2), {"planes": [PLANE, PLANE[:2]]}, "wanted equal ones"),
        ([(0, 0, 0), (0, 0, "up")], {}, "says .* wanted 3 numbers"),
        ([(0, 0, 0), None, (0, 0, 4)], {}, "1 of 3 slices .* no position"),
        ([(0, 0, 0), (0, 0, 2), (9, 0, 4), (0, 0, 6)], {}, r"002.dcm .* 9 mm beside"),
        (heights(0), {"planes": [np.zeros((5, 3, 4))], "frames": 5}, "multi-frame .* 5 frames"),
        (heights(0), {"planes": [np.zeros((3, 4, 3))], "colour": True}, "in colour"),
    ],
)
def test_what_is_no_stack_is_refused(tmp_path, places, tags, message):
    with pytest.raises(InputError, match=message):
        read_volume(write_series(tmp_path / "s", places, **tags))
