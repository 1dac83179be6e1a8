"""WCAG 2 AA: text against what it stands on, 4.5 to 1; lines and marks, 3 to 1. No browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STYLES = Path(__file__).parents[2] / "page" / "styles.css"
TEXT = [
    (text, back)
    for text in ("--text", "--faint", "--bad")
    for back in ("--back", "--panel", "--raised")
] + [("--on-accent", "--accent")]
LINES = [(line, back) for line in ("--line", "--accent") for back in ("--back", "--panel")]


@pytest.fixture(scope="module")
def colours() -> dict[str, str]:
    return dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", STYLES.read_text()))


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize(("text", "back"), TEXT)
def test_text_can_be_read(colours: dict[str, str], text: str, back: str) -> None:
    assert contrast(colours[text], colours[back]) >= 4.5


@pytest.mark.parametrize(("line", "back"), LINES)
def test_lines_can_be_seen(colours: dict[str, str], line: str, back: str) -> None:
    assert contrast(colours[line], colours[back]) >= 3


def test_rules_use_the_named_colours_only() -> None:
    rules = STYLES.read_text().partition("}")[2]
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?![\w-]*\s*[{,.:>])", rules)
