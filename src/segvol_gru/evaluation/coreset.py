"""A small part of a training folder that stands for the whole, as the coreset track asks.

Every data set gives its share, at least one case while the budget allows; within a data set
subjects take turns, so that no subject comes twice before every other came once.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segvol_gru.data.dataset import MANIFEST, Case
from segvol_gru.data.files import whole_file
from segvol_gru.errors import InputError

SHARE = 0.1  # of the training cases, by the rules of the coreset track
COLUMNS = ("file", "modality", "dataset", "subject", "split", "licence_class", "labels")

Stratum = tuple[str, str]  # modality, data set


def choose(cases: Sequence[Case], share: float, generator: np.random.Generator) -> list[Case]:
    """Choose a stratified part of some cases.

    Args:
        cases: to choose from; none is read.
        share: of their number, rounded down, at least one case.
        generator: source of chance.

    Returns:
        The chosen cases in the order in which they were given.

    Raises:
        InputError: the share is not above 0 and at most 1, or there are no cases.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}, wanted more than 0 and at most 1; 0.1 is a tenth.")
    if not cases:
        raise InputError("there are no cases to choose from; give a folder of training cases.")
    strata: dict[Stratum, list[int]] = defaultdict(list)
    for place, case in enumerate(cases):
        strata[case.modality, case.dataset].append(place)
    budget = max(1, int(share * len(cases) + 1e-9))
    quotas = allot({name: len(places) for name, places in strata.items()}, budget)
    chosen: list[int] = []
    for name, places in sorted(strata.items()):
        chosen += _in_turns(cases, places, generator)[: quotas[name]]
    return [cases[place] for place in sorted(chosen)]


def allot(sizes: dict[Stratum, int], budget: int) -> dict[Stratum, int]:
    """Deal out a budget in proportion to sizes, by largest remainders.

    Where the budget is at least the number of strata, each gets one or more.

    Args:
        sizes: cases per stratum, each at least 1.
        budget: cases in all, at most the sum of the sizes.
    """
    total = sum(sizes.values())
    least = 1 if budget >= len(sizes) else 0
    exact = {name: budget * n / total for name, n in sizes.items()}
    given = {name: max(least, int(share)) for name, share in exact.items()}
    order = sorted(sizes, key=lambda name: (given[name] - exact[name], name))
    while sum(given.values()) < budget:
        name = next(n for n in order if given[n] < sizes[n])
        given[name] += 1
        order.sort(key=lambda n: (given[n] - exact[n], n))
    while sum(given.values()) > budget:  # the ones that were guaranteed took too much
        name = max((n for n in sizes if given[n] > least), key=lambda n: (given[n] - exact[n], n))
        given[name] -= 1
    return given


def write_manifest(path: Path, data: Path, cases: Sequence[Case]) -> None:
    """Write cases as the rows of a manifest, files relative to the data folder.

    Raises:
        InputError: it would be the manifest of the folder, which names all its cases.
    """
    if path.resolve() == (data / MANIFEST).resolve():
        raise InputError(f"{path} is the manifest of all cases of the folder; give another name.")
    with whole_file(path) as fresh, fresh.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        for case in cases:
            file = case.file.relative_to(data).as_posix()
            labels = "instances" if case.instances else ""
            about = (case.modality, case.dataset, case.subject, case.split, case.licence_class)
            writer.writerow((file, *about, labels))


def _in_turns(
    cases: Sequence[Case], places: Sequence[int], generator: np.random.Generator
) -> list[int]:
    """Places in random order, the first case of every subject before the second of any."""
    shuffled = [places[i] for i in generator.permutation(len(places))]
    seen: dict[str, int] = defaultdict(int)
    turns = []
    for place in shuffled:
        turns.append((seen[cases[place].subject], place))
        seen[cases[place].subject] += 1
    return [place for _, place in sorted(turns, key=lambda turn: turn[0])]
