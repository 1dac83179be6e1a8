"""What SlicerNNInteractive before June 2026 sends, written from the description of its wire."""

from __future__ import annotations

import gzip
import io
from typing import Any

import httpx
import numpy as np
from live import post
from numpy.typing import NDArray


class OldSlicer:
    """Its uploads and prompts.

    Args:
        address: server address in its settings.
        shape: (z, y, x) of the image.
    """

    def __init__(self, address: str, shape: tuple[int, ...]) -> None:
        self._address, self._shape = address, shape

    def upload_image(self, array: NDArray[Any]) -> Any:
        plain = io.BytesIO()
        np.save(plain, array)
        return self._file("upload_image", "volume.npy", plain.getvalue()).json()

    def upload_segment(self, mask: NDArray[np.bool_]) -> Any:
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb") as file:
            np.save(file, mask)
        said = {"Content-Encoding": "gzip"}  # it says so, but only the file part is
        return self._file("upload_segment", "volume.npy.gz", packed.getvalue(), said).json()

    def point(self, at: tuple[int, int, int], positive: bool = True) -> NDArray[np.bool_]:
        body = {"voxel_coord": at, "positive_click": positive}
        return self.mask(self.post("add_point_interaction", body))

    def box(self, one: tuple[int, int, int], two: tuple[int, int, int]) -> NDArray[np.bool_]:
        body = {"outer_point_one": one, "outer_point_two": two, "positive_click": True}
        return self.mask(self.post("add_bbox_interaction", body))

    def post(self, path: str, body: object) -> httpx.Response:
        return post(f"{self._address}/{path}", json=body)

    def mask(self, reply: httpx.Response) -> NDArray[np.bool_]:
        assert reply.status_code == 200
        assert reply.headers["Content-Encoding"] == "gzip", reply.text
        bits = np.unpackbits(np.frombuffer(reply.content, np.uint8))
        return bits[: np.prod(self._shape)].reshape(self._shape).astype(bool)

    def _file(
        self, path: str, name: str, data: bytes, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        files = {"file": (name, data, "application/octet-stream")}
        return post(f"{self._address}/{path}", files=files, headers=headers)
