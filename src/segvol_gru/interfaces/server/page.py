"""`/`: the page for browsers, a few lines of text for everybody else.

The page is built by npm from `page/` into the folder `static` beside this module (`make serve`
does it). Its files are read once, at the start; a request names one of them or nothing.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from segvol_gru.interfaces.server.answers import REFUSALS, Served
from segvol_gru.interfaces.server.refusals import Unknown

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self' data: blob:",  # the viewer's font and shading are data: addresses
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the address holds the id of the session
    "Cache-Control": "no-cache",
}
NOT_BUILT = "The page is not built: run `make serve` in a clone of the repository.\n\n"
WELCOME = """segvol-gru {version}: interactive segmentation of 3-D medical images.

3D Slicer (SlicerNNInteractive 1.0 or later), napari-nninteractive: server address {base}
older SlicerNNInteractive: server address {base}legacy/YOUR-NAME
Python: segvol_gru.interfaces.client.RemoteSession(volume, "{base}")
any other program: {base}openapi.json

Research software, not a medical device. Licence of the weights: {licence}
"""


def read_page(folder: Path = STATIC) -> Mapping[str, bytes]:
    """The files of the built page by name; none if it is not built."""
    if not (folder / INDEX).is_file():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def page_routes(files: Mapping[str, bytes]) -> APIRouter:
    """The routes of a page.

    Args:
        files: what `read_page` found.
    """
    router = APIRouter(responses=REFUSALS)

    @router.get("/", tags=["server"], response_class=PlainTextResponse)
    async def welcome(request: Request, service: Served) -> Response:
        """What to do with this address: the page for browsers, text for others."""
        text = WELCOME.format(
            version=version("segvol-gru"), base=request.base_url, licence=service.licence
        )
        wants_page = "text/html" in request.headers.get("accept", "")
        if wants_page and files:
            return _file(files, INDEX)
        return PlainTextResponse(NOT_BUILT + text if wants_page else text)

    @router.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        """A file of the page."""
        return _file(files, name)

    return router


def _file(files: Mapping[str, bytes], name: str) -> Response:
    if name not in files:
        raise Unknown("the page has no such file; build it again by `make serve`.")
    media = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(files[name], media_type=media, headers=HEADERS)
