"""How late frames were sent, by the machine's time, since the replay's time says that they are due."""

from bisect import bisect_left
from collections import deque
from typing import Final

from app.metric import Histogram

BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
NEWEST_MAX: Final = 1_440  # closes that the percentiles are of: a day of the replay
LAG: Final = Histogram(
    "klinenode_replay_lag_seconds",
    "Time from when a replayed minute's frames are due to when they are sent.",
    bounds=BOUNDS_S,
)


class Lag:
    """The delays of all closes as a histogram, and those of the newest ones."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0
        self._newest_ms: deque[int] = deque(maxlen=NEWEST_MAX)

    def note(self, late_ms: int) -> None:
        """Count one close."""
        self.counts[bisect_left(BOUNDS_S, late_ms / 1_000)] += 1
        self.total_s += late_ms / 1_000
        self._newest_ms.append(late_ms)

    def report(self) -> dict[str, int]:
        """Of the newest closes: their number, and median, 99th percentile and maximum of the delay (ms)."""
        ordered = sorted(self._newest_ms)
        if not ordered:
            return {"closes": 0, "p50_ms": 0, "p99_ms": 0, "max_ms": 0}
        last = len(ordered) - 1
        return {
            "closes": len(ordered),
            "p50_ms": ordered[last // 2],
            "p99_ms": ordered[last * 99 // 100],
            "max_ms": ordered[last],
        }
