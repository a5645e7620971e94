"""The bounded queue of kline events from all sockets to their one consumer, in which final klines come first."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from app.binance.stream_event import KlineEvent
from app.domain.interval import MINUTE_MS
from app.events import FramesReceived, GarbageDropped, Observe
from app.ports.clock import Clock

QUEUE_MAX: Final = 20_000  # events; about 5 s of 700 symbols, about 15 MB. When it is full, the sockets' readers wait
REPORT_S: Final = 10.0  # between two FramesReceived events
GARBAGE_EVENTS_MAX: Final = 5  # reported in a clock minute, so that many bad frames do not become many log lines


class Intake:
    """Queues kline events for the one consumer, and counts frames and garbage."""

    def __init__(self, clock: Clock, observe: Observe, queue_max: int = QUEUE_MAX) -> None:
        self._clock = clock
        self._observe = observe
        self._final_queue: deque[KlineEvent] = deque()
        self._live_queue: deque[KlineEvent] = deque()
        self._queue_max = queue_max
        self._has_events = asyncio.Event()
        self._has_room = asyncio.Event()
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
        """How many events wait for the consumer."""
        return len(self._final_queue) + len(self._live_queue)

    @property
    def is_full(self) -> bool:
        """Whether `put` would have to wait."""
        return self.depth >= self._queue_max

    def put_nowait(self, event: KlineEvent) -> None:
        """Queue `event`; the queue must not be full."""
        self._frames += 1
        if event.is_final:
            self._final += 1
            self._final_queue.append(event)
        else:
            self._live_queue.append(event)
        self._has_events.set()

    def leave_out(self, frames: int) -> None:
        """Count received frames that need not be queued, because later ones supersede them."""
        self._frames += frames

    async def put(self, event: KlineEvent) -> None:
        """Queue `event`. Waits while the queue is full; TCP flow control then slows down the exchange."""
        self.waits_total += 1
        while self.is_full:
            self._has_room.clear()
            await self._has_room.wait()
        self.put_nowait(event)

    async def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever; final klines before live ones that wait beside them."""
        final, live = self._final_queue, self._live_queue
        while True:
            while queue := final or live:
                if self.is_full:
                    self._has_room.set()
                yield queue.popleft()
            self._has_events.clear()
            await self._has_events.wait()

    def drop(self, where: str, reason: str) -> None:
        """Count an unusable frame, and report it unless GARBAGE_EVENTS_MAX were reported in this minute."""
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
        """Emit FramesReceived every REPORT_S, for ever."""
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
