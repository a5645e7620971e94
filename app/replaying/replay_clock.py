"""The exchange's clock of a replay, and the moment of its newest frames, up to which answers see."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from app.domain.interval import M1, MINUTE_MS
from app.domain.span import Span
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock, MachineClock
from app.replaying.timeline import Timeline


class ReplayClock:
    """The replay's time, controlled by speed, pause and jumps; implements ConfirmedClock."""

    def __init__(self, machine: MachineClock, span: Span, speed: int) -> None:
        """`span`: from the replay's first moment to its end, both the starts of minutes."""
        self._machine = machine
        self._timeline = Timeline(span, speed, machine.steady_ms())
        self._changed = asyncio.Event()
        self.is_looping = False
        self.seen_ms = span.start_ms
        """Everything that closed by this minute was sent to the sockets, and is what REST answers from."""
        self.jumps = 0
        """How often the time was set: what was read for the time before is of no use."""
        self._timeline.limit_ms = self._next_ms(span.start_ms)

    @property
    def span(self) -> Span:
        """From the replay's first moment to its end."""
        return self._timeline.span

    @property
    def speed(self) -> int:
        """How many times as fast as the machine's time the replay runs."""
        return self._timeline.speed

    @property
    def is_paused(self) -> bool:
        """Whether the time stands until it is let go on."""
        return self._timeline.is_paused

    @property
    def is_over(self) -> bool:
        """Whether the last frames were sent; a loop then begins again."""
        return self.seen_ms >= self.span.end_ms

    @property
    def stood_ms(self) -> int:
        """Machine time (ms) that was lost because frames could not be sent in time."""
        return self._timeline.stood_ms

    @property
    def is_trusted(self) -> bool:
        """Always: there is no exchange whose time may differ."""
        return True

    def now_ms(self) -> int:
        """The replay's time, ms since the Unix epoch."""
        return self._timeline.at(self._machine.steady_ms())

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of the replay's time."""
        await self.until(self.now_ms() + round(delay_s * 1_000))

    async def until(self, time_ms: int) -> None:
        """Return once the replay's time has reached `time_ms`, or was set."""
        jumps = self.jumps
        while self.now_ms() < time_ms and self.jumps == jumps:
            self._changed.clear()
            due_ms = self._timeline.due_ms(time_ms)
            if due_ms is None:
                await self._changed.wait()
                continue
            async with asyncio.TaskGroup() as tasks:
                waits = [
                    tasks.create_task(self._machine.sleep(max(1, due_ms - self._machine.steady_ms()) / 1_000)),
                    tasks.create_task(self._changed.wait()),
                ]
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                for each in waits:
                    each.cancel()

    async def until_changed(self) -> None:
        """Return once speed, pause, time or looping were set."""
        self._changed.clear()
        await self._changed.wait()

    def sent(self, close_ms: int) -> int:
        """The frames of `close_ms` are sent; returns how late they were, in ms of the machine's time."""
        self.seen_ms = close_ms
        return self._timeline.reached(self._next_ms(close_ms), self._machine.steady_ms())

    # --- control ------------------------------------------------------------------------------------------------

    def set_speed(self, speed: int) -> None:
        """Go on at another speed."""
        self._timeline.set_speed(speed, self._machine.steady_ms())
        self._changed.set()

    def pause(self, *, is_paused: bool) -> None:
        """Stop the time, or let it go on."""
        self._timeline.pause(self._machine.steady_ms(), is_paused=is_paused)
        self._changed.set()

    def loop(self, *, is_looping: bool) -> None:
        """Whether the replay begins again at its end."""
        self.is_looping = is_looping
        self._changed.set()

    def seek(self, time_ms: int) -> None:
        """Jump to `time_ms`, which must lie in `span`. What closes between the times is not sent."""
        assert self.span.start_ms <= time_ms <= self.span.end_ms, "a time outside the replay"
        self.seen_ms = M1.grid.floor(time_ms)
        self.jumps += 1
        self._timeline.seek(time_ms, self._next_ms(self.seen_ms), self._machine.steady_ms())
        self._changed.set()

    def _next_ms(self, seen_ms: int) -> int:
        return min(seen_ms + MINUTE_MS, self.span.end_ms)


_pinned: Final = ContextVar[int | None]("the moment of an answer", default=None)


class SeenClock:
    """The time by which an answer is made: what the sockets were sent counts as closed, and nothing else.

    It stands CLOSE_GRACE_MS after the newest frames, from when on a node without sockets counts a kline as closed.
    Implements ConfirmedClock.
    """

    def __init__(self, clock: ReplayClock) -> None:
        self._clock = clock

    @property
    def is_trusted(self) -> bool:
        """Always: there is no exchange whose time may differ."""
        return True

    @property
    def seen_ms(self) -> int:
        """Up to where an answer sees: fixed inside `pinned`, otherwise up to the newest frames."""
        pinned_ms = _pinned.get()
        return self._clock.seen_ms if pinned_ms is None else pinned_ms

    def now_ms(self) -> int:
        """The time of the answer, ms since the Unix epoch."""
        return self.seen_ms + CLOSE_GRACE_MS

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of the replay's time."""
        await self._clock.sleep(delay_s)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Make one answer: at 1,000 times a minute closes every 60 ms, while it waits for the database."""
        token = _pinned.set(self._clock.seen_ms)
        try:
            yield
        finally:
            _pinned.reset(token)


class PublishedClock:
    """The replay's time less `late_ms`: rows that the exchange publishes so late appear so late. A ConfirmedClock."""

    def __init__(self, clock: ReplayClock, late_ms: int) -> None:
        self._clock: Clock = clock
        self._late_ms = late_ms

    @property
    def is_trusted(self) -> bool:
        """Always: there is no exchange whose time may differ."""
        return True

    def now_ms(self) -> int:
        """The time by which rows are published, ms since the Unix epoch."""
        return self._clock.now_ms() - self._late_ms

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of the replay's time."""
        await self._clock.sleep(delay_s)
