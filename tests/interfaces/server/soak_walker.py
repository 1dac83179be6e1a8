"""Users who say anything, sense and nonsense, and compare every answer with a session of their own.

    Walker ◄─ OwnUser     our API
           ◄─ ViewerUser  the current wire of nnInteractive's clients
           ◄─ OldUser     the older one

What a server may refuse is what the session in this process refuses too. A mask of another user
would differ: every session has a volume of its own.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import httpx
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from tiny import SHAPE, tiny_volume

from segvol_gru.errors import InputError
from segvol_gru.interfaces.server.refusals import Refusal
from segvol_gru.pipeline import Model
from segvol_gru.session.session import Session
from segvol_gru.volume import Volume

LIMIT = 64 * 2**20
IDLE_S = 20  # of the server; the reaper comes every five seconds
REST_S = IDLE_S + 8
REFUSED = (InputError, Refusal, ValidationError)
Mask = NDArray[np.bool_]


class Walker(ABC):
    """Somebody who goes from session to session.

    Args:
        address: of the server.
        model: that the server has too.
        seed: of everything that is drawn.
    """

    steps: ClassVar[dict[str, float]]
    """Names of methods, and how often they are drawn."""

    def __init__(self, address: str, model: Model, seed: int) -> None:
        self.rng, self.model, self.seed = np.random.default_rng(seed), model, seed
        self.http = httpx.Client(base_url=address, timeout=300)
        self.statuses: Counter[int] = Counter()
        self.masks = self.sessions = 0

    def walk(self, until: float) -> None:
        """Begin and end sessions until then."""
        with self.http:
            while time.monotonic() < until:
                volume = tiny_volume(int(self.rng.integers(2**31)))
                self.sessions += 1
                with Session(self.placed(volume), self.model, device="cpu") as self.live:
                    self.begin(self.live.volume)
                    for _ in range(self.rng.integers(20, 150)):
                        if time.monotonic() > until:
                            break
                        names, weights = zip(*self.steps.items(), strict=True)
                        chosen = self.rng.choice(names, p=np.array(weights) / sum(weights))
                        getattr(self, chosen)()
                    self.finish()

    def placed(self, volume: Volume) -> Volume:
        """The volume as this wire sends it."""
        return volume

    @abstractmethod
    def begin(self, volume: Volume) -> None:
        """Begin a session on the server."""

    @abstractmethod
    def finish(self) -> None:
        """End it, or leave it to the reaper."""

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        """A request that is said again as long as there is no place."""
        while True:
            reply = self.http.request(method, path, **request)
            self.statuses[reply.status_code] += 1
            if reply.status_code != 503:
                assert reply.status_code < 500, f"{method} {path}: {reply.text}"
                return reply
            assert int(reply.headers["Retry-After"]) > 0
            time.sleep(0.5)

    def post_json(self, path: str, body: object, **request: Any) -> httpx.Response:
        """JSON in ASCII, so that it can hold what UTF-8 cannot."""
        headers = {"Content-Type": "application/json", **request.pop("headers", {})}
        return self.send("POST", path, content=json.dumps(body), headers=headers, **request)

    def rest(self) -> None:
        """Say nothing until the session has lost its place; the next step takes it up again."""
        time.sleep(REST_S)

    def check(self, got: Mask, wanted: Mask) -> None:
        """Demand our own mask."""
        np.testing.assert_array_equal(got, wanted, err_msg=f"{type(self).__name__} {self.seed}")
        self.masks += 1

    def pick(self, things: Any) -> Any:
        return things[int(self.rng.integers(len(things)))]

    def voxel(self) -> list[float]:
        """Mostly inside the volume, mostly whole."""
        inside = [int(self.rng.integers(n)) for n in SHAPE]
        match self.rng.integers(12):
            case 0:
                return [n + int(self.rng.integers(-30, 30)) for n in inside]
            case 1:
                return [float(n) + float(self.rng.uniform(-0.6, 0.6)) for n in inside]
            case _:
                return list(inside)

    def corners(self) -> tuple[list[float], list[float]]:
        """Of a box; now and then the wrong way round."""
        one, two = self.voxel(), self.voxel()
        if self.rng.integers(8):
            one, two = np.sort([one, two], axis=0).tolist()
        return one, two

    def ball(self) -> Mask:
        """A mask from elsewhere; now and then empty."""
        z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
        at, radius = self.voxel(), int(self.rng.integers(0, 6))
        return (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 < radius**2

    def expect(self, say: Callable[[], Any]) -> Any:
        """What the same words do here; the refusal if they are refused."""
        try:
            return say()
        except REFUSED as error:
            return error
