"""The built wheel, alone in an empty environment: contents, `doctor`, a segmentation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segvol_gru.data.io import write_mask
from segvol_gru.interfaces.commands.doctor import phantom

ROOT = Path(__file__).parent.parent
TORCH = "torch==2.13.0"
PAGE = Path("src/segvol_gru/interfaces/server/static")
MB = 2**20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built the default way, by an sdist, from what git tracks and a page, which it ignores."""
    out, tree = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("tree")
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, encoding="utf-8")
    for name in tracked.splitlines():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / PAGE).mkdir()
    (tree / PAGE / "index.html").write_text("<!doctype html>")
    if (ROOT / PAGE).is_dir():
        shutil.copytree(ROOT / PAGE, tree / PAGE, dirs_exist_ok=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, tree], check=True)
    [path] = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`segvol-gru` in an environment that has nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, TORCH, wheel], check=True)
    return folder / "bin" / "segvol-gru"


def run(program: Path, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Without this repository on the path and without a home folder to leave things in."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    words = [str(program), *map(str, arguments)]
    env = {**kept, "HOME": str(cwd), "COLUMNS": "200"}
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, encoding="utf-8")


def test_the_wheel_has_what_it_needs_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        largest = max(entry.file_size for entry in archive.infolist())
    page = f"{PAGE.relative_to('src/segvol_gru')}/index.html"
    for wanted in ("py.typed", "weights/LICENSE", "training/recipes/base.toml", page):
        assert f"segvol_gru/{wanted}" in names
    weights = [name for name in names if name.endswith(".safetensors")]
    assert {"base.safetensors", "field.safetensors"} <= {Path(name).name for name in weights}
    assert not [name for name in names if "test" in Path(name).parts[0]]
    assert largest <= 15 * MB
    assert wheel.stat().st_size <= 25 * MB


def test_doctor_is_content(program: Path, tmp_path: Path) -> None:
    done = run(program, tmp_path, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout


def test_a_segmentation_comes_out_right(program: Path, tmp_path: Path) -> None:
    volume, truth = phantom()
    write_mask(tmp_path / "truth.nii.gz", truth, volume)
    affine = nib.load(tmp_path / "truth.nii.gz").affine
    nib.save(nib.Nifti1Image(volume.array.T, affine), tmp_path / "scan.nii.gz")
    at = np.argwhere(truth)
    box = ",".join(map(str, (*at.min(axis=0), *at.max(axis=0))))
    done = run(
        *(program, tmp_path, "segment", "scan.nii.gz", "--box", box, "--click", "19,33,42,+"),
        *("--out", "mask.nii.gz", "--overlay", "mask.png"),
    )
    assert done.returncode == 0, done.stderr
    mask = np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj).T > 0
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8
    assert (tmp_path / "mask.png").is_file()
