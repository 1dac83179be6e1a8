"""Runs side by side: shared tasks, differences, tables, charts, and a page that stands alone."""

from __future__ import annotations

import csv
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from folders import FillBox, cube, two_cubes, write_folder

from segvol_gru.data.dataset import load_case, read_manifest
from segvol_gru.evaluation.charts import line_chart
from segvol_gru.evaluation.comparisons import (
    IDEAL,
    VARIANTS,
    baseline_table,
    paired_table,
    variants_table,
    varied,
)
from segvol_gru.evaluation.protocol import evaluate
from segvol_gru.evaluation.records import Record
from segvol_gru.evaluation.report import gallery, write_report
from segvol_gru.evaluation.runs import Run, difference, set_means, shared_tasks
from segvol_gru.evaluation.tables import failure_table, iteration_table, modality_table
from segvol_gru.evaluation.tasks import Options, thinned
from segvol_gru.evaluation.traits import HARD, read_traits, size_bin, traits_of

PNG = b"\x89PNG fake"


def record(case, dsc, dataset="set", **more):
    values = {"modality": "CT", "licence_class": "open", "subject": case, "label": 1}
    six = (dsc,) * 6 if isinstance(dsc, float) else dsc
    given = {**values, "voxels": 500, "box": ((0, 0, 0), (1, 1, 1)), "dsc": six, "nsd": six, **more}
    return Record(case, dataset, **given)


def run(name, *records):
    return Run(name, {r.key: r for r in records})


def test_shared_tasks_leave_out_runs_that_were_not_made():
    one = run("one", record("a", 0.5), record("b", 0.5))
    other = run("other", record("b", 0.5))
    assert shared_tasks([one, other, Run("none", {}, reason="no weights")]) == {("b", 1)}
    assert shared_tasks([]) == set()


def test_differences_are_paired_and_need_four_tasks():
    names = "abcd"
    one = run("one", *(record(n, 0.5 + 0.1 * i) for i, n in enumerate(names)))
    other = run("other", *(record(n, 0.4 + 0.1 * i) for i, n in enumerate(names)))
    found = difference(one, other, "dsc_5")
    assert found is not None
    assert (found.tasks, found.sets) == (4, 1)
    assert [found.mean, found.low, found.high] == pytest.approx([0.1] * 3)
    assert difference(one, run("other", record("a", 0.1)), "dsc_5") is None


def test_an_interval_resamples_subjects():
    one = run("one", *(record(n, d) for n, d in zip("abcd", (0.4, 0.4, 0.8, 0.8), strict=True)))
    other = run("other", *(record(n, 0.5) for n in "abcd"))
    found = difference(one, other, "dsc_5")
    assert found is not None
    assert found.mean == pytest.approx(0.1)
    assert found.low == pytest.approx(-0.1)
    assert found.high == pytest.approx(0.3)


def test_a_gain_is_paired_within_a_run():
    steps = (0.5, 0.6, 0.7, 0.8, 0.8, 0.8)
    one = run("one", *(record(n, steps) for n in "abcd"), record("e", (math.nan, *steps[1:])))
    found = difference(one, one, "dsc_3", "dsc_box")
    assert found is not None
    assert (found.mean, found.tasks) == (pytest.approx(0.3), 4)  # one task had no box


def test_pairs_of_open_and_research_sets_apart():
    research = {"licence_class": "research", "dataset": "other"}
    one = run(
        "one", *(record(n, 0.6) for n in "abcd"), *(record(n, 0.9, **research) for n in "efgh")
    )
    two = run(
        "two", *(record(n, 0.5) for n in "abcd"), *(record(n, 0.4, **research) for n in "efgh")
    )
    table = paired_table([one, two, Run("gone", {}, reason="no weights")])
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [(r["minus"], r["licences"], r["tasks"]) for r in rows] == [
        *(("two", "open", 4), ("two", "research", 4), ("two", "all", 8)),
    ]
    assert [r["dsc_3 mean"] for r in rows] == pytest.approx([0.1, 0.5, 0.3])
    assert [r["dsc_3 low"] for r in rows] == pytest.approx([0.1, 0.5, 0.3])


def test_cells_lost_to_baselines_are_named():
    ours = run("field", record("a", 0.6), record("b", 0.6, "other"), record("c", 0.6))
    steps = (0.5, 0.5, 0.5, 0.65, 0.5, 0.6)
    brush = run("brush", record("a", steps), record("b", 0.5, "other"), record("x", 0.9))
    table = baseline_table([ours, brush, run("reprompt", record("a", 0.9))])
    assert table.head == ("data set", "baseline", "tasks", "DSC 1", "DSC 3", "DSC 5")
    assert [row[:3] for row in table.rows] == [("other", "brush", 1), ("set", "brush", 1)]
    assert table.rows[1][3:] == pytest.approx((0.1, -0.05, 0))
    assert "2 of 6 cells lost: set against brush at click 3 (-0.050), " in table.note
    assert "0 of 3 cells lost." in baseline_table([ours, run("box", record("a", 0.1))]).note
    assert baseline_table([brush, run("box", record("a", 0.1))]).rows == ()


def test_variants_beside_the_ideal_prompts():
    ideal = run("field", *(record(n, (0.5, 0.6, 0.7, 0.8, 0.85, 0.9)) for n in "abcd"))
    rough = run("field-flat", *(record(n, (0.3, 0.5, 0.5, 0.7, 0.7, 0.88)) for n in "abcd"))
    table = variants_table(ideal, [rough, Run("field-jitter", {}, reason="gone")])
    rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    assert [(r["prompts"], r["licences"]) for r in rows] == [
        *((IDEAL, "open"), (IDEAL, "all"), ("field-flat", "open"), ("field-flat", "all")),
    ]
    assert math.isnan(rows[0]["loss 5"])
    flat = rows[2]
    assert [flat[f"DSC {s}"] for s in ("box", "1", "3", "5")] == [0.3, 0.5, 0.7, 0.88]
    assert [flat[f"loss 5{end}"] for end in ("", " low", " high")] == pytest.approx([0.02] * 3)
    assert flat["gain 3"] == pytest.approx(0.4)
    assert flat["worse than box %"] == 0


def test_variants_are_what_their_names_say():
    options = Options(start="tight", most=3)
    found = {name: varied(options, name) for name in VARIANTS}
    assert len({(o.start, o.jitter, o.random_clicks) for o in found.values()}) == 7
    assert found["alternate"].start == "alternate"
    assert (found["jitter"].start, found["jitter"].jitter) == ("tight", 0.1)
    assert found["random-clicks"].random_clicks
    assert {o.foreign for o in found.values()} == {
        *("", "region-growing", "threshold", "low-resolution"),
    }
    assert all(o.most == 3 and o.seed == 2025 for o in found.values())


def test_means_over_sets_weigh_sets_alike():
    records = [record("a", 1.0), record("b", 0.5, "other"), record("c", 0.7, "other")]
    assert set_means(records)["dsc_5"] == pytest.approx((1.0 + 0.6) / 2)
    assert math.isnan(set_means(records, 3)["dsc_5"])


def test_the_papers_layouts():
    steps = (0.5, 0.6, 0.66, 0.66, 0.66, 0.66)
    ours = run("field", *(record(n, steps, modality="MR") for n in "abcd"))
    table = modality_table([ours])
    row = next(r for r in table.rows if r[0] == "MRI")
    assert table.head[:6] == (
        *("Modality", "Methods", "DSC AUC", "NSD AUC", "DSC Final", "NSD Final"),
    )
    assert row[2] == pytest.approx(0.3 + 3 * 0.66 + 0.33)
    assert row[4] == pytest.approx(0.66)
    rows = iteration_table(ours).rows
    assert rows[1][0] == "First Correction (DSC)"
    assert rows[1][1:] == pytest.approx((0.6, 0.1, 20.0))
    assert rows[2][2:] == pytest.approx((0.06, 10.0))


def test_gains_are_those_of_tasks_that_had_a_mask_before():
    boxed = [record(name, 0.9) for name in "abcd"]
    unboxed = [record(name, (math.nan, *(0.5,) * 5), box=None) for name in "efgh"]
    rows = iteration_table(run("ours", *boxed, *unboxed)).rows
    assert rows[0][1] == rows[1][1] == 0.9
    assert rows[1][2] == 0
    rows = iteration_table(run("ours", *unboxed)).rows
    assert math.isnan(rows[1][2])
    assert rows[1][1] == 0.5


def test_traits_by_hand(tmp_path):
    gts = cube((0, 0, 0), (6, 6, 6))
    gts[0:6, 0:6, 6:9] = 2
    gts[8:10] = 3
    write_folder(tmp_path / "data", [("a", "set", gts, {}), ("b", "set", None, {})])
    loaded = load_case(read_manifest(tmp_path / "data")[0])
    found = traits_of(loaded, 1)
    assert found.depth_vox == 3
    assert found.touching == pytest.approx(36 / 108)  # three faces of 36 voxels lie inside
    cache = tmp_path / "traits.json"
    first = read_traits(tmp_path / "data", "val", set(), cache)
    assert first["a", 1] == found
    assert first["a", 3].touching == 0
    assert read_traits(tmp_path / "nowhere", "val", {("a", 1)}, cache) == first
    write_folder(tmp_path / "more", [("new", "set", gts, {})])
    assert ("new", 1) in read_traits(tmp_path / "more", "val", {("a", 1), ("new", 1)}, cache)
    pet = record("a", 0.5, modality="PET")
    assert [test(pet, found) for test in HARD.values()] == [True, False, True, True, True]
    assert [size_bin(record("a", 0.5, voxels=n)) for n in (999, 1000, 10**6)] == [
        *("under 1,000", "1,000 to 10,000", "100,000 and more"),
    ]


def test_the_hardest_group_is_named():
    ours = run(
        "field",
        *(record(n, 0.9, voxels=9000) for n in "ab"),
        record("c", 0.3, voxels=9000, modality="PET"),
        record("d", 0.6),
    )
    table = failure_table(ours, {})
    assert "Hardest: PET, DSC 0.300 after five clicks; none of these: 0.900." in table.note
    assert [row[1] for row in table.rows] == [1, 0, 1, 0, 0, 2]
    assert table.rows[0][-1] == 100
    assert "Hardest" not in failure_table(run("field", record("a", 0.5)), {}).note


def test_thinning_spreads_over_the_set(tmp_path):
    names = [f"c{i}" for i in range(10)]
    write_folder(tmp_path / "data", [(n, "set", two_cubes(), {}) for n in names])
    evaluate(tmp_path / "data", FillBox, tmp_path / "few", Options(start="tight", most=4))
    few = Run.read("few", tmp_path / "few").tasks
    assert sorted(r.number for r in few.values()) == [0, 5, 10, 15]
    evaluate(tmp_path / "data", FillBox, tmp_path / "few", Options(start="tight"))
    assert len(Run.read("all", tmp_path / "few").tasks) == 20  # a short run can be made whole
    assert thinned([], None) == []


def test_charts_break_where_nothing_is_known():
    svg = line_chart({"a <b>": [0.1, math.nan, 0.3, 0.4]}, ["box", "1", "2", "3"], "DSC & more")
    assert svg.count("<circle") == 3
    assert svg.count("<polyline") == 1
    assert "DSC &amp; more" in svg
    assert "a &lt;b&gt;, 2: 0.300" in svg
    assert line_chart({"a": [math.nan]}, ["1"], "nothing") == ""


def test_the_gallery_has_best_median_and_worst():
    scores = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.6, "e": 0.1}
    ours = run("field", *(record(n, s) for n, s in scores.items()))
    ours.tasks["f", 1] = record("f", 0.0, error="out of memory")
    ours.tasks["g", 1] = record("g", 0.3, modality="PET")
    shown = [(s.record.modality, s.rank, s.record.case) for s in gallery(ours)]
    assert shown == [
        *(("CT", "best", "a"), ("CT", "median", "c"), ("CT", "worst", "e")),
        ("PET", "best", "g"),
    ]
    assert "DSC 0.900 after the first prompt" in gallery(ours)[0].caption


class Page(HTMLParser):
    """Collects what a browser would load and checks that tags match."""

    def __init__(self):
        super().__init__()
        self.sources, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_that_needs_nothing_else(tmp_path):
    rows = [
        *((n, "set", two_cubes(), {}) for n in "abcd"),
        ("gone", "set", None, {"modality": "PET"}),
    ]
    write_folder(tmp_path / "data", rows)
    evaluate(tmp_path / "data", FillBox, tmp_path / "fill", Options(start="challenge"))
    runs = [Run.read("fill", tmp_path / "fill"), Run("<big>", {}, reason="weights are missing")]
    traits = read_traits(tmp_path / "data", "val", set(), tmp_path / "traits.json")
    path = write_report(tmp_path, "A & B", ["One fact."], runs, traits, lambda r: PNG)
    text = path.read_text(encoding="utf-8")
    parser = Page()
    parser.feed(text)
    assert parser.open == []
    assert parser.sources
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert not re.search(r"https?:|@import|url\(|<script|<link", text)
    assert "prefers-color-scheme: dark" in text
    assert "&lt;big&gt;" in text
    assert "weights are missing" in text
    assert "gone" in text
    assert "Failures by name (2)" in text
    content = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    names = {table["name"] for table in content["tables"]}
    assert names == {p.stem for p in (tmp_path / "tables").glob("*.csv")}
    with (tmp_path / "tasks.csv").open() as stream:
        tasks = list(csv.DictReader(stream))
    assert len(tasks) == 8
    dsc = [r.dsc[-1] for r in runs[0].tasks.values()]
    assert sorted(float(t["dsc_5"]) for t in tasks) == pytest.approx(sorted(dsc))
    with (tmp_path / "tables" / "models.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["DSC 5"]) == pytest.approx(np.mean(dsc))
