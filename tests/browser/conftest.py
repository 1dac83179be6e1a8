"""A real server over the shipped weights, a real Chromium, the built page."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from surfer import Surfer

from segvol_gru.interfaces.server import page

BROWSERS = ("chromium-headless-shell", "chromium")
FLAGS = (
    "--no-sandbox",
    "--in-process-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-gpu-rasterization",
    "--disable-accelerated-2d-canvas",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Headless Chromium, drawing without a graphics card."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is missing: pip install playwright"
    )
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium-headless-shell")
    if not page.read_page():
        pytest.skip("the page is not built: make page")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address that `segvol-gru serve` prints."""
    store = tmp_path_factory.mktemp("store")
    command = [sys.executable, "-u", "-m", "segvol_gru", "serve", "--port", "0"]
    server = subprocess.Popen(
        [*command, "--store", str(store), "--device", "cpu"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"COLUMNS": "200"},
    )
    assert server.stdout is not None
    yield server.stdout.readline().split()[-1]
    server.terminate()
    server.wait(60)
    server.stdout.close()


@pytest.fixture
def surfer(chromium: Any, served: str) -> Iterator[Surfer]:
    """A user before a fresh page; at the end nothing may have gone wrong in the browser."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    user = Surfer(context.new_page(), served)
    yield user
    context.close()
    assert user.troubles == []
    assert user.foreign == set()


@pytest.fixture
def pictures() -> Path | None:
    """Where the pictures of the documentation go, if they are to be made anew."""
    if os.environ.get("SEGVOL_GRU_PICTURES") != "1":
        return None
    folder = Path(__file__).parents[2] / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    return folder
