"""The settings of a training run, and the learning rate that they make."""

from __future__ import annotations

from dataclasses import dataclass, field

from segvol_gru.errors import InputError
from segvol_gru.training.draw import ExampleConfig
from segvol_gru.training.rounds import RoundsConfig


@dataclass(frozen=True)
class LoopConfig:
    """One training run."""

    steps: int = 4000
    """Optimizer steps."""
    batch: int = 4
    """Examples per forward pass and process."""
    accumulate: int = 1
    """Forward passes whose gradients make one step."""
    recompute: bool = False
    """Compute activations twice instead of keeping them: less memory, more time."""
    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-3
    """Decoupled weight decay."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay_from: float = 0.6
    """Share of the run after which the rate falls linearly to zero; 1 means it never does."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones exported."""
    seed: int = 2025
    """Seed of examples and rounds; the clicks on an example follow from its number alone."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    validate_every: int = 0
    """Steps between validations, where one is given (by `finetune`); 0 means at the end only."""
    patience: int = 0
    """Validations without a better score after which the run ends; 0 means it does not."""
    examples: ExampleConfig = field(default_factory=ExampleConfig)
    """How examples are drawn."""
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    """How rounds are played."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}, wanted at least 1.")
        if not (self.lr > 0 and 0 <= self.ema < 1):
            raise InputError(f"lr is {self.lr} and ema {self.ema}, wanted lr > 0 and ema in [0, 1)")


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, constant, linear decay to zero."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    start = config.decay_from * config.steps
    fall = (config.steps - step) / max(config.steps - start, 1)
    return config.lr * warm * min(1.0, max(fall, 0.0))
