"""A live server for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live import serving


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path / "store") as url:
        yield url
