"""A market socket server on loopback for tests: it acknowledges, sends numbered frames, and misbehaves on request."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from app.domain.interval import INTERVALS
from app.ports.clock import Clock
from tests.patience import PATIENCE_S

BEAT_S = 0.01  # real seconds between two frames of each stream


@dataclass
class Feed:
    """The behaviour of the server, and what clients sent it."""

    clock: Clock
    url: str = ""
    streams: dict[ServerConnection, set[str]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    messages: list[tuple[str, list[str]]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    mute: set[str] = field(default_factory=set)  # streams that are acknowledged, but never sent
    is_mute: bool = False  # whether connections opened from now on get no frames
    is_deaf: bool = False  # acknowledges UNSUBSCRIBE and goes on delivering
    lag_s: float = 0.0  # real seconds by which frames are late on connections opened from now on
    acknowledges: bool = True
    error: str | None = None
    closes_at_once: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    _muted: set[ServerConnection] = field(default_factory=set)
    _lags: dict[ServerConnection, float] = field(default_factory=dict)

    @property
    def subscribed(self) -> list[str]:
        """The streams of all connections, sorted; a stream on two connections appears twice."""
        return sorted(name for names in self.streams.values() for name in names)

    async def until_subscribed(self, *names: str) -> None:
        await self.until(lambda: self.subscribed == sorted(names))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is checked at each message and at each end of a connection."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def close_all(self) -> None:
        """Close every connection cleanly."""
        for connection in list(self.streams):
            await connection.close()

    def send_all(self, text: str | bytes) -> None:
        frame = text if isinstance(text, bytes) else text.encode()
        for connection in self.streams:
            connection.protocol.send_text(frame)
            connection.send_data()

    async def talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        if self.closes_at_once:
            return
        self.streams[connection] = set()
        self._lags[connection] = self.lag_s
        if self.is_mute:
            self._muted.add(connection)
        try:
            async for message in connection:
                await self._obey(connection, json.loads(message))
        except ConnectionClosed:
            pass
        finally:
            del self.streams[connection]
            self.changed.set()

    async def _obey(self, connection: ServerConnection, message: dict[str, object]) -> None:
        names = message["params"]
        assert isinstance(names, list)
        self.messages.append((str(message["method"]), names))
        if message["method"] == "SUBSCRIBE":
            self.streams[connection].update(names)
        elif not self.is_deaf:
            self.streams[connection].difference_update(names)
        self.changed.set()
        if self.error:
            await connection.send(self.error)
        elif self.acknowledges:
            await connection.send(json.dumps({"result": None, "id": message["id"]}))

    async def beat(self) -> None:
        while True:
            for name in {name for names in self.streams.values() for name in names} - self.mute:
                frame = self.frame(name)
                for connection, names in self.streams.items():
                    if name in names and connection not in self._muted:
                        self._send(connection, frame)
            await asyncio.sleep(BEAT_S)  # noqa: TID251  the server runs in real time

    def _send(self, connection: ServerConnection, frame: bytes, *, is_late: bool = False) -> None:
        if (lag_s := self._lags[connection]) and not is_late:
            loop = asyncio.get_running_loop()
            loop.call_later(lag_s, lambda: self._send(connection, frame, is_late=True))
        elif connection.protocol.state is State.OPEN:
            connection.protocol.send_text(frame)
            connection.send_data()

    def frame(self, name: str) -> bytes:
        number = self.sent[name] = self.sent.get(name, -1) + 1
        symbol, _, code = name.upper().partition("@KLINE_")
        if not code:
            event = {"e": "some", "E": self.clock.now_ms(), "s": symbol, "a": number, "u": number, "t": number}
            return json.dumps({"stream": name, "data": event}).encode()
        code = name.rpartition("_")[2]
        step_ms, now_ms = INTERVALS[code].grid.step_ms, self.clock.now_ms()
        open_ms = now_ms // step_ms * step_ms
        k = {"t": open_ms, "T": open_ms + step_ms - 1, "s": symbol, "i": code, "n": number, "x": False}
        k |= dict.fromkeys("ohlc", "1.5") | dict.fromkeys("vqVQ", "2")
        return json.dumps({"stream": name, "data": {"e": "kline", "E": now_ms, "s": symbol, "k": k}}).encode()


@asynccontextmanager
async def feeding(clock: Clock) -> AsyncIterator[Feed]:
    feed = Feed(clock)
    async with serve(feed.talk, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        feed.url = f"ws://127.0.0.1:{port}"
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(feed.beat())
            yield feed
            beating.cancel()
