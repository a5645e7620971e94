"""Who listens to which stream: the exchange is asked for each once, however many there are."""

import asyncio
from typing import Final

from app.binance.stream_name import parse
from app.ports.clock import Clock
from app.ports.streams import Listener, StreamsFull, StreamSource

LINGER_S: Final = 30.0  # after the last listener left: a client that reconnects finds its streams still subscribed
SWEEP_S: Final = 5.0  # between two looks for streams that nobody wants any more
STREAMS_MAX: Final = 8_192  # different ones; 41 sockets to the exchange, eight clients with all a connection may have


class Hub:
    """Hands frames on to listeners. Where they come from may change at any time: listeners stay."""

    def __init__(self, clock: Clock, *, linger_s: float = LINGER_S, streams_max: int = STREAMS_MAX) -> None:
        self._clock = clock
        self._linger_ms = int(linger_s * 1_000)
        self._streams_max = streams_max
        self._listeners: dict[str, dict[Listener, None]] = {}
        self._unheard: dict[str, asyncio.Event] = {}  # those that have not delivered since they were subscribed
        self._left_ms: dict[str, int] = {}  # those without a listener: since when, longest first
        self._source: StreamSource | None = None
        self.frames = 0
        """How many were handed on to at least one listener."""

    @property
    def streams(self) -> int:
        """How many streams are subscribed, those that linger included."""
        return len(self._listeners)

    @property
    def room(self) -> int:
        """How many more streams can be joined; those that only linger make room."""
        return self._streams_max - len(self._listeners) + len(self._left_ms)

    def join(self, stream: str, listener: Listener) -> None:
        """See StreamHub."""
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
        """See StreamHub."""
        listeners = self._listeners.get(stream)
        if listeners is None or listener not in listeners:
            return
        del listeners[listener]
        if not listeners:
            self._left_ms[stream] = self._clock.now_ms()

    def heard_ms(self, stream: str) -> int | None:
        """See StreamHub."""
        return self._source.heard_ms(stream) if self._source is not None and stream in self._listeners else None

    def deliver(self, stream: str, payload: bytes) -> None:
        """A frame came."""
        if self._unheard and (unheard := self._unheard.pop(stream, None)) is not None:
            unheard.set()
        listeners = self._listeners.get(stream)
        if listeners:
            self.frames += 1
            for listener in tuple(listeners):
                listener(stream, payload)

    def unheard(self, stream: str) -> asyncio.Event | None:
        """What is set by the first frame of a stream that is subscribed and has not delivered yet."""
        return self._unheard.get(stream)

    def take_from(self, source: StreamSource | None) -> None:
        """Have the frames come from `source` from now on, or from nowhere."""
        self._source = source
        for stream in self._listeners:
            self._unheard.setdefault(stream, asyncio.Event())
        if source is not None:
            source.add(tuple(self._listeners))

    def release(self) -> None:
        """Let go of the streams that nobody has listened to for a while."""
        now_ms = self._clock.now_ms()
        # a clock that was put back makes nobody wait longer than once more
        self._let_go([name for name, left_ms in self._left_ms.items() if not -1 < now_ms - left_ms < self._linger_ms])

    async def run(self) -> None:
        """Release streams, for ever."""
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
