"""The training loop: resumable to the bit, on a CPU, a GPU or many (Lightning Fabric).

    batch ─► program ─► loss ─► step ─► average ──every so often──► validate ─► best.ckpt
                                           └────────────────────────────────► last.ckpt

What a step sees follows from its number alone, so a run that stops and goes on makes the same
steps as one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from segvol_gru.data.files import make_folder
from segvol_gru.training.config import LoopConfig, learning_rate
from segvol_gru.training.interrupt import Interrupt, leave_signals_to_parent
from segvol_gru.training.program import Program, RoundsResult, Turn, recompute
from segvol_gru.training.state import BEST, LAST, TrainState, copied, update_average
from segvol_gru.training.watch import CsvLog, Row, Watcher

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricModule

LOG = "log.csv"
MOST_LOST = 10  # steps without a finite gradient, one after the other
Validate = Callable[[nn.Module, int], float]
"""(averaged networks, steps made) -> a score, higher is better; called on rank 0."""
Reason = Literal["done", "interrupted", "no better", "time"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    networks: nn.Module
    """The averaged ones after the last step, or what lies on the way to them."""
    steps: int
    """Optimizer steps made, those before a restart included."""
    reason: Reason
    """Why it ended."""
    best: float
    """Highest validation score, -inf without validation."""


class _From(Sampler[int]):
    """Indices of one rank from a step on: rank r of n takes r, r + n, r + 2n, ..."""

    def __init__(self, first: int, stop: int, rank: int, world: int) -> None:
        self.indices = range(first + rank, stop, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def fit(
    model: Program,
    data: Dataset[Any],
    config: LoopConfig,
    out: Path,
    fabric: Fabric,
    *,
    workers: int = 1,
    minutes: float | None = None,
    validate: Validate | None = None,
    watchers: Sequence[Watcher] = (),
) -> Outcome:
    """Train, or go on where a checkpoint in `out` ended.

    Ctrl-C (or SIGTERM) ends the run after the step under way, with a checkpoint.

    Args:
        model: networks and what is done with a batch.
        data: example i for every i from 0; a pure function of i.
        config: the run.
        out: folder for `last.ckpt`, `best.ckpt` and `log.csv`.
        fabric: devices and precision.
        workers: processes that draw examples.
        minutes: end the run when so much time has gone by, this call's alone.
        validate: scores the averaged networks; the best ones are kept in `best.ckpt`.
        watchers: told of every step, besides `log.csv`.
    """
    make_folder(out)
    state, trained = _begin(model, config, out, fabric)
    run = _Run(config, out, fabric, state, validate, [CsvLog(out / LOG), *watchers])
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    batches = _batches(data, config, state.step, fabric, workers)
    with ExitStack() as closing, Interrupt() as interrupt:
        run.open(closing)
        if run.owes_validation():  # of the start, or of where the call before was interrupted
            run.validate(due=_due(state.step, config.validate_every) or state.step == 0)
            run.save(LAST)
        reason = run.over()
        while reason is None:
            run.step(trained, batches)
            reason = run.ending(interrupt, deadline)
            due = _due(state.step, config.validate_every)
            if reason != "interrupted" and (reason or due):
                run.validate(due=due)
            reason = reason or run.over()
            if reason or _due(state.step, config.checkpoint_every):
                run.save(LAST)
    return Outcome(state.average, state.step, reason, state.best)


def _begin(
    model: Program, config: LoopConfig, out: Path, fabric: Fabric
) -> tuple[TrainState, _FabricModule]:
    """The state at the start or at the last checkpoint, and the wrapped networks."""
    average = copied(model)
    if config.recompute:
        recompute(model.heavy())
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, config.lr, weight_decay=config.weight_decay, fused=True)
    trained, optimizer = fabric.setup(model, optimizer)
    fabric.to_device(average)
    state = TrainState(model, average, optimizer)
    if (out / LAST).is_file():
        state.load(out / LAST, fabric.device)
    return state, trained


def _batches(
    data: Dataset[Any], config: LoopConfig, first: int, fabric: Fabric, workers: int
) -> Iterator[Any]:
    """Batches of this rank from step `first` on, on its device."""
    per_step = config.batch * config.accumulate * fabric.world_size
    sampler = _From(
        first * per_step, config.steps * per_step, fabric.global_rank, fabric.world_size
    )
    loader = DataLoader(
        data,
        config.batch,
        sampler=sampler,
        num_workers=workers,
        worker_init_fn=leave_signals_to_parent,
    )
    return iter(fabric.setup_dataloaders(loader, use_distributed_sampler=False))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


class _Run:
    """One call of `fit` under way."""

    def __init__(
        self,
        config: LoopConfig,
        out: Path,
        fabric: Fabric,
        state: TrainState,
        validate: Validate | None,
        watchers: Sequence[Watcher],
    ) -> None:
        self.config, self.out, self.fabric, self.state = config, out, fabric, state
        self._validate = validate
        self._watchers = watchers if fabric.is_global_zero else []
        self._first, self._started, self._waited = state.step, time.monotonic(), 0.0
        self._lost = 0

    def open(self, closing: ExitStack) -> None:
        """Begin the logs, and have them closed whatever happens."""
        for watcher in self._watchers:
            closing.callback(watcher.close)
            watcher.begin(self.state.step, self.config.steps)

    def step(self, trained: _FabricModule, batches: Iterator[Any]) -> None:
        """Make one optimizer step."""
        config, state = self.config, self.state
        lr = learning_rate(state.step, config)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        results = [self._part(trained, batches, part) for part in range(config.accumulate)]
        norm = float(self._clipped(trained))
        if math.isfinite(norm):
            state.optimizer.step()
            update_average(state.average, state.model, config.ema, state.step)
        self._count_lost(norm)
        state.optimizer.zero_grad()
        self._tell(results, lr, norm)
        state.step += 1

    def _part(self, trained: _FabricModule, batches: Iterator[Any], part: int) -> RoundsResult:
        """One forward and backward pass."""
        config, began = self.config, time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - began
        # Every part of a step plays the same rounds: together they are one larger batch.
        chance = np.random.default_rng([config.seed, self.state.step])
        hold = part + 1 < config.accumulate
        with self.fabric.no_backward_sync(trained, enabled=hold):
            result: RoundsResult = trained(batch, Turn(self.state.step, config.steps, chance))
            self.fabric.backward(result.loss / config.accumulate)
        return result

    def _clipped(self, trained: _FabricModule) -> Tensor:
        """Clip the gradient; its norm before, the same on every rank."""
        norm = self.fabric.clip_gradients(
            trained, self.state.optimizer, max_norm=self.config.clip, error_if_nonfinite=False
        )
        assert norm is not None
        return norm

    def _count_lost(self, norm: float) -> None:
        """A gradient that is not finite costs a step, many in a row cost the run."""
        self._lost = 0 if math.isfinite(norm) else self._lost + 1
        if self._lost == MOST_LOST:
            raise FloatingPointError(
                f"{MOST_LOST} gradients in a row were not finite at step {self.state.step}; "
                "give a lower lr or the precision 32-true."
            )

    def _tell(self, results: Sequence[RoundsResult], lr: float, norm: float) -> None:
        """Report a step: means over its parts and over the ranks."""
        said = torch.tensor([[r.losses, r.dice] for r in results], dtype=torch.float64).mean(0)
        if self.fabric.world_size > 1:
            mean = self.fabric.all_reduce(said.to(self.fabric.device), reduce_op="mean")
            assert isinstance(mean, torch.Tensor)
            said = mean.cpu()
        done = self.state.step + 1 - self._first
        seconds = (time.monotonic() - self._started) / done
        losses, dice = said.tolist()
        for watcher in self._watchers:
            watcher.row(Row(self.state.step, seconds, self._waited / done, lr, norm, losses, dice))

    def validate(self, *, due: bool) -> None:
        """Score the averaged networks; keep them if they are the best so far.

        Where a run happens to be stopped no validation is due, and patience does not count it.
        """
        if self._validate is None:
            return
        began, state = time.monotonic(), self.state
        state.validated = state.step
        score = 0.0
        if self.fabric.is_global_zero:
            score = self._validate(state.average, state.step)
        score = float(self.fabric.broadcast(score))
        better = score > state.best
        state.stale = 0 if better else state.stale + due
        if better:
            state.best = score
            self.save(BEST)
        for watcher in self._watchers:
            watcher.validated(state.step, score, better)
        self._started += time.monotonic() - began  # seconds per step are those of steps

    def owes_validation(self) -> bool:
        """Whether the step reached is one that is validated, and was not."""
        step, config = self.state.step, self.config
        if self._validate is None or self.state.validated == step:
            return False
        return step in (0, config.steps) or _due(step, config.validate_every)

    def over(self) -> Reason | None:
        """Why no step is left to make, also for a run that is called again."""
        if self.state.step >= self.config.steps:
            return "done"
        return "no better" if 0 < self.config.patience <= self.state.stale else None

    def ending(self, interrupt: Interrupt, deadline: float | None) -> Reason | None:
        """Why the run ends after the step just made; the same on every rank."""
        if interrupt.agreed(self.fabric):
            return "interrupted"
        if self.state.step >= self.config.steps:
            return "done"
        late = deadline is not None and time.monotonic() >= deadline
        if deadline is not None and self.fabric.broadcast(late):  # rank 0's clock counts
            return "time"
        return None

    def save(self, name: str) -> None:
        """Write a checkpoint."""
        if self.fabric.is_global_zero:
            self.state.save(self.out / name, asdict(self.config))
