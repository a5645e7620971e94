"""The bars of OKX's candles: from six hours up they begin at UTC+8, unless their name ends with utc."""

from dataclasses import dataclass
from typing import Final

from infra.sandbox.grid import HOUR_MS, Grid

_EAST_MS: Final = 8 * HOUR_MS
_SHORT: Final = {"1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1H": "1h", "2H": "2h", "4H": "4h"}
_LONG: Final = {"6H": "6h", "12H": "12h", "1D": "1d", "1W": "1w", "1M": "1M"}


@dataclass(frozen=True, slots=True)
class Bar:
    """One kind of candle."""

    name: str
    grid: Grid
    east_ms: int = 0

    def open_ms(self, time_ms: int) -> int:
        """The open time of the candle that contains `time_ms`."""
        return self.grid.floor(time_ms + self.east_ms) - self.east_ms

    def next_ms(self, open_ms: int) -> int:
        """The open time of the candle after the one that opens at `open_ms`."""
        return self.grid.next(open_ms + self.east_ms) - self.east_ms

    def before_ms(self, open_ms: int) -> int:
        """The open time of the candle before the one that opens at `open_ms`."""
        return self.open_ms(open_ms - 1)


BARS: Final[dict[str, Bar]] = {
    **{name: Bar(name, Grid(interval)) for name, interval in _SHORT.items()},
    **{name: Bar(name, Grid(interval), _EAST_MS) for name, interval in _LONG.items()},
    **{f"{name}utc": Bar(f"{name}utc", Grid(interval)) for name, interval in _LONG.items()},
}
