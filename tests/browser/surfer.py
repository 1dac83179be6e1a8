"""A user of the page: mouse, keys and eyes. What it sees is read off the pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

PATIENCE_MS = 240_000  # software WebGL on a busy machine
COLOURS = 192
HARMLESS = "GPU stall due to ReadPixels"
TWO_FRAMES = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(() => r(1))))"


@dataclass(frozen=True, slots=True)
class Spot:
    """A bright, grey patch on the screen: its middle and its corners in pixels, its grey."""

    x: float
    y: float
    left: int
    top: int
    right: int
    bottom: int
    grey: float


class Surfer:
    """Drives one page.

    Args:
        page: Playwright's.
        address: of the server.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.address = address
        self.troubles: list[str] = []
        self.foreign: set[str] = set()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("console", self._heard)
        page.on("request", self._asked)
        page.goto(address)

    def _heard(self, message: Any) -> None:
        """Errors of the console; those of refused requests are what a test asked for."""
        quiet = HARMLESS in message.text or "status of 4" in message.text
        if message.type in ("error", "warning") and not quiet:
            self.troubles.append(message.text)

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.address).netloc:
            self.foreign.add(request.url)

    # Waiting ------------------------------------------------------------------------------

    def expect(self, css: str, text: str) -> None:
        """Wait until an element says something."""
        from playwright.sync_api import expect

        expect(self.page.locator(css)).to_contain_text(text, timeout=PATIENCE_MS)

    def steps(self, count: int) -> None:
        """Wait until the history has so many entries, the empty one included."""
        from playwright.sync_api import expect

        expect(self.page.locator("#history li")).to_have_count(count, timeout=PATIENCE_MS)
        self.rest()

    def rest(self) -> None:
        """Wait until nothing runs and the screen is drawn."""
        self.page.locator("body[data-busy=no]").wait_for()
        self.page.evaluate(TWO_FRAMES)

    def open(self, path: Path) -> None:
        """Open a file."""
        self.page.set_input_files("#file", str(path))
        self.expect("#title", path.name)
        self.page.locator("body[data-case=yes]").wait_for()
        self.rest()

    # Looking ------------------------------------------------------------------------------

    def screen(self) -> NDArray[np.uint8]:
        """The stage as (height, width, RGB)."""
        shot = self.page.locator("#stage").screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))

    def spots(self, least_grey: int, least_pixels: int) -> list[Spot]:
        """Bright grey patches, in the page's pixels."""
        shot = self.screen().astype(int)
        grey = shot.mean(axis=2)
        labels, _ = ndimage.label((grey >= least_grey) & (np.ptp(shot, axis=2) < 12))
        corner = self.page.locator("#stage").bounding_box()
        found = []
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            inside = labels[rows, columns] == number
            if inside.sum() < least_pixels:
                continue
            y, x = ndimage.center_of_mass(inside)
            left, top = int(corner["x"]) + columns.start, int(corner["y"]) + rows.start
            spot = Spot(
                left + x + 0.5,
                top + y + 0.5,
                left,
                top,
                int(corner["x"]) + columns.stop,
                int(corner["y"]) + rows.stop,
                float(np.median(grey[rows, columns][inside])),
            )
            found.append(spot)
        return found

    def picture(self, folder: Path | None, name: str) -> None:
        """The whole page for the documentation, in few colours to keep it small."""
        if folder is None:
            return
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        shot.quantize(COLOURS).save(folder / f"{name}.png", optimize=True)

    # Acting -------------------------------------------------------------------------------

    def click(self, x: float, y: float, button: str = "left") -> None:
        """Press and release a button of the mouse."""
        self.page.mouse.click(x, y, button=button)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the left button."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*[(a + b) / 2 for a, b in zip(start, end, strict=True)])
        self.page.mouse.move(*end)
        self.page.mouse.up()

    def download(self, what: str, kind: str, folder: Path) -> Path:
        """Take a mask away."""
        self.page.select_option("#what", what)
        self.page.select_option("#format", kind)
        with self.page.expect_download() as coming:
            self.page.click("#download")
        path = folder / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def session(self) -> dict[str, Any]:
        """What the server knows of this session."""
        token = self.page.url.partition("#session=")[2]
        answer = httpx.get(f"{self.address}api/v1/sessions/{token}", timeout=60)
        known: dict[str, Any] = answer.raise_for_status().json()
        return known
