"""Users of nnInteractive's wires, who say anything; see `soak_walker`."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from junk import JUNK, RAW, damaged
from numpy.typing import NDArray
from soak_walker import LIMIT, Mask, Walker
from tiny import SHAPE

from segvol_gru.interfaces.server import nnia
from segvol_gru.interfaces.server.viewer import BboxAsk, PointAsk
from segvol_gru.interfaces.wire_nninteractive import Change, Dialect
from segvol_gru.volume import Volume

INITIAL = "/add_initial_seg_interaction"
METAS = ("{", "[]", "null", '{"image_properties": 1}', '{"image_properties": {"spacing": "x"}}')


class Talker(Walker):
    """Somebody with a wire of nnInteractive's, whose words our own `Dialect` understands too."""

    def rest(self) -> None:
        super().rest()
        self.dialect = Dialect(self.live, None, self.dialect.waiting)


class ViewerUser(Talker):
    """The current wire."""

    steps: ClassVar[dict[str, float]] = {
        "point": 8,
        "box": 4,
        "queued": 1,
        "predict": 1,
        "undo": 3,
        "reset": 0.5,
        "initial": 1,
        "broken": 1,
        "life": 1,
        "nonsense": 2,
        "rest": 0.01,
    }

    def begin(self, volume: Volume) -> None:
        self.lease = {"X-Lease-Token": self.send("POST", "/claim").json()["lease_token"]}
        meta = json.dumps({"image_properties": {"spacing": list(volume.spacing_mm)}})
        headers = {**self.lease, "X-Meta": meta}
        sent = self.send(
            "POST", "/set_image", content=nnia.dump(volume.array[None]), headers=headers
        )
        assert sent.status_code == 200, sent.text
        ask = {"shape": list(SHAPE), "dtype": "uint8"}
        assert self.post_json("/set_target_buffer", ask, headers=self.lease).status_code == 200
        self.dialect, self.buffer = Dialect(self.live, None), np.zeros(SHAPE, np.bool_)
        self.dialect.clear_buffer()
        self.seen: list[Mask] = []

    def finish(self) -> None:
        if self.rng.integers(10):
            assert self.send("POST", "/release", headers=self.lease).json() == {"released": True}
            assert self.send("GET", "/lease_status", headers=self.lease).status_code == 410

    def point(self, run: bool = True) -> None:
        at, include = self.voxel(), bool(self.rng.integers(2))
        ask = {"coordinates": at, "include_interaction": include, "run_prediction": run}
        self.said("/add_point_interaction", ask, lambda: self._point(ask))

    def _point(self, ask: dict[str, Any]) -> Change | None:
        heard = PointAsk.model_validate(ask)
        return self.dialect.point(
            heard.coordinates, heard.include_interaction, heard.run_prediction
        )

    def box(self, run: bool = True) -> None:
        bbox = [list(pair) for pair in zip(*self.corners(), strict=True)]
        include = bool(self.rng.integers(8))
        ask = {"bbox_coords": bbox, "include_interaction": include, "run_prediction": run}
        self.said("/add_bbox_interaction", ask, lambda: self._box(ask))

    def _box(self, ask: dict[str, Any]) -> Change | None:
        said = BboxAsk.model_validate(ask)
        return self.dialect.box(said.bbox_coords, said.include_interaction, said.run_prediction)

    def queued(self) -> None:
        self.pick((self.point, self.box))(run=False)

    def predict(self) -> None:
        self.said("/predict", {}, self.dialect.predict)

    def undo(self) -> None:
        self.said("/undo", None, self.dialect.undo)

    def reset(self) -> None:
        assert self.send("POST", "/reset_interactions", headers=self.lease).status_code == 200
        self.dialect.reset()
        self.buffer[:] = False

    def initial(self) -> None:
        mask = self.pick([*self.seen[-20:], self.ball()])
        self.buffer[:] = mask  # as that client does
        self.said(INITIAL, nnia.dump(mask), lambda: self.dialect.initial(mask))

    def broken(self) -> None:
        """Bytes that were damaged on the way; what is left of them may be a mask all the same."""
        data = damaged(nnia.dump(self.ball().astype(np.uint8)), self.rng)

        def say() -> Change:
            mask = np.asarray(nnia.load(data, LIMIT) != 0)
            change = self.dialect.initial(mask)
            self.buffer[:] = mask
            return change

        self.said(INITIAL, data, say)

    def rest(self) -> None:
        """A sign of life does not take the session up again, words do."""
        super().rest()
        assert self.remaining_s() == 0
        self.predict()
        assert self.remaining_s() > 0

    def life(self) -> None:
        assert self.remaining_s() > 0
        assert self.send("GET", "/capabilities").json()["supports_undo"]

    def remaining_s(self) -> float:
        sent = self.send("POST", "/heartbeat", headers=self.lease)
        return float(sent.json()["remaining_seconds"])

    def nonsense(self) -> None:
        path = self.pick(("add_point_interaction", "add_bbox_interaction", "set_target_buffer"))
        headers = {**self.lease, "Content-Type": self.pick(("application/json", "text/plain"))}
        sent = self.send("POST", f"/{path}", content=self.pick(JUNK), headers=headers)
        assert 400 <= sent.status_code < 500, sent.text
        headers = {**self.lease, "X-Meta": self.pick(METAS)}
        sent = self.send("POST", "/set_image", content=self.pick(RAW), headers=headers)
        assert 400 <= sent.status_code < 500, sent.text
        gone = self.post_json(f"/{path}", {}, headers={"X-Lease-Token": "x"})
        assert gone.status_code in (410, 422)

    def said(self, path: str, body: Any, say: Callable[[], Change | None]) -> None:
        """The same words there and here: the same box, the same voxels in it."""
        if isinstance(body, bytes):
            reply = self.send("POST", path, content=body, headers=self.lease)
        else:
            reply = self.post_json(path, body, headers=self.lease)
        change = self.expect(say)
        if isinstance(change, Exception):
            assert reply.status_code in (400, 413, 422), (reply.text, change)
            return
        assert reply.status_code == 200, reply.text
        meta = json.loads(reply.headers["X-Meta"])
        assert meta["ran_prediction"] == (change is not None)
        if meta["bbox"] is not None:
            crop = nnia.load(reply.content, LIMIT).astype(bool)
            self.buffer[tuple(slice(a, b) for a, b in meta["bbox"])] = crop
        if change is not None:
            self.check(self.buffer, self.live.mask)
            self.seen.append(self.live.mask)


class OldUser(Talker):
    """The older wire, always under the same name."""

    steps: ClassVar[dict[str, float]] = {
        "point": 8,
        "box": 4,
        "segment": 2,
        "broken": 1,
        "stroke": 0.5,
        "nonsense": 2,
        "rest": 0.01,
    }

    def placed(self, volume: Volume) -> Volume:
        return Volume(volume.array, (1.0, 1.0, 1.0))

    def begin(self, volume: Volume) -> None:
        self.base = f"/legacy/user-{self.seed}"
        assert self.upload("upload_image", npy(volume.array)) == {"status": "ok"}
        self.dialect = Dialect(self.live, None)

    def finish(self) -> None:
        """The older wire has no farewell: the next upload takes the session's place."""

    def upload(self, path: str, data: bytes) -> Any:
        """An upload; there, having no place is a sentence with status 200."""
        while True:
            files = {"file": ("v.npy", data, "application/octet-stream")}
            said = self.send("POST", f"{self.base}/{path}", files=files).json()
            if "try again" not in said.get("message", ""):
                return said
            time.sleep(0.5)

    def point(self) -> None:
        at, include = self.voxel(), bool(self.rng.integers(2))
        ask = {"voxel_coord": at, "positive_click": include}
        self.said("add_point_interaction", ask, lambda: self.dialect.point(at, include, run=True))

    def box(self) -> None:
        one, two = self.corners()
        include = bool(self.rng.integers(8))
        ask = {"outer_point_one": one, "outer_point_two": two, "positive_click": include}
        pairs = [(min(pair), max(pair) + 1) for pair in zip(one, two, strict=True)]
        self.said("add_bbox_interaction", ask, lambda: self.dialect.box(pairs, include, run=True))

    def segment(self) -> None:
        mask = self.ball()
        assert self.upload("upload_segment", gzip.compress(npy(mask))) == {"status": "ok"}
        self.dialect.initial(mask)

    def broken(self) -> None:
        data = gzip.compress(npy(self.ball()))
        said = self.upload("upload_segment", data[: len(data) // 2])
        assert said["status"] == "error", said

    def stroke(self) -> None:
        said = self.send(
            "POST", f"{self.base}/{self.pick(('add_scribble', 'add_lasso'))}_interaction"
        )
        assert said.json()["status"] == "error"

    def nonsense(self) -> None:
        path = f"{self.base}/{self.pick(('add_point_interaction', 'add_bbox_interaction'))}"
        headers = {"Content-Type": "application/json"}
        sent = self.send("POST", path, content=self.pick(JUNK), headers=headers)
        assert 400 <= sent.status_code < 500, sent.text
        assert self.upload("upload_image", self.pick(RAW))["status"] == "error"
        nobody = self.post_json("/legacy/nobody/add_point_interaction", {})
        assert nobody.status_code == 422

    def said(self, path: str, ask: object, say: Callable[[], object]) -> None:
        """The same words there and here: the same mask."""
        while True:
            reply = self.post_json(f"{self.base}/{path}", ask)
            if "Content-Encoding" in reply.headers or "try again" not in reply.text:
                break
            time.sleep(0.5)
        expected = self.expect(say)
        if isinstance(expected, Exception):
            assert reply.status_code == 422 or reply.json()["status"] == "error", reply.text
            return
        assert reply.headers.get("Content-Encoding") == "gzip", reply.text
        bits = np.unpackbits(np.frombuffer(reply.content, np.uint8))[: np.prod(SHAPE)]
        self.check(bits.reshape(SHAPE).astype(bool), self.live.mask)


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of a `.npy` file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
