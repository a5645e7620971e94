"""Plays the replay: at each minute's close its frames are sent, all at once, and REST sees the minute from then on."""

from collections.abc import Callable
from typing import Final

from app.domain.interval import MINUTE_MS
from app.ports.clock import Clock
from app.replaying.ahead import Ahead
from app.replaying.lag import Lag
from app.replaying.replay_clock import ReplayClock
from app.replaying.schedule import Schedule

Deliver = Callable[[str, bytes], None]
"""Passes an event of a stream on to its clients; never waits."""

SLOW_S_MAX: Final = 5.0
"""How long a close waits for clients that have not taken the frames before; then the limits of slow clients count.

At 1,000 times, all streams of 600 symbols are 20,000 events a second, more than most clients can read.
"""
_LOOK_S: Final = 0.005
_TURN_S: Final = 0.0
"""The pause between two closes that are both due: other tasks have their turn."""


class Player:
    """Sends each close's frames once, in order.

    A close whose rows are not read yet, or whose clients are still busy with the one before, holds the replay's time.
    """

    def __init__(
        self,
        machine: Clock,
        clock: ReplayClock,
        ahead: Ahead,
        schedule: Schedule,
        deliver: Deliver,
        is_taken: Callable[[], bool],
    ) -> None:
        """`is_taken`: whether the clients have taken what was sent."""
        self._machine = machine
        self._clock = clock
        self._ahead = ahead
        self._schedule = schedule
        self._deliver = deliver
        self._is_taken = is_taken
        self.lag = Lag()
        self.frames = 0
        """How many events were made; each goes to all clients of its stream."""
        self.passes = 1
        """The number of the present pass: a loop begins another one."""

    async def run(self) -> None:
        """Play for ever."""
        while True:
            await self._play_minute()

    def seek(self, time_ms: int) -> None:
        """Go on from `time_ms`, which must lie in the replay. What closes between the times is not sent."""
        self._clock.seek(time_ms)
        self._ahead.forget()

    async def _play_minute(self) -> None:
        clock = self._clock
        if clock.is_over:
            if clock.is_looping and not clock.is_paused:
                self.passes += 1
                self.seek(clock.span.start_ms)
            else:
                await clock.until_changed()
            return
        close_ms, jumps = clock.seen_ms + MINUTE_MS, clock.jumps
        await clock.until(close_ms)
        if clock.jumps == jumps:
            await self._until_taken()
            await self._ahead.ready(close_ms)  # last: a stream that was followed meanwhile gets this close too
        if clock.jumps != jumps:
            return
        for stream, payload in self._schedule.frames(close_ms):
            self.frames += 1
            self._deliver(stream, payload)
        self.lag.note(clock.sent(close_ms))
        await self._machine.sleep(_TURN_S)

    async def _until_taken(self) -> None:
        """Return once the clients have taken what was sent, or after SLOW_S_MAX."""
        for _ in range(round(SLOW_S_MAX / _LOOK_S)):
            if self._is_taken():
                return
            await self._machine.sleep(_LOOK_S)
