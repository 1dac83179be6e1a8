"""Numbers for a monitor, in Prometheus' text form."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PREFIX = "segvol_gru"


class Metrics:
    """Counts since the start. Touched on the event loop only."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._prompts: Counter[float] = Counter()
        self._prompt_seconds = 0.0
        self._waiting = 0

    def answered(self, route: str, status: int) -> None:
        """Count an answer.

        Args:
            route: the route's pattern, never the address itself, which names a session.
            status: of the answer.
        """
        self._answers[route, status] += 1

    @contextmanager
    def prompt(self) -> Iterator[None]:
        """Time a prompt, the wait for the worker included."""
        began = time.perf_counter()
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            seconds = time.perf_counter() - began
            self._prompt_seconds += seconds
            self._prompts[next((b for b in BOUNDS_S if seconds <= b), float("inf"))] += 1

    def text(self, gauges: Mapping[str, int]) -> str:
        """Everything, and some values of the moment."""
        lines = [f"# TYPE {PREFIX}_requests_total counter"]
        for (route, status), count in sorted(self._answers.items()):
            labels = f'{{route="{route}",status="{status}"}}'
            lines.append(f"{PREFIX}_requests_total{labels} {count}")
        lines.append(f"# TYPE {PREFIX}_prompt_seconds histogram")
        total = 0
        for bound in BOUNDS_S:
            total += self._prompts[bound]
            lines.append(f'{PREFIX}_prompt_seconds_bucket{{le="{bound}"}} {total}')
        total += self._prompts[float("inf")]
        lines.append(f'{PREFIX}_prompt_seconds_bucket{{le="+Inf"}} {total}')
        lines.append(f"{PREFIX}_prompt_seconds_sum {self._prompt_seconds:.6f}")
        lines.append(f"{PREFIX}_prompt_seconds_count {total}")
        for name, value in {**gauges, "prompts_waiting": self._waiting}.items():
            lines += [f"# TYPE {PREFIX}_{name} gauge", f"{PREFIX}_{name} {value}"]
        return "\n".join(lines) + "\n"
