"""Exact roll-up of klines into a longer interval.

The rule was proven on recorded data (binance-facts 7): parts without trades are left out for open, high, low and
close unless the whole bucket is empty; volumes and counts add. Arithmetic is decimal on the exchange's own text, and a
context that traps rounding makes an inexact result impossible rather than unlikely.
"""

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, Overflow, Rounded
from typing import Final

from app.domain.interval import Grid
from app.domain.kline import Kline

_EXACT: Final = Context(prec=120, traps=[Inexact, Rounded, Overflow])
_add: Final = _EXACT.add
_ZERO: Final = Decimal(0)


class Bucket:
    """A longer kline in progress: add its parts in time order; `kline()` may be read after each of them."""

    __slots__ = (
        "_close", "_high", "_high_value", "_low", "_low_value", "_open", "_quote_volume", "_taker_buy_quote_volume",
        "_taker_buy_volume", "_trades", "_volume", "next_ms", "open_ms",
    )  # fmt: skip

    def __init__(self, open_ms: int) -> None:
        self.open_ms = open_ms
        self.next_ms = open_ms
        """The open time that the next part must have for the bucket to have no hole. Set by the caller of `add`."""
        self._open = self._high = self._low = self._close = ""
        self._high_value = self._low_value = _ZERO
        self._volume = self._quote_volume = self._taker_buy_volume = self._taker_buy_quote_volume = _ZERO
        self._trades = 0

    def add(self, part: Kline) -> None:
        """Add a part, which must open after all parts added before."""
        if self._trades and not part.trades:
            return
        high_value, low_value = Decimal(part.high), Decimal(part.low)
        if not self._open or (part.trades and not self._trades):
            self._open, self._high, self._low = part.open, part.high, part.low
            self._high_value, self._low_value = high_value, low_value
        else:
            if high_value > self._high_value:
                self._high, self._high_value = part.high, high_value
            if low_value < self._low_value:
                self._low, self._low_value = part.low, low_value
        self._close = part.close
        if part.trades:
            self._trades += part.trades
            self._volume = _add(self._volume, Decimal(part.volume))
            self._quote_volume = _add(self._quote_volume, Decimal(part.quote_volume))
            self._taker_buy_volume = _add(self._taker_buy_volume, Decimal(part.taker_buy_volume))
            self._taker_buy_quote_volume = _add(self._taker_buy_quote_volume, Decimal(part.taker_buy_quote_volume))

    @property
    def is_begun(self) -> bool:
        """Whether any part was added."""
        return bool(self._open)

    def copy(self) -> "Bucket":
        """An independent copy, to see what the bucket would be with a live part added."""
        made = Bucket.__new__(Bucket)
        for name in Bucket.__slots__:
            setattr(made, name, getattr(self, name))
        return made

    def kline(self) -> Kline:
        """The kline of all parts so far; at least one part must have been added."""
        assert self._open, "a bucket without parts is no kline"
        return Kline(
            self.open_ms,
            self._open,
            self._high,
            self._low,
            self._close,
            _text(self._volume),
            _text(self._quote_volume),
            self._trades,
            _text(self._taker_buy_volume),
            _text(self._taker_buy_quote_volume),
        )


def _text(value: Decimal) -> str:
    return format(value, "f") if value else "0"


def added_up(parts: Iterable[Kline], open_ms: int) -> Kline | None:
    """One kline that opens at `open_ms` and is made of all `parts` (ascending); None when there are no parts."""
    bucket = Bucket(open_ms)
    for part in parts:
        bucket.add(part)
    return bucket.kline() if bucket.is_begun else None


def roll_up(parts: Iterable[Kline], grid: Grid) -> list[Kline]:
    """The klines on `grid` made of `parts`, which must be ascending and complete for every bucket they touch."""
    made: list[Kline] = []
    bucket: Bucket | None = None
    end_ms = 0
    for part in parts:
        if bucket is None or part.open_ms >= end_ms:
            if bucket is not None:
                made.append(bucket.kline())
            bucket = Bucket(grid.floor(part.open_ms))
            end_ms = grid.shift(bucket.open_ms, 1)
        bucket.add(part)
    if bucket is not None:
        made.append(bucket.kline())
    return made
