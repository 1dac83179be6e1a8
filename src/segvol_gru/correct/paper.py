"""The paper's corrector: K uncertain and K wrong points, one GRU, direct replacement.

    logits, clicks ─► U, E ─► X (2, K, 8) ─► [token U, token E] ─► GRU ─► h_t ─► dp, dC ─► Eq. 5
                                                        h_{t-1} ──┘  └──► carried to next click

As in the paper: the sets, the eight features, the two tokens of K * 8 numbers, the two heads
and the replacement. Unlike the authors' code: one GRU whose state is carried (theirs: five GRUs
that re-read the session from zero, 114 M parameters), coordinates and values in the right frame
and unit, removal as well as addition, and a coordinate head that exists.

One addition: the heads see each point's own eight features besides h_t (the authors' head sees
the coordinates). 200 points do not pass through 256 numbers one by one; without it, a point
could not even keep the probability it has.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from segvol_gru.correct import Corrector
from segvol_gru.correct.features import FEATURES, state_tensor
from segvol_gru.correct.sampling import (
    RADIUS_CELLS,
    Candidates,
    K,
    sample_paper,
    sample_stratified,
)
from segvol_gru.correct.write_back import replace
from segvol_gru.errors import InputError
from segvol_gru.prompt_maps import CellPrompts

SETS = 2  # U and E
ANSWERS = 4  # per point: dp and the three axes of dC
START_SLOPE = 4.0  # d logit(p) / dp at p = 0.5
START_SPREAD = 0.01  # standard deviation of the slot head's first weights


@dataclass(frozen=True)
class PaperConfig:
    """Sizes and choices of the paper's corrector."""

    points: int = K
    """Points in each of U and E."""
    width: int = 256
    """Numbers in the hidden state (README of the authors: 256; their code: 2000)."""
    layers: int = 1
    """GRU layers."""
    sampling: Literal["paper", "stratified"] = "paper"
    """How the points are chosen."""
    radius_cells: float = RADIUS_CELLS
    """r of Eq. 3 in cells; stratified sampling fits its own radii."""
    offset_cells: float = 1.0
    """What |dC| = 1 means. One cell is the literal reading (coordinates are indices); a point
    then stays unless |dC| > 0.5. With 0 no point moves."""
    seed: int = 2025
    """Seed of the draw from E; the number of clicks is added to it."""

    def __post_init__(self) -> None:
        if self.sampling not in ("paper", "stratified"):
            raise InputError(
                f"sampling is {self.sampling!r}, wanted 'paper' or 'stratified'; choose one."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in a weight file's header."""
        return asdict(self)


class Answer(NamedTuple):
    """What the GRU says about T steps (Eq. 4).

    Attributes:
        p_prob: (B, T, 2, K) float32 in [0, 1], new probability per point, the paper's dp.
        offset: (B, T, 2, K, 3) float32 in [-1, 1], the paper's dC.
        memory: (B, layers, width) float32, after the last step.
    """

    p_prob: Tensor
    offset: Tensor
    memory: Tensor


class PaperCorrector(Corrector):
    """Points of U and E and the carried state -> corrected points and the new state.

    Args:
        config: sizes and choices.
    """

    def __init__(self, config: PaperConfig | None = None) -> None:
        super().__init__()
        self.config = config or PaperConfig()
        c = self.config
        self.gru = nn.GRU(c.points * FEATURES, c.width, c.layers, batch_first=True)
        self.slots = nn.Linear(c.width, SETS * c.points * ANSWERS)
        self.point = nn.Linear(FEATURES, ANSWERS)
        self._start_as_brush()

    def _start_as_brush(self) -> None:
        """Before training, U keeps its p to first order and E takes its click's label (0.88)."""
        nn.init.normal_(self.slots.weight, std=START_SPREAD)
        for value in (self.slots.bias, self.point.weight, self.point.bias):
            nn.init.zeros_(value)
        with torch.no_grad():
            self.point.weight[0, 3] = START_SLOPE
            self.point.bias[0] = -START_SLOPE / 2

    def initial_memory(self, batch: int) -> Tensor:
        """Zeros (B, layers, width) float32."""
        c = self.config
        return torch.zeros(batch, c.layers, c.width, device=self.slots.weight.device)

    def forward(self, history: Tensor, memory: Tensor) -> Answer:
        """Read one click with the carried memory, or a whole session from zero: both agree.

        Every step is two tokens, U then E; both sets are answered after E has been read.

        Args:
            history: (B, T, 2, K, 8) float32, X of T consecutive clicks.
            memory: (B, layers, width) float32, before the first of them.

        Source: paper Eq. 4.
        """
        tokens = history.flatten(3).flatten(1, 2)
        states, last = self.gru(tokens, memory.transpose(0, 1).contiguous())
        slots = self.slots(states[:, SETS - 1 :: SETS])
        answer = slots.view(*history.shape[:-1], ANSWERS) + self.point(history)
        memory = last.transpose(0, 1).contiguous()
        return Answer(answer[..., 0].sigmoid(), answer[..., 1:].tanh(), memory)

    def correct(
        self, image: Tensor, logits: Tensor, memory: Tensor, prompts: CellPrompts
    ) -> tuple[Tensor, Tensor]:
        """See `Corrector.correct`; the paper's features hold nothing of the image.

        The last column of the prompts is this step's click. Items without one (label -1) get
        logits and memory back as they came. Points are chosen without gradient. Float32
        whatever the autocast: the network is small and the state lives long.
        """
        cells = (logits.shape[2], logits.shape[3], logits.shape[4])
        clicked = (prompts.labels >= 0)[:, -1:].any(1)
        with torch.autocast(logits.device.type, enabled=False):
            candidates = self.choose(logits, prompts)
            x = state_tensor(candidates, prompts, cells)
            answer = self(x[:, None], memory)
            corrected = replace(
                logits,
                candidates.coordinates.flatten(1, 2),
                answer.p_prob.flatten(1),
                (candidates.valid & clicked[:, None, None]).flatten(1),
                self.config.offset_cells * answer.offset.flatten(1, 3),
            )
        return corrected, torch.where(clicked[:, None, None], answer.memory, memory)

    def choose(self, logits: Tensor, prompts: CellPrompts) -> Candidates:
        """U and E of this step; the same inputs give the same points on every device."""
        c = self.config
        generators = [
            torch.Generator().manual_seed(c.seed + int(count))
            for count in (prompts.labels >= 0).sum(1)
        ]
        if c.sampling == "stratified":
            return sample_stratified(logits, prompts, c.points, generators)
        return sample_paper(logits, prompts, c.points, c.radius_cells, generators)
