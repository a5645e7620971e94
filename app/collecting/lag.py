"""How long after the exchange's own time records are stored: a histogram, and quantiles of the newest."""

from bisect import bisect_left
from collections import deque
from typing import Final

from app.ports.collector import LAG_BOUNDS_S, Lag

NEWEST: Final = 1_000  # of which the quantiles are: some seconds at market rate; sorting them takes 0.1 ms
_BOUNDS_MS: Final = tuple(round(bound_s * 1_000) for bound_s in LAG_BOUNDS_S)


class LagCounter:
    """Counts the lags of one exchange."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_MS) + 1)
        self._total_ms = 0
        self._newest: deque[int] = deque(maxlen=NEWEST)

    def stored(self, timestamp_ms: int, now_ms: int) -> None:
        """Count a record of the exchange's time `timestamp_ms` that is stored now; one from the future has no lag."""
        lag_ms = max(0, now_ms - timestamp_ms)
        self._counts[bisect_left(_BOUNDS_MS, lag_ms)] += 1
        self._total_ms += lag_ms
        self._newest.append(lag_ms)

    def lag(self) -> Lag:
        """What was counted so far."""
        if not self._newest:
            return Lag()
        found = sorted(self._newest)
        return Lag(tuple(self._counts), self._total_ms / 1_000, _quantile(found, 50), _quantile(found, 99))


def _quantile(ascending: list[int], percent: int) -> int:
    """The least value that so many percent do not exceed."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
