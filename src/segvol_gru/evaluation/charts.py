"""Line charts as SVG text: they follow the page's light or dark colours and load nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 34
COLOURS = 6  # classes c0 to c5 of the page's style; beyond them lines are dashed
TICKS = 5

Point = tuple[float, float]


def line_chart(series: Mapping[str, Sequence[float]], labels: Sequence[str], title: str) -> str:
    """Draw one line per name; a line is broken where a value is NaN.

    Args:
        series: values by name, one per label.
        labels: below the horizontal axis.
        title: what screen readers say.

    Returns:
        An `<svg>` element; an empty text where no value is known.
    """
    known = [v for values in series.values() for v in values if not math.isnan(v)]
    if not known:
        return ""
    low, high = _range(known)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}">',
        *_grid(low, high, labels),
    ]
    for number, (name, values) in enumerate(series.items()):
        style = line_class(number)
        points = [
            (_x(place, len(labels)), _y(value, low, high)) if not math.isnan(value) else None
            for place, value in enumerate(values)
        ]
        for piece in _pieces(points):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
            parts.append(f'<polyline class="{style}" points="{path}"/>')
        for place, point in enumerate(points):
            if point is not None:
                said = escape(f"{name}, {labels[place]}: {values[place]:.3f}")
                parts.append(
                    f'<circle class="{style}" cx="{point[0]:.1f}" cy="{point[1]:.1f}" r="3">'
                    f"<title>{said}</title></circle>"
                )
    return "".join([*parts, "</svg>"])


def line_class(number: int) -> str:
    """Style of the n-th line: six colours, then the same ones dashed, then dotted."""
    dash = ("", " dashed", " dotted")[number // COLOURS % 3]
    return f"c{number % COLOURS}{dash}"


def _grid(low: float, high: float, labels: Sequence[str]) -> list[str]:
    parts = []
    for tick in range(TICKS + 1):
        value = low + (high - low) * tick / TICKS
        y = _y(value, low, high)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.2f}</text>')
    for place, label in enumerate(labels):
        x = _x(place, len(labels))
        parts.append(f'<text x="{x}" y="{HEIGHT - 10}" text-anchor="middle">{escape(label)}</text>')
    return parts


def _range(known: Sequence[float]) -> tuple[float, float]:
    """Multiples of 0.1 that hold all values."""
    low, high = math.floor(min(known) * 10) / 10, math.ceil(max(known) * 10) / 10
    return (low, high) if high > low else (low, low + 0.1)


def _pieces(points: Sequence[Point | None]) -> list[list[Point]]:
    """Runs of points without a gap."""
    pieces: list[list[Point]] = [[]]
    for point in points:
        if point is None:
            pieces.append([])
        else:
            pieces[-1].append(point)
    return [piece for piece in pieces if len(piece) > 1]


def _x(place: int, count: int) -> float:
    return LEFT + 16 + (WIDTH - LEFT - RIGHT - 32) * place / max(count - 1, 1)


def _y(value: float, low: float, high: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)
