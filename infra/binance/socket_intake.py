"""Where the frames of all market sockets meet: a bounded queue, and the counters beside it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from app.binance.stream_event import KlineEvent
from app.domain.interval import MINUTE_MS
from app.events import FramesReceived, GarbageDropped, Observe
from app.ports.clock import Clock

QUEUE_MAX: Final = 20_000  # events; about 5 s of 700 symbols, some 15 MB. When full, the sockets' readers wait
REPORT_S: Final = 10.0  # between two FramesReceived
GARBAGE_EVENTS_MAX: Final = 5  # a clock minute; a storm of bad frames must not become a storm of log lines


class Intake:
    """Takes kline events from sockets, hands them to the one consumer, and counts."""

    def __init__(self, clock: Clock, observe: Observe, queue_max: int = QUEUE_MAX) -> None:
        self._clock = clock
        self._observe = observe
        self._queue: asyncio.Queue[KlineEvent] = asyncio.Queue(queue_max)
        self._frames = 0
        self._final = 0
        self._garbage_minute = 0
        self._garbage_told = 0
        self._garbage_untold = 0
        self.garbage_total = 0
        self.waits_total = 0
        """How often a socket's reader had to wait for the consumer."""

    @property
    def depth(self) -> int:
        """Events that wait for the consumer."""
        return self._queue.qsize()

    @property
    def is_full(self) -> bool:
        """Whether `put` would have to wait."""
        return self._queue.full()

    def put_nowait(self, event: KlineEvent) -> None:
        """Queue `event`, for which there is room."""
        self._queue.put_nowait(event)
        self._count(event)

    async def put(self, event: KlineEvent) -> None:
        """Queue `event`; waits while the queue is full, which in the end slows the exchange's sending down."""
        self.waits_total += 1
        await self._queue.put(event)
        self._count(event)

    def _count(self, event: KlineEvent) -> None:
        self._frames += 1
        if event.is_final:
            self._final += 1

    async def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever."""
        queue = self._queue
        while True:
            yield await queue.get()

    def drop(self, where: str, reason: str) -> None:
        """Count a frame that cannot be used, and tell of it unless the minute has had its share."""
        self.garbage_total += 1
        minute = self._clock.now_ms() // MINUTE_MS
        if minute != self._garbage_minute:
            self._tell_untold()
            self._garbage_minute, self._garbage_told = minute, 0
        if self._garbage_told < GARBAGE_EVENTS_MAX:
            self._garbage_told += 1
            self._observe(GarbageDropped(where, reason))
        else:
            self._garbage_untold += 1

    async def report(self) -> None:
        """Tell of the frames taken in, every few seconds, for ever."""
        while True:
            await self._clock.sleep(REPORT_S)
            frames, final, self._frames, self._final = self._frames, self._final, 0, 0
            self._observe(FramesReceived(frames, final, self.depth))
            if self._clock.now_ms() // MINUTE_MS != self._garbage_minute:
                self._tell_untold()

    def _tell_untold(self) -> None:
        if self._garbage_untold:
            self._observe(GarbageDropped("sockets", f"{self._garbage_untold} more frames in one minute"))
            self._garbage_untold = 0
