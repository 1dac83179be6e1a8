"""One HTML page that needs nothing but itself: no script, no request, light and dark."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from segvol_gru.evaluation.charts import line_chart, line_class
from segvol_gru.evaluation.tables import Cell, Table

DIGITS = 3

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c22; --paper: #ffffff; --faint: #d9d9e0;
  --row: #f3f3f7; --c0: #0064c8; --c1: #c84b00; --c2: #008060; --c3: #a0288c; --c4: #8a6a00;
  --c5: #5a5a66; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ee; --paper: #16161a;
  --faint: #3c3c46; --row: #202027; --c0: #64b4ff; --c1: #ff9650; --c2: #50d2aa;
  --c3: #f08ce0; --c4: #e6c850; --c5: #a8a8b4; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; max-width: 1180px; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .4rem; }
p { margin: .3rem 0; max-width: 75ch; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86rem; }
th, td { padding: .22rem .55rem; text-align: right; border-bottom: 1px solid var(--faint); }
th:first-child, td:first-child, td.word { text-align: left; }
tbody tr:nth-child(even) { background: var(--row); }
.charts { display: flex; flex-wrap: wrap; gap: 1rem; } .charts figure { flex: 1 1 420px; }
figure { margin: .6rem 0; } figcaption { font-size: .9rem; }
svg.chart { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
svg .grid { stroke: var(--faint); } polyline { fill: none; stroke-width: 2; }
.legend span { display: inline-block; margin-right: 1.1rem; white-space: nowrap; }
.legend svg { width: 28px; height: 10px; margin-right: .35rem; }
.gallery { display: flex; flex-wrap: wrap; gap: 1rem; }
.gallery img { max-width: 100%; height: auto; } .gallery figure { flex: 1 1 480px; }
.dashed { stroke-dasharray: 7 4; } .dotted { stroke-dasharray: 2 4; }
""" + "".join(
    f"polyline.c{n} {{ stroke: var(--c{n}); }} circle.c{n} {{ fill: var(--c{n}); }}\n"
    for n in range(6)
)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture of the gallery.

    Attributes:
        caption: below it.
        png: the file's bytes.
    """

    caption: str
    png: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """Lines over the steps.

    Attributes:
        title: its heading.
        labels: names of the steps.
        series: values by model.
    """

    title: str
    labels: tuple[str, ...]
    series: Mapping[str, Sequence[float]]


def page(
    title: str,
    facts: Iterable[str],
    charts: Sequence[Chart],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
) -> str:
    """Put a report together.

    Args:
        title: heading of the page.
        facts: sentences below it.
        charts: drawn side by side after the first table.
        tables: in order; those without rows are left out.
        pictures: the gallery.

    Returns:
        The whole file.
    """
    shown = [table for table in tables if table.rows]
    body = [f"<h1>{escape(title)}</h1>", *(f"<p>{escape(fact)}</p>" for fact in facts)]
    body += [_table(table) for table in shown[:1]]
    body.append(_charts(charts))
    body += [_table(table) for table in shown[1:]]
    if pictures:
        body += ["<h2>Best, median and worst of each modality</h2>", '<div class="gallery">']
        body += [*map(_picture, pictures), "</div>"]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return (
        f'<h2 id="{escape(table.name, quote=True)}">{escape(table.title)}</h2>'
        f"<p>{escape(table.note)}</p>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody>'
        "</table></div>"
    )


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f'<td class="word">{escape(value)}</td>'
    if isinstance(value, float):
        if math.isnan(value):
            return "<td>–</td>"
        return f"<td>{value:.{DIGITS if abs(value) < 10 else 1}f}</td>"
    return f"<td>{value}</td>"


def _charts(charts: Sequence[Chart]) -> str:
    drawn = []
    for chart in charts:
        svg = line_chart(chart.series, chart.labels, chart.title)
        if svg:
            title = escape(chart.title)
            drawn.append(f"<figure><figcaption>{title}</figcaption>{svg}</figure>")
    if not drawn:
        return ""
    names = [
        f'<span><svg viewBox="0 0 28 10"><polyline class="{line_class(n)}" points="0,5 28,5"/>'
        f"</svg>{escape(name)}</span>"
        for n, name in enumerate(charts[0].series)
    ]
    legend = f'<div class="legend">{"".join(names)}</div>'
    return f'<div class="charts">{"".join(drawn)}</div>{legend}'


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{escape(picture.caption, quote=True)}" '
        f'src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )
