"""A client of the sandbox's OKX and Deribit without sockets, in the time of a manual clock."""

import json
from typing import Any

from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard, parse_fault
from infra.sandbox.options import Options
from infra.sandbox.universe import Universe
from infra.sandbox.venue_truth import VenueTruth
from infra.sandbox.venues import Venues
from tests.sandbox.conftest import START_MS, ManualClock

Json = dict[str, Any]
PUBLIC, BUSINESS, DERIBIT = "/ws/v5/public", "/ws/v5/business", "/ws/api/v2"
TICK_MS = 100


class Floor:
    """Both venues, their truth, and the clock of all clients."""

    def __init__(self, *, rate: float | None = None, now_ms: int = START_MS) -> None:
        self.clock = ManualClock(now_ms)
        self.venues = Venues(Exchange(self.clock, Universe(1, 10), Options(rate=rate)), FaultBoard())
        self.truth = VenueTruth(self.venues)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def inject(self, **wish: object) -> int:
        return self.venues.inject(parse_fault(wish), self.now_ms)

    def get(self, path: str, **params: object) -> Any:
        """The JSON of a request."""
        answer = self.venues.answer(path, {name: str(value) for name, value in params.items()}, self.now_ms)
        return json.loads(answer.body)

    def okx(self, path: str, **params: object) -> list[Any]:
        """The data of an OKX request."""
        body = self.get(f"/api/v5/{path}", **params)
        assert body["code"] == "0", body
        return list(body["data"])

    def deribit(self, method: str, **params: object) -> Any:
        """The result of a Deribit request."""
        return self.get(f"/api/v2/public/{method}", **params)["result"]


class Wire:
    """One socket, with all texts that came through it."""

    def __init__(self, floor: Floor, path: str) -> None:
        self.floor, self.peer = floor, floor.venues.connect(path, floor.now_ms)
        self.texts: list[str] = []
        self._ids = 0

    def send(self, message: object) -> list[Any]:
        """The answers to a message."""
        text = message if isinstance(message, str) else json.dumps(message)
        return [self._read(answer) for answer in self.peer.receive(text, self.floor.now_ms)]

    def run(self, duration_ms: int = 0, every_ms: int = TICK_MS) -> list[Any]:
        """The frames of now and of the time that passes."""
        frames = self.peer.push(self.floor.now_ms)
        for _ in range(duration_ms // every_ms):
            self.floor.clock.advance(every_ms)
            frames += self.peer.push(self.floor.now_ms)
        self.texts += frames
        return [self._read(frame) for frame in frames]

    def subscribe(self, *channels: str, **arg: str) -> list[Any]:
        """Subscribe to OKX channels of one instrument."""
        return self.send({"op": "subscribe", "args": [{"channel": channel, **arg} for channel in channels]})

    def call(self, method: str, **params: object) -> Json:
        """The answer of a Deribit request."""
        (answer,) = self.request(method, **params)
        assert answer["id"] == self._ids
        return dict(answer)

    def request(self, method: str, **params: object) -> list[Any]:
        """All that comes back at once for a Deribit request."""
        self._ids += 1
        return self.send({"jsonrpc": "2.0", "id": self._ids, "method": f"public/{method}", "params": params})

    @staticmethod
    def _read(text: str) -> Any:
        return text if text == "pong" else json.loads(text)


def rows_of(frames: list[Any], channel: str) -> list[Any]:
    """The rows of an OKX channel."""
    return [row for frame in frames if frame["arg"]["channel"] == channel for row in frame["data"]]


def data_of(frames: list[Any], channel: str) -> list[Any]:
    """The data of a Deribit channel."""
    params = [frame["params"] for frame in frames if frame["method"] == "subscription"]
    return [each["data"] for each in params if each["channel"] == channel]
