"""Which listeners want which stream: each stream is subscribed once upstream, however many listeners it has."""

import asyncio
from typing import Final

from app.binance.stream_name import parse
from app.ports.clock import Clock
from app.ports.streams import Listener, StreamsFull, StreamSource

LINGER_S: Final = 30.0  # after the last listener left: a client that reconnects finds its streams still subscribed
SWEEP_S: Final = 5.0  # between two checks for streams without listeners
STREAMS_MAX: Final = 8_192  # different streams: 41 sockets to the exchange, or eight clients with 1,024 streams each


class Hub:
    """Fans frames out to listeners. The source of the frames may change at any time; listeners stay subscribed."""

    def __init__(self, clock: Clock, *, linger_s: float = LINGER_S, streams_max: int = STREAMS_MAX) -> None:
        self._clock = clock
        self._linger_ms = int(linger_s * 1_000)
        self._streams_max = streams_max
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._unheard: dict[str, asyncio.Event] = {}  # streams without a frame since they were subscribed
        self._left_ms: dict[str, int] = {}  # streams without a listener: when the last one left (ms), oldest first
        self._source: StreamSource | None = None
        self.frames = 0
        """How many frames were delivered to at least one listener."""

    @property
    def streams(self) -> int:
        """How many streams are subscribed, including those without a listener that linger for LINGER_S."""
        return len(self._listeners)

    @property
    def room(self) -> int:
        """How many more streams can be joined; streams without a listener count as room."""
        return self._streams_max - len(self._listeners) + len(self._left_ms)

    def join(self, stream: str, listener: Listener) -> None:
        """Subscribe a listener to a stream. An unknown name is ignored: it never delivers. Raises StreamsFull."""
        listeners = self._listeners.get(stream)
        if listeners is None:
            if parse(stream) is None:
                return
            self._make_room()
            listeners = self._listeners[stream] = {}
            self._unheard[stream] = asyncio.Event()
            if self._source is not None:
                self._source.add((stream,))
        self._left_ms.pop(stream, None)
        listeners[listener] = None

    def leave(self, stream: str, listener: Listener) -> None:
        """Unsubscribe a listener; a stream without listeners is released after LINGER_S. Unknown names are ignored."""
        listeners = self._listeners.get(stream)
        if listeners is None or listener not in listeners:
            return
        del listeners[listener]
        if not listeners:
            self._left_ms[stream] = self._clock.now_ms()

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame of a stream arrived (ms); None without a subscription, a source or a recent frame."""
        return self._source.heard_ms(stream) if self._source is not None and stream in self._listeners else None

    def deliver(self, stream: str, payload: bytes) -> None:
        """Pass a frame of a stream on to its listeners."""
        if self._unheard and (unheard := self._unheard.pop(stream, None)) is not None:
            unheard.set()
        listeners = self._listeners.get(stream)
        if listeners:
            self.frames += 1
            for listener in tuple(listeners):
                listener(stream, payload)

    def unheard(self, stream: str) -> asyncio.Event | None:
        """The event that a stream's first frame will set; None when it has delivered one, or is not subscribed."""
        return self._unheard.get(stream)

    def take_from(self, source: StreamSource | None) -> None:
        """Take the frames from `source` from now on and subscribe every stream there; None: no frames arrive."""
        self._source = source
        for stream in self._listeners:
            self._unheard.setdefault(stream, asyncio.Event())
        if source is not None:
            source.add(tuple(self._listeners))

    def release(self) -> None:
        """Unsubscribe from the streams that have had no listener for LINGER_S."""
        now_ms = self._clock.now_ms()
        # a negative age means that the clock was set back: release at once
        self._let_go([name for name, left_ms in self._left_ms.items() if not -1 < now_ms - left_ms < self._linger_ms])

    async def run(self) -> None:
        """Call `release` every SWEEP_S, for ever."""
        while True:
            await self._clock.sleep(SWEEP_S)
            self.release()

    def _make_room(self) -> None:
        if len(self._listeners) < self._streams_max:
            return
        if not self._left_ms:
            raise StreamsFull(f"{self._streams_max} different streams are subscribed; unsubscribe from others first")
        self._let_go([next(iter(self._left_ms))])

    def _let_go(self, names: list[str]) -> None:
        for name in names:
            del self._left_ms[name], self._listeners[name]
            self._unheard.pop(name, None)
        if names and self._source is not None:
            self._source.remove(names)
