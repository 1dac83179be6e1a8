import contextlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segvol_gru.data.challenge import read_challenge, read_labels, write_challenge_segs
from segvol_gru.data.io import read_mask, read_volume
from segvol_gru.errors import InputError
from segvol_gru.prompts import Box, Click

SHARED = Path(__file__).resolve().parents[3] / "shared"
BOX = {
    "z_min": 0, "z_max": 2, "z_mid": 1,
    "z_mid_x_min": 1, "z_mid_y_min": 2, "z_mid_x_max": 4, "z_mid_y_max": 3,
}  # fmt: skip
IMGS = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


def case(path, **keys):
    base = {"imgs": IMGS, "spacing": np.array([0.8, 0.9, 5.0])}  # stored (x, y, z)
    np.savez_compressed(path, **{**base, **keys})
    return path


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_a_whole_case_by_hand(tmp_path):
    path = case(
        tmp_path / "CT_by_hand.npz",
        gts=(IMGS > 30).astype(np.uint16),
        boxes=objects([BOX, BOX]),
        clicks=objects(
            [
                {"fg": [[0, 1, 2], [2, 3, 4]], "bg": [np.array([1, 1, 1])]},
                {"fg": [], "bg": [(np.int64(2), 0, 0)]},
            ]
        ),
        clicks_order=np.array([["fg", "bg", "fg"], [None, "bg", None]], dtype=object),
        prev_pred=np.ones_like(IMGS),
    )
    read = read_challenge(path)
    assert np.array_equal(read.volume.array, IMGS)
    assert read.volume.modality == "CT"
    assert read.volume.spacing_mm == (5.0, 0.9, 0.8)
    assert read.boxes == (Box((0, 2, 1), (2, 3, 4), (True, False, False)),) * 2
    assert read.clicks == (
        (Click((0, 1, 2), True), Click((1, 1, 1), False), Click((2, 3, 4), True)),
        (None, Click((2, 0, 0), False), None),
    )
    assert read.labels is not None
    assert np.array_equal(read.labels, IMGS > 30)
    assert read.previous is not None
    assert read.previous.all()
    assert np.array_equal(read_volume(path).array, IMGS)
    assert np.array_equal(read_mask(path, read.volume), IMGS > 30)


def test_cases_of_a_training_folder_have_their_own_order(tmp_path):
    said = case(tmp_path / "CT_a.npz", order="zyx")
    (tmp_path / "cases").mkdir()
    (tmp_path / "manifest.csv").write_bytes(b"file")
    placed = case(tmp_path / "cases" / "CT_a.npz")
    assert read_volume(case(tmp_path / "CT_b.npz", order="xyz")).spacing_mm == (5.0, 0.9, 0.8)
    for path in (said, placed):
        assert read_volume(path).spacing_mm == (0.8, 0.9, 5.0)
    (tmp_path / "manifest.csv").unlink()
    assert read_volume(placed).spacing_mm == (5.0, 0.9, 0.8)


def test_a_mask_holds_nothing_below_0(tmp_path):
    path = case(tmp_path / "a.npz", gts=IMGS.astype(np.int16) - 1)
    with pytest.raises(InputError, match="from -1 to 58"):
        read_mask(path)
    assert read_mask(case(path, gts=IMGS.astype(np.int64))).dtype == np.uint8


def test_a_first_call_without_boxes(tmp_path):
    read = read_challenge(case(tmp_path / "MR_x.npz"))
    assert (read.boxes, read.clicks, read.labels, read.previous) == ((), (), None, None)
    assert read.volume.modality == "MR"
    assert read_challenge(case(tmp_path / "x.npz")).volume.modality is None
    assert read_challenge(tmp_path / "x.npz", modality="US").volume.modality == "US"


def test_order_as_text_and_absent(tmp_path):
    clicks = objects([{"fg": [[0, 0, 0]], "bg": [[1, 1, 1]]}])
    expected = ((Click((1, 1, 1), False), Click((0, 0, 0), True)),)
    path = case(tmp_path / "a.npz", clicks=clicks, clicks_order=np.array([["bg", "fg"]]))
    assert read_challenge(path).clicks == expected
    assert read_challenge(case(path, clicks=clicks)).clicks == (expected[0][::-1],)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"boxes": objects([{"z_min": 0}])}, "competition's form"),
        ({"boxes": objects([{**BOX, "z_max": 3}])}, "outside the volume"),
        ({"boxes": objects([{**BOX, "z_min": 10**400}])}, "competition's form"),
        ({"boxes": np.array(3)}, "competition's form"),
        ({"boxes": np.array(None, dtype=object)}, "competition's form"),
        ({"clicks": objects([{"fg": [[0, 0, 9]], "bg": []}])}, "outside the volume"),
        ({"clicks": objects([{"fg": [[0, 0]], "bg": []}])}, "three finite voxel indices"),
        ({"clicks": objects([{"fg": "abc", "bg": []}])}, "competition's form"),
        ({"clicks": objects([{}]), "clicks_order": np.array([["fg"]])}, "competition's form"),
        (
            {
                "clicks": objects([{"fg": [[0, 0, 0]], "bg": []}]),
                "clicks_order": np.array([["bg"]]),
            },
            "competition's form",
        ),
        (
            {
                "clicks": objects([{"fg": [[0, 0, 0]], "bg": []}]),
                "clicks_order": np.array([[None]], dtype=object),
            },
            "fewer clicks",
        ),
        ({"gts": np.zeros((3, 4, 4), int)}, "gts in"),
        ({"prev_pred": np.zeros((3, 4, 5))}, "prev_pred in"),
        ({"imgs": np.zeros((3, 4))}, r"shape \(3, 4\)"),
        ({"imgs": objects([IMGS, 3])}, "ragged"),
        ({"spacing": np.ones(2)}, "three positive sizes"),
        ({"spacing": np.array("abc")}, "three positive sizes"),
    ],
)
def test_wrong_contents_are_refused(tmp_path, keys, message):
    with pytest.raises(InputError, match=message):
        read_challenge(case(tmp_path / "a.npz", **keys))


def test_missing_keys_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", gts=IMGS)
    with pytest.raises(InputError, match="lacks imgs and spacing"):
        read_challenge(tmp_path / "a.npz")
    assert np.array_equal(read_mask(tmp_path / "a.npz"), IMGS)
    np.savez(tmp_path / "b.npz", segs=IMGS * 0.5)
    with pytest.raises(InputError, match="whole numbers"):
        read_mask(tmp_path / "b.npz")


class Touch:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("key", ["imgs", "spacing", "gts", "boxes", "clicks", "clicks_order"])
def test_a_case_that_tries_to_run_code_is_refused(tmp_path, key):
    path = case(tmp_path / "a.npz", **{key: objects([Touch(tmp_path / "flag")])})
    with pytest.raises(InputError, match=r"refused because it asks for posix\.system"):
        read_challenge(path)
    assert not (tmp_path / "flag").exists()


def npy(shape, descr="|u1", data=b""):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("(99999, 99999, 99999)"), "above the limit"),
        (npy("(1000, 1000, 1000)"), "cannot hold"),
        (npy("(3, 4, 5)", data=bytes(59)), "cannot read"),
        (npy("(3, 4, 5)", data=bytes(61)), "cannot read"),
        (npy("(-3, 4, 5)"), "cannot read"),
        (npy("(3, 4, 5)", descr="abc"), "cannot read"),
        (npy("(3,", data=bytes(60)), "cannot read"),
        (npy("(3, 4, 5)").replace(b"NUMPY\x01", b"NUMPY\x03"), "cannot read"),
        (b"", "cannot read"),
    ],
)
def test_absurd_or_damaged_members_are_refused(tmp_path, member, message):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("imgs.npy", member)
        archive.writestr("spacing.npy", npy("(3,)", "|u1", b"\1\1\1"))
    with pytest.raises(InputError, match=message):
        read_challenge(tmp_path / "a.npz")


def test_a_zip_bomb_is_refused(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_BZIP2, compresslevel=9) as archive,
        archive.open("imgs.npy", "w") as member,
    ):
        member.write(npy("(100, 1000, 1000)"))
        for _ in range(100):
            member.write(bytes(10**6))
    assert (tmp_path / "a.npz").stat().st_size < 1000
    with pytest.raises(InputError, match="cannot hold"):
        read_challenge(tmp_path / "a.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path, data):
    path = case(tmp_path / "a.npz", boxes=objects([BOX]))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    with contextlib.suppress(InputError):  # and nothing else
        read_challenge(path)


def test_answers_come_back_and_keep_their_memory_order(tmp_path):
    segs = np.asfortranarray(np.random.default_rng(0).integers(0, 300, (3, 4, 5)))
    write_challenge_segs(tmp_path / "out.npz", segs)
    with np.load(tmp_path / "out.npz") as file:
        assert file.files == ["segs"]
        assert np.array_equal(file["segs"], segs)
        assert file["segs"].flags.c_contiguous
    assert np.array_equal(read_mask(tmp_path / "out.npz"), segs)
    write_challenge_segs(tmp_path / "out.npz", segs > 9)
    assert read_mask(tmp_path / "out.npz").dtype == np.uint8
    for bad in (segs * 0.5, segs[0]):
        with pytest.raises(InputError, match="integers"):
            write_challenge_segs(tmp_path / "out.npz", bad)
    with pytest.raises(InputError, match="shape"):
        read_mask(
            tmp_path / "out.npz", read_challenge(case(tmp_path / "a.npz", imgs=IMGS[1:])).volume
        )


@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", "i8", "f2", "f4", "f8"])
def test_answers_of_any_type_are_read(tmp_path, dtype):
    segs = np.asfortranarray(np.arange(24).reshape(2, 3, 4) % 2).astype(dtype)
    np.savez(tmp_path / "a.npz", segs=segs)
    found = read_labels(tmp_path / "a.npz")
    assert np.array_equal(found, segs)
    assert found.dtype.kind in "iu"
    assert found.flags.f_contiguous


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf, 2.0**60])
def test_answers_that_are_no_whole_numbers_are_refused(tmp_path, bad):
    np.savez(tmp_path / "a.npz", segs=np.full((2, 3, 4), bad))
    with pytest.raises(InputError, match=r"no .* array of whole numbers"):
        read_labels(tmp_path / "a.npz")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, which is not part of the repo")
def test_the_protocols_golden_files_pass_the_gates():
    from segvol_gru.data.npz import read_npz

    for path in sorted((SHARED / "goldens" / "challenge").glob("*.npz")):
        with np.load(path, allow_pickle=True) as file:
            found = read_npz(path, file.files)
            for key in file.files:
                np.testing.assert_array_equal(np.asarray(found[key], file[key].dtype), file[key])
