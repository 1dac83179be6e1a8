"""Shards: exactly the same voxels and examples, read by parts, below a size."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_cases, make_config, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from typer.testing import CliRunner

from segvol_gru.data.dataset import Case, load_case, read_manifest
from segvol_gru.data.shards import StoredCase, has_shards, licences, open_shards
from segvol_gru.data.shards_pack import dealt, pack
from segvol_gru.errors import InputError
from segvol_gru.interfaces.cli import app
from segvol_gru.training.cases import chosen_cases, facts, fingerprints, open_cases
from segvol_gru.training.examples import Examples
from segvol_gru.training.recipe import Recipe

ROWS = [("a", "x", "train"), ("b", "x", "train"), ("c", "y", "train"), ("d", "y", "val")]
BIG = 10**9


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = write_folder(tmp_path / "data", ROWS)
    said = {"MR_x": {"licence": "CC BY 4.0", "citation": "X", "source": "elsewhere"}}
    (folder / "datasets.json").write_text(json.dumps(said))
    return folder


@pytest.fixture
def packed(tmp_path: Path, data: Path) -> Path:
    said = {"MR_x": {"licence": "CC BY 4.0", "citation": "X"}}
    pack(read_manifest(data), tmp_path / "shards", BIG, said=said)
    return tmp_path / "shards"


def stored(folder: Path) -> dict[str, StoredCase]:
    return {case.case.file.name: case for case in open_shards(folder)}


def test_a_shard_holds_what_the_folder_holds(data: Path, packed: Path) -> None:
    found = stored(packed)
    whole = (slice(None),) * 3
    for row in read_manifest(data):
        loaded, case = load_case(row), found[row.file.name]
        assert np.array_equal(case.image[whole], loaded.image)
        assert np.array_equal(case.labels[whole], loaded.labels)
        assert (case.spacing_mm, case.tasks) == (loaded.spacing_mm, loaded.tasks)
        names = ("modality", "dataset", "subject", "split", "licence_class", "instances")
        assert all(getattr(case.case, n) == getattr(row, n) for n in names)
    assert licences(packed)["MR_x"]["citation"] == "X"


def test_a_shard_is_plain_safetensors(packed: Path) -> None:
    with safe_open(packed / "shard-0000.safetensors", "np") as file:
        assert file.metadata()["format"] == "segvol-gru shard 1"
        assert file.get_tensor("0.image").dtype == np.uint8
        assert file.get_tensor("0.runs").shape[0] == 2


@given(corners=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_every_part_is_decoded_exactly(
    tmp_path_factory: pytest.TempPathFactory, corners: list[tuple[int, int]]
) -> None:
    folder = _noise(tmp_path_factory)
    case, loaded = stored(folder / "shards")["n.npz"], load_case(read_manifest(folder)[0])
    z, y, x = (slice(min(c), max(c)) for c in corners)
    assert np.array_equal(case.labels[z, y, x], loaded.labels[z, y, x])
    assert np.array_equal(case.image[z, y, x], loaded.image[z, y, x])


def _noise(factory: pytest.TempPathFactory) -> Path:
    """One case of nothing but short runs, of odd size, packed once."""
    folder = factory.getbasetemp() / "noise"
    if not folder.exists():
        generator = np.random.default_rng(4)
        (folder / "cases").mkdir(parents=True)
        labels = generator.integers(0, 4, (9, 7, 11)).astype(np.uint16) * 300
        image = generator.integers(0, 255, labels.shape).astype(np.uint8)
        np.savez(folder / "cases" / "n.npz", imgs=image, gts=labels, spacing=np.ones(3))
        head = "file,modality,dataset,subject,split,licence_class,labels\n"
        (folder / "manifest.csv").write_text(head + "cases/n.npz,CT,n,n,train,open,1\n")
        pack(read_manifest(folder), folder / "shards", BIG)
    return folder


def test_examples_are_the_same_from_memory_and_from_shards(data: Path, packed: Path) -> None:
    loop = make_config()
    recipe = Recipe(stage="base", loop=loop)
    memory, shards = (
        Examples(open_cases(chosen_cases(recipe, f), f), loop.examples, 1, 9)
        for f in (data, packed)
    )
    known = [fingerprints(open_cases(chosen_cases(recipe, f), f)) for f in (data, packed)]
    assert known[0] == known[1]
    by_name = [sorted(c.case.file.name for g in e.groups for c in g) for e in (memory, shards)]
    assert by_name[0] == by_name[1] == ["a.npz", "b.npz", "c.npz"]
    shards.groups = [
        sorted(group, key=lambda case: case.case.file.name)
        for group in sorted(shards.groups, key=lambda g: g[0].case.dataset)
    ]
    for index in range(6):
        for a, b in zip(memory[index].values(), shards[index].values(), strict=True):
            assert isinstance(a, torch.Tensor)
            assert isinstance(b, torch.Tensor)
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_facts_of_shards_are_those_of_the_folder(data: Path, packed: Path) -> None:
    recipe = Recipe(stage="base")
    for folder in (data, packed):
        told = facts(chosen_cases(recipe, folder), folder)
        assert told["MR x"] == {"cases": 2, "licence": "CC BY 4.0", "citation": "X"}
        assert told["MR y"] == {"cases": 1, "licence": "open", "citation": ""}


def test_no_shard_is_larger_than_asked(tmp_path: Path, data: Path) -> None:
    """A case of 28^3 voxels takes 22 kB and its runs: two in a shard of 60 kB."""
    result = pack(read_manifest(data), tmp_path / "small", 60_000)
    assert list(result.shards.values()) == [2, 2]
    assert all(path.stat().st_size <= 60_000 for path in result.shards)
    assert (result.left, result.faults) == (0, {})
    assert len(open_shards(tmp_path / "small")) == 4
    one = pack(read_manifest(data), tmp_path / "one", 60_000, most=1)
    assert (len(one.shards), one.left) == (1, 2)


def test_what_cannot_be_packed_is_named(tmp_path: Path, data: Path) -> None:
    (data / "cases" / "b.npz").write_bytes(b"damaged")
    result = pack(read_manifest(data), tmp_path / "out", BIG)
    assert list(result.faults) == ["b.npz"]
    assert sum(result.shards.values()) == 3
    with pytest.raises(InputError, match="larger than 9000"):
        pack(read_manifest(data), tmp_path / "tiny", 9000)
    assert not has_shards(tmp_path / "tiny")
    with pytest.raises(InputError, match="shards already"):
        pack(read_manifest(data), tmp_path / "out", BIG)


def test_every_shard_is_a_fair_sample() -> None:
    """Of 40 and 10 cases, every fifth is of the small set wherever one cuts."""
    rows = [
        Case(Path(f"{d}{i:02d}"), "CT", d, str(i), "train", "open", False)
        for d, n in (("large", 40), ("small", 10))
        for i in range(n)
    ]
    order = dealt(rows, 1)
    assert sorted(c.file for c in order) == sorted(c.file for c in rows)
    for first in range(0, 50, 10):
        part = order[first : first + 10]
        assert sum(c.dataset == "small" for c in part) == 2
    assert dealt(rows, 1) == order != dealt(rows, 2)


def test_cases_stay_in_the_file_when_processes_are_given_them(packed: Path) -> None:
    assert len(pickle.dumps(open_shards(packed))) < 4000


@pytest.mark.parametrize("harm", ["cut", "header", "offsets", "nothing"])
def test_damaged_shards_are_refused(packed: Path, harm: str) -> None:
    path = packed / "shard-0000.safetensors"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if harm == "cut":
        content = content[: 8 + length + 100]
    elif harm == "header":
        content = (2**60).to_bytes(8, "little") + content[8:]
    elif harm == "offsets":
        header = json.loads(content[8 : 8 + length])
        header["0.image"]["data_offsets"] = [0, 10**12]
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + content[8 + length :]
    else:
        content = b""
    path.write_bytes(content)
    with pytest.raises(InputError, match="shard-0000"):
        open_shards(packed)


def test_a_folder_without_shards_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pack"):
        open_shards(tmp_path)


def test_the_command_packs(tmp_path: Path, data: Path) -> None:
    arguments = ["pack", str(data), "--out", str(tmp_path / "out"), "--size", "60KB"]
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert "shard-0000.safetensors: 2 cases" in done.output
    assert len(open_shards(tmp_path / "out")) == 3
    refused = CliRunner().invoke(app, [*arguments[:-1], "much"])
    assert refused.exit_code == 2
    assert "wanted a number with a unit" in refused.output


def test_memory_and_shards_are_told_apart(data: Path, packed: Path) -> None:
    assert (has_shards(data), has_shards(packed)) == (False, True)
    assert make_cases()[0].image.shape == (28, 28, 28)
