"""README, changelog and docs say what is so: versions, commands, the Python example, links."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import typer.main

import segvol_gru as sg
from segvol_gru.interfaces.cli import app
from segvol_gru.pretrained import read_card
from segvol_gru.training.networks import WEIGHTS
from segvol_gru.training.recipe import as_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def said_commands(path: Path) -> list[str]:
    """Calls of `segvol-gru` in code, those in tables and running text included."""
    shell = "\n".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(segvol-gru [a-z][^`]*)`", path.read_text(encoding="utf-8"))
    lines = [line.split(" #")[0].strip() for line in [*shell, *inline]]
    return [line for line in lines if line.startswith("segvol-gru ") and " ... " not in line]


def test_version_is_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"] == sg.__version__


def test_every_release_has_its_three_lists() -> None:
    releases = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1:]
    for release in releases:
        assert re.findall(r"^### (\w+)", release, re.MULTILINE) == ["Added", "Changed", "Fixed"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_in_the_pages_exist_with_their_options(path: Path) -> None:
    program = typer.main.get_command(app)
    for line in said_commands(path):
        words = shlex.split(line)[1:]
        command = program
        while words and hasattr(command, "commands"):
            if words[0].startswith("-"):
                break
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, line


def test_the_pages_name_commands() -> None:
    assert sum(len(said_commands(path)) for path in PAGES) > 15


def test_the_readme_example_runs(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = blocks(ROOT / "README.md", "python")
    assert len(code.strip().splitlines()) <= 12
    voxels = np.random.default_rng(0).integers(0, 900, (30, 32, 34)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("segvol_gru.pretrained.model_folder", lambda _: tiny_model)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    mask = names["mask"]
    assert isinstance(mask, np.ndarray)
    assert not mask[14, 12, 9]
    assert mask[12, 20, 16]
    assert (tmp_path / "mask.nii.gz").is_file()
    assert (tmp_path / "scan.session").is_file()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        if target == "docs/demo.png" and not list((ROOT / "src/segvol_gru/weights").glob("*.saf*")):
            continue  # drawn by the weights in the package, which are not there yet
        assert (path.parent / target).exists(), target


def test_the_makefile_knows_the_commands_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    said = re.findall(
        r"^(?:.*`)?make (?:[A-Z]+=\S+ )?([a-z-]+)",
        (ROOT / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert {"demo", "test"} <= set(said)
    for target in said:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_no_paths_of_a_machine_in_the_repository() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    if listed.returncode:
        pytest.skip("not in a git work tree")
    homes = [f"/{name}/" for name in ("work", "root", "home", "Users")]
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".sh", "") and path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not [home for home in homes if home in text], name


@pytest.mark.parametrize("part", ["base", "field", "experts"])
def test_the_model_cards_hold_the_readme_s_figures(part: str) -> None:
    card = read_card(WEIGHTS / f"{part}.safetensors")
    measured = re.search(r"^open: .* clicks 1-5: ([\d., ]+);", card, re.MULTILINE)
    assert measured is not None
    values = measured[1].split(", ")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    box = re.search(r"DSC after the box, open .*? \| ([\d.]+) \|", readme)
    clicks = re.search(r"DSC after one / five clicks, open .*? \| ([\d.]+) / ([\d.]+) \|", readme)
    assert box is not None
    assert clicks is not None
    assert [box[1], *clicks.groups()] == [values[0], values[1], values[5]]


@pytest.mark.parametrize("part", ["base", "field", "paper", "experts"])
def test_the_recipes_in_the_model_cards_can_be_run(part: str) -> None:
    """Every key is still one of the recipe's."""
    card = read_card(WEIGHTS / f"{part}.safetensors")
    as_recipe(json.loads(card.split("```json\n")[1].split("\n```")[0]), part)
