"""What is seen of a run: the CSV file, curves, and a bar that says how long it will take."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import pytest
from conftest import Train, make_config
from rich.console import Console

from segvol_gru.training.watch import CsvLog, ProgressBar, Row, TensorBoardLog


def row(step: int) -> Row:
    return Row(step, 2.0, 0.25, 1e-3, 0.5, (1.25, 0.75), (0.5, 0.625))


def test_the_csv_file_has_a_line_per_step(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    log.begin(0, 3)
    log.row(row(0))
    log.validated(1, 0.5, best=True)
    log.close()
    with (tmp_path / "log.csv").open(newline="") as stream:
        first, score = csv.DictReader(stream)
    assert first == {
        "step": "0",
        "seconds": "2.000",
        "wait": "0.250",
        "lr": "0.001",
        "norm": "0.500",
        "losses": "1.2500 0.7500",
        "dice": "0.5000 0.6250",
        "score": "",
    }
    assert (score["step"], score["score"], score["losses"]) == ("1", "0.50000", "")


def test_going_on_drops_the_lines_of_steps_made_again(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "log.csv")
    log.begin(0, 9)
    for step in range(5):
        log.row(row(step))
        log.validated(step + 1, 0.1, best=False)
    log.begin(3, 9)
    lines = (tmp_path / "log.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == ["0", "1", "1", "2", "2", "3"]
    log.begin(0, 9)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1


def test_a_log_of_an_older_form_is_kept(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,seconds,norm,losses,dice\n0,1.0,0.5,1.0,0.5\n")
    log = CsvLog(tmp_path / "log.csv")
    log.begin(1, 2)
    head, kept = (tmp_path / "log.csv").read_text().splitlines()
    assert head.split(",") == list(CsvLog.HEAD)
    assert kept == "0,1.0,,,0.5,1.0,0.5,"


def test_the_bar_says_what_is_done_and_what_is_left() -> None:
    seen = StringIO()
    console = Console(file=seen, force_terminal=True, width=160)
    bar = ProgressBar(console)
    bar.begin(10, 40)
    for step in range(10, 20):
        bar.row(row(step))
    bar.validated(20, 0.875, best=True)
    bar.row(row(20))
    bar.close()
    assert "21/40" in seen.getvalue()
    assert "left" in seen.getvalue()
    assert "val 0.875 (best)" in seen.getvalue()
    assert "0:00:0" in seen.getvalue()


def test_no_bar_where_no_terminal_is() -> None:
    seen = StringIO()
    bar = ProgressBar(Console(file=seen))
    bar.begin(0, 2)
    bar.row(row(0))
    bar.close()
    assert seen.getvalue() == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own imports
def test_curves_are_written_for_tensorboard(tmp_path: Path, train: Train) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = TensorBoardLog(tmp_path / "tensorboard")
    config = make_config(steps=2, validate_every=1)
    train("run", config, corrector=False, validate=lambda _, step: float(step), watchers=(curves,))
    read = EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert {"loss/0", "dice/0", "lr", "score"} <= set(read.Tags()["scalars"])
    assert [event.step for event in read.Scalars("loss/0")] == [0, 1]
    assert [event.value for event in read.Scalars("score")] == [0.0, 1.0, 2.0]
