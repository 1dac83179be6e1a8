"""`segment`: files in, files out, prompts in both frames, refusals."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

import segvol_gru as sg
from segvol_gru.data.io import read_mask, read_volume, write_mask
from segvol_gru.errors import InputError
from segvol_gru.interfaces.cli import app
from segvol_gru.interfaces.typed import typed_prompts

BOX = "4,5,6,15,17,20"
CORNERS = ((4, 5, 6), (15, 17, 20))


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["segment", *map(str, arguments)], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_mask_is_what_the_session_gives_on_the_very_grid(
    tiny_model: Path, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mask.nii.gz"
    clicks = ("--click", "9,9,12,+", "--click", "5,6,8,-")
    code, shown, _ = run(image, "--box", BOX, *clicks, "--model", tiny_model, "--out", out)
    assert code == 0
    session = sg.Session(read_volume(image), tiny_model)
    session.box(*CORNERS)
    session.click((9, 9, 12))
    expected = session.click((5, 6, 8), positive=False)
    assert np.array_equal(read_mask(out, read_volume(image)) > 0, expected)
    assert f"{int(expected.sum()):,}" in shown
    written, source = nib.load(out), nib.load(image)
    assert np.array_equal(written.affine, source.affine)
    assert written.shape == source.shape


def test_millimetres_and_voxels_say_the_same(tiny_model: Path, image: Path, tmp_path: Path) -> None:
    volume = read_volume(image)
    corners = [volume.to_world(corner) for corner in CORNERS]
    in_mm = ",".join(f"{v:.6f}" for corner in corners for v in corner)
    at = ",".join(f"{v:.6f}" for v in volume.to_world((9, 9, 12)))
    a, b = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    assert (
        run(image, "--box", BOX, "--click", "9,9,12,+", "--model", tiny_model, "--out", a)[0] == 0
    )
    code, _, _ = run(
        image, "--mm", "--box", in_mm, "--click", f"{at},+", "--model", tiny_model, "--out", b
    )
    assert code == 0
    assert np.array_equal(read_mask(a), read_mask(b))


def test_millimetres_may_begin_with_a_minus(tiny_model: Path, image: Path, tmp_path: Path) -> None:
    at = read_volume(image).to_world((9, 9, 25))
    assert at[0] < 0
    out = tmp_path / "mask.nii.gz"
    point = ",".join(f"{v:.6f}" for v in at)
    code, _, said = run(
        *(image, "--mm", "--click", f"{point},+", "--model", tiny_model, "--out", out)
    )
    assert code == 0, said
    assert read_mask(out)[9, 9, 25] == 1


def test_every_output_is_written(tiny_model: Path, image: Path, tmp_path: Path) -> None:
    picture, p_prob, saved = (tmp_path / n for n in ("o.png", "p.nii.gz", "s.sgs"))
    journal, out = tmp_path / "journal", tmp_path / "mask.nii.gz"
    code, shown, _ = run(
        *(image, "--box", BOX, "--model", tiny_model, "--out", out, "--overlay", picture),
        *("--probability", p_prob, "--session", saved, "--journal", journal),
    )
    assert code == 0
    mask = read_mask(out) > 0
    assert np.array_equal(read_volume(p_prob).array > 0.5, mask)
    assert np.array_equal(sg.Session.load(saved, tiny_model).mask, mask)
    assert np.array_equal(sg.Session.resume(journal, tiny_model).mask, mask)
    assert picture.read_bytes().startswith(b"\x89PNG")
    for name in ("mask", "overlay", "probability", "session"):
        assert f"wrote {name} " in shown


@pytest.mark.parametrize("corrector", ["field", "paper", "reprompt"])
def test_every_corrector_obeys_a_click(
    tiny_model: Path, image: Path, tmp_path: Path, corrector: str
) -> None:
    out = tmp_path / "mask.nrrd"
    code, _, _ = run(
        *(image, "--box", BOX, "--click", "9,9,12,-", "--corrector", corrector),
        *("--model", tiny_model, "--out", out),
    )
    assert code == 0
    assert read_mask(out)[9, 9, 12] == 0


def test_a_first_click_starts_without_a_box(tiny_model: Path, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "mask.nii.gz"
    assert run(image, "--click", "9,9,12,+", "--model", tiny_model, "--out", out)[0] == 0
    assert read_mask(out)[9, 9, 12] == 1


def test_a_mask_of_another_tool_is_corrected(tiny_model: Path, image: Path, tmp_path: Path) -> None:
    volume = read_volume(image)
    labels = np.zeros(volume.shape, np.uint8)
    labels[5:12, 6:14, 7:18], labels[14:18, 6:14, 7:18] = 1, 2
    given, out = tmp_path / "given.nii.gz", tmp_path / "mask.nii.gz"
    write_mask(given, labels, volume)
    common = (image, "--mask", given, "--model", tiny_model, "--out", out)
    code, _, said = run(*common)
    assert code == 2
    assert "--label" in said
    assert run(*common, "--label", 2)[0] == 0
    assert np.array_equal(read_mask(out) > 0, labels == 2)
    code, _, said = run(*common, "--label", 3)
    assert code == 2
    assert "[1, 2]" in said


def test_nothing_that_was_read_or_written_is_written_over(
    tiny_model: Path, image: Path, tmp_path: Path
) -> None:
    before, out = image.read_bytes(), tmp_path / "mask.nii.gz"
    common = ("--click", "9,9,12,+", "--model", tiny_model)
    for arguments in (
        (image, *common, "--out", image),
        (image, *common, "--mask", image, "--label", "1", "--out", out, "--session", image),
        (image, *common, "--out", out, "--probability", out.parent / "." / out.name),
    ):
        code, _, said = run(*arguments)
        assert code == 2
        assert "is an input or another output" in said
    assert image.read_bytes() == before
    assert not out.exists()


def test_a_wrong_prompt_is_refused_before_a_journal_is_begun(
    tiny_model: Path, image: Path, tmp_path: Path
) -> None:
    out, journal = tmp_path / "mask.nii.gz", tmp_path / "journal"
    common = (image, "--model", tiny_model, "--out", out, "--journal", journal)
    code, _, said = run(*common, "--click", "9,9,12,+", "--click", "9,9,99,+")
    assert code == 2
    assert "outside the volume" in said
    assert not journal.exists()
    assert run(*common, "--click", "9,9,12,+")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no prompt came"),
        (("--box", "1,2,3"), "two corners"),
        (("--box", "1,2,3,4,5,six"), "two corners"),
        (("--box", "9,9,9,5,5,5"), "smaller corner first"),
        (("--box", "0,0,0,99,9,9"), "outside the volume"),
        (("--click", "1,2,3"), "wanted z,y,x,+"),
        (("--click", "1,2,3,*"), "wanted z,y,x,+"),
        (("--click", "99,2,3,+"), "outside the volume"),
        (("--box", BOX, "--window", "liver"), "soft-tissue"),
        (("--box", BOX, "--label", "3"), "--mask"),
        (("--box", BOX, "--base", "huge"), "segvol"),
        (("--box", BOX, "--base", "segvol"), "--weights"),
        (("--box", BOX, "--weights", "w.safetensors"), "--base segvol"),
        (("--box", BOX, "--base", "segvol", "--weights", "w.safetensors"), "weights import"),
        (("--text", "liver"), "--text-source"),
        (("--text", "liver", "--text-source", "t.safetensors"), "for SegVol"),
        (("--box", BOX, "--compat"), "for SegVol"),
        (("--box", BOX, "--mask", "mask.nii.gz"), "give one of them"),
        (("--box", BOX, "--corrector", "pencil"), "pencil"),
        (("--box", BOX, "--model", "nowhere"), "nowhere"),
        (("--box", BOX, "--modality", "XR"), "XR"),
        (("--box", BOX, "--overlay", "nowhere/o.png"), "no folder"),
        (("--box", BOX, "--overlay", "o.txt"), "no known ending"),
        (("--box", BOX, "--probability", "p.npz"), "no known ending"),
    ],
)
def test_refusals(
    tiny_model: Path,
    image: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    out = tmp_path / "mask.nii.gz"
    model = () if "--model" in arguments else ("--model", tiny_model)
    code, _, said = run(image, "--out", out, *model, *arguments)
    assert code == 2
    assert words in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_windows_have_the_names_of_the_manual(
    tiny_model: Path, image: Path, tmp_path: Path
) -> None:
    for window in ("soft-tissue", "lung", "brain", "bone"):
        out = tmp_path / f"{window}.nii.gz"
        code, _, said = run(
            *(image, "--box", BOX, "--window", window, "--model", tiny_model, "--out", out)
        )
        assert code == 0, said


def test_negative_millimetres_are_read() -> None:
    typed = typed_prompts("-1.5,2,3,4,5,6", ["-7,8.25,-9,-"], mm=True)
    assert typed.box == ([-1.5, 2, 3], [4, 5, 6])
    assert typed.clicks == (("-7,8.25,-9,-", [-7, 8.25, -9], False),)
    assert typed.frame == "ras"


def test_typed_prompts_need_their_form() -> None:
    with pytest.raises(InputError, match="box"):
        typed_prompts("", [], mm=False)
    with pytest.raises(InputError, match="click"):
        typed_prompts(None, ["+"], mm=False)
