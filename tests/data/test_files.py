import pytest

from segvol_gru.data.files import make_folder, whole_file
from segvol_gru.errors import InputError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "mask.nii"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with whole_file(path) as fresh:
            fresh.write_bytes(b"new, and longer")
            assert path.read_bytes() == b"old"
        assert path.read_bytes() == b"new, and longer"
        assert reader.read() == b"old", "who was reading keeps what he had"
    with pytest.raises(RuntimeError, match="power cut"):
        cut_short(path)
    assert path.read_bytes() == b"new, and longer"
    assert list(tmp_path.iterdir()) == [path]


def cut_short(path):
    with whole_file(path) as fresh:
        fresh.write_bytes(b"hal")
        raise RuntimeError("power cut")


def test_data_files_move_before_the_header_that_names_them(tmp_path):
    with whole_file(tmp_path / "mask.mhd") as fresh:
        fresh.write_bytes(b"header")
        fresh.with_suffix(".zraw").write_bytes(b"voxels")
    assert {p.name for p in tmp_path.iterdir()} == {"mask.mhd", "mask.zraw"}


@pytest.mark.parametrize(("name", "told"), [("", "is a folder"), ("nowhere/mask.nii", "existing")])
def test_a_place_that_takes_no_file_is_told_at_once(tmp_path, name, told):
    with pytest.raises(InputError, match=told), whole_file(tmp_path / name):
        pytest.fail("nothing could be written")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_folder_where_a_file_lies_is_refused(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot make the folder"):
        make_folder(tmp_path / name)
    made = make_folder(tmp_path / "a" / "b")
    assert made.is_dir()
    assert make_folder(made) == made
