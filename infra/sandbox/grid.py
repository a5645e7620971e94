"""The open times of the candles of each interval (binance-facts section 3, alignment)."""

from dataclasses import dataclass
from datetime import UTC, datetime

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
_WEEK_OFFSET_DAYS = 4  # the epoch was a Thursday, weeks open on Monday

DURATIONS_MS: dict[str, int] = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}
INTERVALS = (*DURATIONS_MS, "1M")


def utc_ms(year: int, month: int, day: int = 1, hour: int = 0, minute: int = 0) -> int:
    """Milliseconds since the epoch of a UTC wall time."""
    return int(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * SECOND_MS


def utc(time_ms: int) -> datetime:
    """The UTC wall time of `time_ms`, to the second."""
    return datetime.fromtimestamp(time_ms // SECOND_MS, tz=UTC)


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers the candles of an interval; `anchor_days` is a day since the epoch on which a 3d candle opens."""

    interval: str
    anchor_days: int = 1

    @property
    def _offset_ms(self) -> int:
        if self.interval == "1w":
            return _WEEK_OFFSET_DAYS * DAY_MS
        return self.anchor_days % 3 * DAY_MS if self.interval == "3d" else 0

    def index(self, time_ms: int) -> int:
        """The number of the candle that contains `time_ms`."""
        if self.interval == "1M":
            when = utc(time_ms)
            return when.year * 12 + when.month - 1
        return (time_ms - self._offset_ms) // DURATIONS_MS[self.interval]

    def open_ms(self, index: int) -> int:
        """The open time of candle number `index`."""
        if self.interval == "1M":
            return utc_ms(index // 12, index % 12 + 1)
        return index * DURATIONS_MS[self.interval] + self._offset_ms

    def floor(self, time_ms: int) -> int:
        """The open time of the candle that contains `time_ms`."""
        return self.open_ms(self.index(time_ms))

    def next(self, open_ms: int) -> int:
        """The open time of the candle after the one that opens at `open_ms`."""
        return self.open_ms(self.index(open_ms) + 1)
