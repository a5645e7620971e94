"""When the next request may be sent: how many at once, how much weight, and not during a stand-down."""

from typing import Final

CONCURRENT_MAX: Final = 4
"""Requests under way to one exchange: enough to spend its weight, few enough to stand down within four answers."""
_BURST_PART: Final = 6  # of a minute's weight, a sixth may go at once; the rest comes back evenly
_MINUTE_MS: Final = 60_000


class RestGate:
    """Spends at most `weight_per_minute` within any minute."""

    def __init__(self, weight_per_minute: int) -> None:
        self._burst = weight_per_minute * _MINUTE_MS // _BURST_PART  # in weight × ms, so that all is integers
        self._rate = weight_per_minute - weight_per_minute // _BURST_PART
        self._level = self._burst
        self._level_ms = 0
        self.under_way = 0
        self.stand_down_ms = 0

    def admit(self, weight: int, now_ms: int) -> bool:
        """Whether a request may be sent now; if so it is counted, until `done`."""
        if self.ready_ms(weight, now_ms) > now_ms or self.under_way >= CONCURRENT_MAX:
            return False
        self._level -= weight * _MINUTE_MS
        self.under_way += 1
        return True

    def ready_ms(self, weight: int, now_ms: int) -> int:
        """When there will be weight for the request; one heavier than the burst waits until nothing is spent."""
        if now_ms > self._level_ms:
            self._level = min(self._burst, self._level + (now_ms - self._level_ms) * self._rate)
            self._level_ms = now_ms
        lacking = min(weight * _MINUTE_MS, self._burst) - self._level
        return max(self.stand_down_ms, now_ms + max(0, -(-lacking // max(1, self._rate))))

    def done(self) -> None:
        """A request that was admitted has ended."""
        assert self.under_way > 0, "more requests ended than were sent"
        self.under_way -= 1

    def stand_down(self, until_ms: int) -> None:
        """Send nothing before `until_ms`."""
        self.stand_down_ms = max(self.stand_down_ms, until_ms)
