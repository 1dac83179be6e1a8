"""The loop: stops and goes on to the bit, adds up parts, keeps the best, ends when asked."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from conftest import Train, make_cases, make_config
from lightning_fabric import Fabric
from torch import Tensor, nn

from segvol_gru.errors import InputError
from segvol_gru.training.config import LoopConfig, learning_rate
from segvol_gru.training.examples import Examples
from segvol_gru.training.interrupt import Interrupt
from segvol_gru.training.loop import Outcome, fit
from segvol_gru.training.program import Program, RoundsResult, Turn, recompute
from segvol_gru.training.state import read_checkpoint, update_average
from segvol_gru.training.watch import Row

NAMES = ("whole", "parts")


class Stopper:
    """Presses Ctrl-C during one step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def begin(self, first: int, steps: int) -> None:
        pass

    def row(self, row: Row) -> None:
        if row.step == self.at:
            os.kill(os.getpid(), signal.SIGINT)

    def validated(self, step: int, score: float, best: bool) -> None:
        pass

    def close(self) -> None:
        pass


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def leaves(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        for key in value:
            yield from leaves(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def assert_same_bits(a: object, b: object) -> None:
    for x, y in zip(leaves(a), leaves(b), strict=True):
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y  # type: ignore[arg-type]


@pytest.mark.parametrize("corrector", [False, True])
def test_two_and_two_steps_are_four_bit_for_bit(
    tmp_path: Path, train: Train, corrector: bool
) -> None:
    """Stopped by Ctrl-C after two steps and started again: networks, average and moments."""
    config = make_config()
    whole, _ = train("whole", config, corrector)
    half, _ = train("parts", config, corrector, watchers=(Stopper(1),))
    assert (whole.reason, half.reason, half.steps) == ("done", "interrupted", 2)
    rest, _ = train("parts", config, corrector)
    assert (rest.reason, rest.steps) == ("done", 4)
    a, b = (read_checkpoint(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert a.keys() == b.keys()
    assert_same_bits(dict(a), dict(b))
    said = [[(r["step"], r["losses"], r["dice"]) for r in log(tmp_path / n)] for n in NAMES]
    assert said[0] == said[1]


def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path, train: Train) -> None:
    """Steps after the checkpoint are made again, and the log tells each of them once."""

    class Killed(Stopper):
        def row(self, row: Row) -> None:
            if row.step == self.at:
                raise RuntimeError("power failure")

    config = make_config(checkpoint_every=2)
    with pytest.raises(RuntimeError, match="power"):
        train("parts", config, watchers=(Killed(2),))
    assert [row["step"] for row in log(tmp_path / "parts")] == ["0", "1", "2"]
    train("parts", config)
    assert [row["step"] for row in log(tmp_path / "parts")] == ["0", "1", "2", "3"]
    train("whole", config)
    a, b = (read_checkpoint(tmp_path / name / "last.ckpt") for name in NAMES)
    assert_same_bits(dict(a), dict(b))


def test_loading_processes_draw_the_same_examples(tmp_path: Path, train: Train) -> None:
    for workers in (0, 1):
        train(str(workers), make_config(steps=2), workers=workers)
    losses = [[row["losses"] for row in log(tmp_path / name)] for name in ("0", "1")]
    assert losses[0] == losses[1]


def test_parts_of_a_step_add_up_to_one_batch(train: Train) -> None:
    _, whole = train("whole", make_config(batch=4))
    _, parts = train("parts", make_config(batch=2, accumulate=2))
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_recomputed_activations_give_the_same_step(tmp_path: Path, train: Train) -> None:
    for name, again in (("kept", False), ("again", True)):
        train(name, make_config(recompute=again))
    a, b = (read_checkpoint(tmp_path / name / "last.ckpt")["model"] for name in ("kept", "again"))
    assert_same_bits(a, b)


def test_recomputing_keeps_less() -> None:
    """Tensors kept for the backward pass: only the inputs of a part that is computed again."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    def run(part: nn.Module) -> int:
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            part(torch.ones(4, 32, requires_grad=True))
        return sum(kept)

    part = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.GELU()) for _ in range(4)))
    dear = run(part)
    recompute([part])
    assert run(part) < dear / 4


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = LoopConfig(steps=100, lr=2.0, warmup=4, decay_from=0.6)
    assert [learning_rate(s, config) for s in (0, 1, 3, 59)] == [0.5, 1.0, 2.0, 2.0]
    assert learning_rate(80, config) == pytest.approx(1.0)
    assert learning_rate(99, config) == pytest.approx(0.05)
    flat = LoopConfig(steps=100, lr=2.0, warmup=0, decay_from=1.0)
    assert [learning_rate(s, flat) for s in (0, 99)] == [2.0, 2.0]


def test_the_average_moves_by_hand_derived_shares() -> None:
    average, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(average.weight)
    nn.init.ones_(model.weight)
    update_average(average, model, 0.9, step=0)  # keeps 1 / 10
    assert average.weight.item() == pytest.approx(0.9)
    update_average(average, model, 0.5, step=1000)  # keeps 0.5
    assert average.weight.item() == pytest.approx(0.95)


def test_the_best_weights_are_kept(tmp_path: Path, train: Train) -> None:
    scores = {0: 0.1, 1: 0.3, 2: 0.7, 3: 0.5, 4: 0.6}
    outcome, _ = train("run", make_config(validate_every=1), validate=lambda _, s: scores[s])
    assert (outcome.reason, outcome.best) == ("done", 0.7)
    best, last = (read_checkpoint(tmp_path / "run" / f"{n}.ckpt") for n in ("best", "last"))
    assert (best["step"], last["step"], last["stale"]) == (2, 4, 2)
    assert any(not torch.equal(best["average"][k], last["average"][k]) for k in best["average"])
    told = [(row["step"], float(row["score"])) for row in log(tmp_path / "run") if row["score"]]
    assert told == [(str(step), score) for step, score in scores.items()]


def test_a_run_that_gets_no_better_ends_early(train: Train) -> None:
    config = make_config(validate_every=1, patience=2)
    outcome, _ = train("run", config, validate=lambda _, step: -float(step))
    assert (outcome.reason, outcome.steps, outcome.best) == ("no better", 2, 0.0)
    again, _ = train("run", config, validate=lambda _, step: 9.0)
    assert (again.reason, again.steps, again.best) == ("no better", 2, 0.0)


def test_where_time_ends_a_run_costs_no_patience(train: Train) -> None:
    """The score falls between two validations that are due; a stop there must not end the run."""
    config, scores = make_config(validate_every=2, patience=1), (0.5, 0.4, 0.8, 0.3, 0.9)
    stopped, _ = train("run", config, minutes=0.0, validate=lambda _, step: scores[step])
    assert (stopped.reason, stopped.steps, stopped.best) == ("time", 1, 0.5)
    outcome, _ = train("run", config, validate=lambda _, step: scores[step])
    assert (outcome.reason, outcome.steps, outcome.best) == ("done", 4, 0.9)


@pytest.mark.parametrize("at", [1, 3])
def test_an_interrupt_where_a_validation_is_due_only_puts_it_off(
    tmp_path: Path, train: Train, at: int
) -> None:
    config, scores = make_config(validate_every=2), (0.1, 0.0, 0.5, 0.0, 0.9)
    validated = []

    def validate(_: nn.Module, step: int) -> float:
        validated.append(step)
        return scores[step]

    half, _ = train("run", config, validate=validate, watchers=(Stopper(at),))
    assert (half.reason, half.steps) == ("interrupted", at + 1)
    outcome, _ = train("run", config, validate=validate)
    assert (outcome.reason, outcome.best, validated) == ("done", 0.9, [0, 2, 4])
    assert read_checkpoint(tmp_path / "run" / "best.ckpt")["step"] == 4
    train("run", config, validate=validate)
    assert validated == [0, 2, 4]


def test_a_signal_to_the_whole_group_stops_a_run_with_its_checkpoint(
    tmp_path: Path, train: Train
) -> None:
    class Cluster(Stopper):
        def row(self, row: Row) -> None:
            if row.step == self.at:
                (worker,) = multiprocessing.active_children()
                # From outside: PyTorch lets a worker end quietly if its parent asks.
                subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
                time.sleep(1.0)  # it would have died by then, and the loader raised
                os.kill(os.getpid(), signal.SIGTERM)

    outcome, _ = train("run", make_config(), watchers=(Cluster(1),), workers=1)
    assert (outcome.reason, outcome.steps) == ("interrupted", 2)
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["step"] == 2


def test_the_best_score_outlives_a_stop(tmp_path: Path, train: Train) -> None:
    config = make_config(validate_every=1)
    train("run", config, validate=lambda _, step: 1.0 - step, watchers=(Stopper(1),))
    outcome, _ = train("run", config, validate=lambda _, step: 1.0 - step)
    assert outcome.best == 1.0
    assert read_checkpoint(tmp_path / "run" / "best.ckpt")["step"] == 0


def test_a_run_ends_when_its_time_is_over(train: Train) -> None:
    outcome, _ = train("run", make_config(), minutes=0.0)
    assert (outcome.reason, outcome.steps) == ("time", 1)


def test_a_second_signal_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no last\.ckpt"):
        read_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="no checkpoint"):
        read_checkpoint(tmp_path / "last.ckpt")


class Broken(Program):
    """A weight of 1 whose gradient is 1, but not a number where `lost` says so."""

    def __init__(self, lost: tuple[int, ...]) -> None:
        super().__init__()
        self.weight, self.lost = nn.Parameter(torch.ones(())), lost

    def forward(self, batch: object, turn: Turn) -> RoundsResult:
        loss = self.weight * (float("nan") if turn.step in self.lost else 1.0)
        return RoundsResult(loss, (1.0,), (0.0,))

    def heavy(self) -> list[nn.Module]:
        return []


def fit_broken(folder: Path, lost: tuple[int, ...], steps: int) -> Outcome:
    config = make_config(steps=steps, warmup=0, decay_from=1.0, weight_decay=0.0, lr=0.125, ema=0.0)
    data = Examples(make_cases(), config.examples, 1, 100)
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return fit(Broken(lost), data, config, folder, fabric, workers=0)


def test_a_gradient_that_is_no_number_costs_one_step(tmp_path: Path) -> None:
    """AdamW's first steps are lr long: two of three remain."""
    average = fit_broken(tmp_path, lost=(1,), steps=3).networks
    assert next(average.parameters()).item() == pytest.approx(1 - 2 * 0.125, abs=1e-5)
    assert [row["norm"] for row in log(tmp_path)] == ["1.000", "nan", "1.000"]


def test_a_run_without_finite_gradients_ends(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="lower lr"):
        fit_broken(tmp_path, lost=tuple(range(99)), steps=20)


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("accumulate", 0), ("lr", 0.0)])
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=name):
        make_config(**{name: value})
