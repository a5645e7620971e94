"""The replay's time as a function of the machine's steady time: it runs at a speed, pauses, jumps, and waits."""

from typing import Final, NamedTuple

from app.domain.span import Span

LATE_MS_MAX: Final = 1_000
"""Frames that come later than this by the machine's time are not caught up with: the replay's time stands meanwhile.

Below it the replay's time makes good for the delay, so that a day at 1,000 times lasts its 86 s.
"""


class _Anchor(NamedTuple):
    """A moment that both times had."""

    steady_ms: int
    time_ms: int


class Timeline:
    """The replay's time in `span`. It never passes `limit_ms`: where the next frames are due and not sent yet.

    Every method takes `steady_ms`, the machine's steady time at the call.
    """

    def __init__(self, span: Span, speed: int, steady_ms: int) -> None:
        self.span = span
        self.speed = speed
        self.is_paused = False
        self.limit_ms = span.start_ms
        self.stood_ms = 0
        """Machine time (ms) in which the replay's time stood because frames were later than LATE_MS_MAX."""
        self._anchor = _Anchor(steady_ms, span.start_ms)

    def at(self, steady_ms: int) -> int:
        """The replay's time (ms)."""
        return min(self._free_ms(steady_ms), self.limit_ms)

    def due_ms(self, time_ms: int) -> int | None:
        """When (steady ms) the replay's time is to reach `time_ms`; None while it is paused."""
        if self.is_paused:
            return None
        return self._anchor.steady_ms - (self._anchor.time_ms - time_ms) // self.speed

    def set_speed(self, speed: int, steady_ms: int) -> None:
        """Go on from the present time at another speed."""
        self._anchor, self.speed = _Anchor(steady_ms, self.at(steady_ms)), speed

    def pause(self, steady_ms: int, *, is_paused: bool) -> None:
        """Stop the replay's time, or let it go on from where it stopped."""
        self._anchor, self.is_paused = _Anchor(steady_ms, self.at(steady_ms)), is_paused

    def seek(self, time_ms: int, limit_ms: int, steady_ms: int) -> None:
        """Jump to `time_ms`, which must lie in `span`; the next frames are due at `limit_ms`."""
        self._anchor, self.limit_ms = _Anchor(steady_ms, time_ms), limit_ms

    def reached(self, limit_ms: int, steady_ms: int) -> int:
        """The frames of the present `limit_ms` are sent, the next are due at `limit_ms`; returns how late they were.

        That is the machine's time (ms) since they were due.
        """
        due_ms = self.due_ms(self.limit_ms)
        late_ms = 0 if due_ms is None else max(0, steady_ms - due_ms)
        if late_ms > LATE_MS_MAX:
            self.stood_ms += late_ms
            self._anchor = _Anchor(steady_ms, self.limit_ms)
        self.limit_ms = limit_ms
        return late_ms

    def _free_ms(self, steady_ms: int) -> int:
        since_ms = 0 if self.is_paused else max(0, steady_ms - self._anchor.steady_ms)
        return self._anchor.time_ms + since_ms * self.speed
