"""The coreset: never too many, every data set, subjects in turns."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segvol_gru.data.dataset import Case, read_manifest
from segvol_gru.errors import InputError
from segvol_gru.evaluation.coreset import allot, choose, write_manifest
from segvol_gru.evaluation.inputs import Competition


def cases(**sizes: int) -> list[Case]:
    return [
        Case(Path(f"/d/cases/{name}{i}.npz"), "CT", name, f"s{i // 2}", "train", "open", i % 2 == 1)
        for name, size in sizes.items()
        for i in range(size)
    ]


def test_shares_by_hand() -> None:
    chosen = choose(cases(a=60, b=30, c=10), 0.1, np.random.default_rng(0))
    assert Counter(c.dataset for c in chosen) == {"a": 6, "b": 3, "c": 1}
    again = choose(cases(a=60, b=30, c=10), 0.1, np.random.default_rng(0))
    assert chosen == again
    assert chosen != choose(cases(a=60, b=30, c=10), 0.1, np.random.default_rng(1))


def test_small_sets_are_not_forgotten() -> None:
    chosen = choose(cases(a=95, b=2, c=1), 0.1, np.random.default_rng(0))
    assert Counter(c.dataset for c in chosen) == {"a": 7, "b": 1, "c": 1}


def test_subjects_take_turns() -> None:
    chosen = choose(cases(a=20), 0.5, np.random.default_rng(0))
    assert len({c.subject for c in chosen}) == 10


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["CT", "MR"]), st.text("ab", max_size=3)),
        st.integers(1, 200),
        min_size=1,
    ),
    st.floats(0.001, 1),
)
def test_a_budget_is_spent_to_the_last(sizes: dict[tuple[str, str], int], share: float) -> None:
    budget = max(1, int(share * sum(sizes.values())))
    given_ = allot(sizes, budget)
    assert sum(given_.values()) == budget
    assert all(0 <= given_[name] <= sizes[name] for name in sizes)
    if budget >= len(sizes):
        assert min(given_.values()) >= 1


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="share is 0"):
        choose(cases(a=3), 0, np.random.default_rng(0))
    with pytest.raises(InputError, match="no cases"):
        choose([], 0.1, np.random.default_rng(0))


def test_a_coreset_is_a_manifest(tmp_path: Path) -> None:
    write_manifest(tmp_path / "manifest.csv", Path("/d"), cases(a=2))
    first, second = read_manifest(tmp_path)
    assert first.file == tmp_path / "cases" / "a0.npz"
    assert (first.dataset, first.split, first.instances, second.instances) == (
        *("a", "train", False, True),
    )


@pytest.mark.parametrize("kind", [Case, Competition])
def test_the_manifest_of_the_folder_stays(tmp_path: Path, kind: type[Case]) -> None:
    """One of competition files would have their spacing read in another order, too."""
    file = tmp_path / "CT_set_1.npz"
    more = (None,) if kind is Competition else ()
    found = [kind(file, "CT", "CT_set", "CT_set_1", "train", "research", False, *more)]
    write_manifest(tmp_path / "coreset.csv", tmp_path, found)
    with pytest.raises(InputError, match="the manifest of all cases"):
        write_manifest(tmp_path / "manifest.csv", tmp_path, found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coreset.csv"]
