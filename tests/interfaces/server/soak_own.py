"""Users of our own API, who say anything; see `soak_walker`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import httpx
import numpy as np
from junk import JUNK, RAW, damaged
from soak_walker import LIMIT, Mask, Walker
from tiny import SHAPE

from segvol_gru.interfaces.server.api_sessions import describe
from segvol_gru.interfaces.wire import API, BoxAsk, ClickAsk, NameAsk, RenameAsk, StepAsk
from segvol_gru.interfaces.wire_arrays import pack, unpack
from segvol_gru.prompts import Box, check_index
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

NAMES = ("object 1", "a", "b", "é ✓", "", "x" * 300, "a\x00b", "../../etc/passwd", "\ud800", " ")
WORDS = ("box", "click", "jump", "objects", "objects/select", "objects/rename", "objects/remove")
BYTES = ("start", "reference?format=nii", "reference?format=nrrd", "reference?format=mha")
KINDS = ("nii", "nii.gz", "nrrd", "mha", "exe", "../nii")


class OwnUser(Walker):
    """Our own API."""

    steps: ClassVar[dict[str, float]] = {
        "click": 10,
        "box": 4,
        "undo": 3,
        "redo": 2,
        "reset": 0.5,
        "jump": 1,
        "start": 1,
        "broken": 1,
        "name": 2,
        "look": 3,
        "file": 0.2,
        "nonsense": 2,
        "nowhere": 0.5,
        "rest": 0.01,
    }

    def begin(self, volume: Volume) -> None:
        about = {"affine": volume.affine.tolist(), "modality": volume.modality}
        sent = self.send("POST", f"{API}/sessions", content=pack(volume.array, about, image=True))
        assert sent.status_code == 201, sent.text
        self.id = sent.json()["id"]
        self.path = f"{API}/sessions/{self.id}"

    def finish(self) -> None:
        self.check(self.array("/labels"), self.live.label_map())
        self.same(self.send("GET", self.path))
        if self.rng.integers(10):
            assert self.send("DELETE", self.path).status_code == 204
            assert self.send("GET", self.path).status_code == 404

    def click(self) -> None:
        ask = {"at": self.voxel(), "positive": bool(self.rng.integers(2))}
        ask["frame"] = self.pick(("voxel", "voxel", "voxel", "ras"))

        def say() -> Mask:
            heard = ClickAsk.model_validate(ask)
            return self.live.click(heard.at, heard.positive, frame=heard.frame)

        self.said("/click", ask, say)

    def box(self) -> None:
        lo, hi = self.corners()
        tight = self.pick((None, None, [True, False, True]))
        ask = {"lo": lo, "hi": hi, "lift": bool(self.rng.integers(2)), "tight": tight}

        def say() -> Mask:
            heard = BoxAsk.model_validate(ask)
            if heard.tight is None:
                return self.live.box(heard.lo, heard.hi, lift=heard.lift)
            one, two = (check_index(corner, SHAPE, "box") for corner in (heard.lo, heard.hi))
            return self.live.prompt(Box(one, two, heard.tight))

        self.said("/box", ask, say)

    def undo(self) -> None:
        self.said("/undo", None, self.live.undo)

    def redo(self) -> None:
        self.said("/redo", None, self.live.redo)

    def reset(self) -> None:
        self.said("/reset", None, self.live.reset)

    def jump(self) -> None:
        ask = {"step": int(self.rng.integers(-2, len(self.live.history) + 3))}
        self.said("/jump", ask, lambda: self.live.jump(StepAsk.model_validate(ask).step))

    def start(self) -> None:
        mask = self.ball()
        self.said("/start", pack(mask, image=False), lambda: self.live.start(mask))

    def broken(self) -> None:
        """Bytes that were damaged on the way; what is left of them may be a mask all the same."""
        data = damaged(pack(self.ball(), image=bool(self.rng.integers(2))), self.rng)
        self.said("/start", data, lambda: self.live.start(unpack(data, LIMIT)[0]))

    def name(self) -> None:
        """Add, select, rename or remove an object, under names that users should not give."""
        name, to = self.pick(NAMES), self.pick(NAMES)
        which = self.pick(("", "/select", "/rename", "/remove"))
        ask = {"name": name, "to": to} if which == "/rename" else {"name": name}

        def say() -> None:
            if which == "/rename":
                heard = RenameAsk.model_validate(ask)
                self.live.rename_object(heard.name, heard.to)
                return
            plain = NameAsk.model_validate(ask).name
            do = {
                "": self.live.add_object,
                "/select": self.live.select,
                "/remove": self.live.remove_object,
            }
            do[which](plain)

        self.answered(self.post_json(f"{self.path}/objects{which}", ask), say, self.same)

    def look(self) -> None:
        match self.rng.integers(5):
            case 0:
                self.check(self.array("/mask"), self.live.mask)
            case 1:
                np.testing.assert_array_equal(self.array("/probability"), self.live.probability)
            case 2:
                at = self.send("GET", f"{self.path}/suggest").json()["at"]
                assert at == (None if (own := self.live.suggest()) is None else list(own))
            case 3:
                name = self.pick(NAMES[:-2])
                reply = self.send("GET", f"{self.path}/mask", params={"name": name})
                self.answered(reply, lambda: self.live.mask_of(name), self.same_mask)
            case _:
                np.testing.assert_array_equal(self.array("/image"), self.live.volume.array)

    def file(self) -> None:
        whole = self.send("GET", f"{self.path}/file").content
        with TemporaryDirectory() as folder:
            path = Path(folder) / "case.session"
            path.write_bytes(whole)
            with Session.load(path, self.model, device="cpu") as loaded:
                self.check(loaded.mask, self.live.mask)
        for kind in KINDS:
            query = {"format": kind, "what": self.pick(("labels", "mask", "probability", "all"))}
            self.send("GET", f"{self.path}/export", params=query)

    def nonsense(self) -> None:
        headers = {"Content-Type": self.pick(("application/json", "text/plain", "image/png"))}
        path = f"{self.path}/{self.pick(WORDS)}"
        sent = self.send("POST", path, content=self.pick(JUNK), headers=headers)
        assert 400 <= sent.status_code < 500, sent.text
        body = damaged(self.pick(RAW) or b"?", self.rng)
        sent = self.send("POST", f"{self.path}/{self.pick(BYTES)}", content=body)
        assert 400 <= sent.status_code < 500, sent.text
        self.send("POST", f"{API}/sessions", content=body)
        query = {"format": self.pick(KINDS), "channel": self.pick((0, -1, 10**30, "x"))}
        sent = self.send("POST", f"{API}/sessions/file", params=query, content=self.pick(RAW))
        assert 400 <= sent.status_code < 500, sent.text

    def nowhere(self) -> None:
        for session in ("none", "%00", "..%2f..%2fetc", "x" * 3000, "%ed%a0%80"):
            sent = self.send(self.pick(("GET", "DELETE")), f"{API}/sessions/{session}")
            assert sent.status_code == 404, sent.text
        assert self.send("PATCH", self.path).status_code == 405
        assert self.send("GET", self.path, headers={"Host": "evil.example"}).status_code == 403

    def array(self, path: str) -> Any:
        return unpack(self.send("GET", f"{self.path}{path}").content, LIMIT)[0]

    def said(self, path: str, body: Any, say: Callable[[], Mask]) -> None:
        """The same words there and here: the same mask."""
        path = f"{self.path}{path}"
        if isinstance(body, bytes):
            reply = self.send("POST", path, content=body)
        else:
            reply = self.post_json(path, body)
        self.answered(reply, say, self.same_mask)

    def answered(
        self, reply: httpx.Response, say: Callable[[], Any], compare: Callable[..., None]
    ) -> None:
        """Refused there if refused here, else the same."""
        expected = self.expect(say)
        if isinstance(expected, Exception):
            assert reply.status_code in (400, 422), (reply.text, expected)
        else:
            assert reply.status_code == 200, reply.text
            compare(reply)

    def same_mask(self, reply: httpx.Response) -> None:
        got, _ = unpack(reply.content, LIMIT)
        current = reply.request.url.params.get("name", self.live.current)
        self.check(got, self.live.mask_of(current))

    def same(self, reply: httpx.Response) -> None:
        """Demand our own objects and history."""
        assert reply.json() == describe(self.id, self.live).model_dump(mode="json")
