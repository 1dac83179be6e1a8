"""Which tasks there are and what they start from."""

from __future__ import annotations

import numpy as np
import pytest
from folders import cube, two_cubes, write_folder

from segvol_gru.errors import InputError
from segvol_gru.evaluation.records import Record
from segvol_gru.evaluation.tasks import Options, flat_box, plan
from segvol_gru.prompts import Box
from segvol_gru.simulate import challenge_box


def planned(folder, **options):
    return [(case.file.stem, tasks) for case, tasks in plan(folder, Options(**options))]


def three_cases(root):
    return write_folder(
        root,
        [
            ("b", "second", cube((1, 1, 1), (6, 6, 6)), {}),
            ("a", "first", two_cubes(), {}),
            ("c", "second", cube((1, 1, 1), (6, 6, 6)), {"split": "train"}),
            ("d", "second", cube((2, 2, 2), (8, 8, 8)), {}),
        ],
    )


def test_tasks_are_sorted_and_numbered(tmp_path):
    folder = three_cases(tmp_path / "data")
    found = planned(folder, start="tight")
    assert [(name, [(t.number, t.label, t.voxels) for t in tasks]) for name, tasks in found] == [
        ("a", [(0, 1, 125), (1, 2, 64)]),
        ("b", [(2, 1, 125)]),
        ("d", [(3, 1, 216)]),
    ]
    assert found[0][1][1].box == Box((6, 6, 0), (9, 9, 3))
    subset = planned(folder, start="tight", datasets=("second",))
    assert subset == found[1:]


def test_alternate_draws_boxes_from_one_stream(tmp_path):
    found = planned(three_cases(tmp_path / "data"), start="alternate")
    boxes = [task.box for _, tasks in found for task in tasks]
    generator = np.random.default_rng(2025)
    assert boxes == [
        challenge_box(two_cubes() == 1, generator),
        None,
        challenge_box(cube((1, 1, 1), (6, 6, 6)) == 1, generator),
        None,
    ]


def test_no_box_and_jitter(tmp_path):
    folder = three_cases(tmp_path / "data")
    assert all(task.box is None for _, tasks in planned(folder, start="none") for task in tasks)
    jittered = planned(folder, start="tight", jitter=0.5)
    assert jittered == planned(folder, start="tight", jitter=0.5)
    assert jittered != planned(folder, start="tight")


def test_instances_keep_the_twelve_largest(tmp_path):
    gts = np.zeros((4, 60, 60), dtype=np.uint8)
    for k in range(14):
        gts[:, 4 * k : 4 * k + 4, : 10 + k] = k + 1
    folder = write_folder(tmp_path / "data", [("a", "cells", gts, {"labels": "instances"})])
    (_, tasks) = planned(folder)[0]
    assert [task.label for task in tasks] == list(range(3, 15))


def test_flat_box_uses_the_largest_slice():
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[4, 5:7, 5:7] = True
    mask[5, 4:8, 4:8] = True
    box = flat_box(mask, (2.0, 1.0, 1.0))
    assert (box.lo[1:], box.hi[1:]) == ((4, 4), (7, 7))
    assert (box.lo[0], box.hi[0]) == (4, 6)  # 4 mm of depth at 2 mm a slice, centred
    line = np.zeros((3, 5, 5), dtype=bool)
    line[1, 2, 1:4] = True
    assert flat_box(line, (1.0, 1.0, 1.0)).size == (1, 1, 3)


def test_unreadable_cases_are_named(tmp_path):
    folder = write_folder(
        tmp_path / "data",
        [("gone", "s", None, {}), ("torn", "s", two_cubes(), {}), ("whole", "s", two_cubes(), {})],
    )
    torn = folder / "cases" / "torn.npz"
    content = bytearray(torn.read_bytes())
    content[1000] ^= 255  # the checksum of the archive no longer fits
    torn.write_bytes(content)
    (gone, first), (name, second), (_, tasks) = planned(folder, start="tight")
    assert (gone, name) == ("gone", "torn")
    assert isinstance(first, Record)
    assert "gone" in first.error
    assert isinstance(second, Record)
    assert "torn.npz cannot be read" in second.error
    assert [task.number for task in tasks] == [0, 1]


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(InputError, match="start is 'nearly'"):
        Options(start="nearly")
    with pytest.raises(InputError, match="jitter"):
        Options(jitter=-0.1)
    with pytest.raises(InputError, match="workers"):
        Options(workers=0)
    folder = three_cases(tmp_path / "data")
    with pytest.raises(InputError, match="split 'test'"):
        planned(folder, split="test")
    with pytest.raises(InputError, match="data set third"):
        planned(folder, datasets=("third",))
