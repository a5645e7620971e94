"""The last 24 hours of a symbol, for the ticker endpoints and streams."""

from typing import NamedTuple

from infra.sandbox.candles import Candle
from infra.sandbox.grid import DAY_MS, MINUTE_MS
from infra.sandbox.market import Market
from infra.sandbox.recent import Recent
from infra.sandbox.tape import Tape, Trade, first_id
from infra.sandbox.universe import Instrument

_FINISHED_MAX = 2_048  # symbols whose finished minutes are cached as one candle, for the newest minute


class Ticker(NamedTuple):
    """The trading in [open_ms, close_ms]; `last` is None without a trade in reach (see Tape.last)."""

    candle: Candle
    last: Trade | None
    first_number: int
    open_ms: int
    close_ms: int


class Tickers:
    """Windows of 24 hours that begin on a minute and end now."""

    def __init__(self, market: Market, tape: Tape) -> None:
        self._market = market
        self._tape = tape
        self._finished: Recent[Instrument, tuple[int, Candle | None, int]] = Recent(_FINISHED_MAX)

    def at(self, item: Instrument, now_ms: int) -> Ticker:
        """The ticker at `now_ms`."""
        minute_ms = now_ms // MINUTE_MS * MINUTE_MS
        open_ms = max(minute_ms - DAY_MS, item.onboard_ms)
        known = self._finished.get(item)
        if known is None or known[0] != minute_ms:
            finished = self._market.before_minute(item, open_ms, now_ms)
            known = self._finished.put(item, (minute_ms, finished, self._first(item, open_ms, now_ms)))
        candle = self._market.so_far(open_ms, known[1], self._market.minute_now(item, now_ms))
        return Ticker(candle, self._tape.last(item, now_ms), known[2], open_ms, now_ms)

    def _first(self, item: Instrument, open_ms: int, now_ms: int) -> int:
        """The id of the first trade since `open_ms`; if there is none, of the next trade to come."""
        for minute_ms in range(open_ms, now_ms, MINUTE_MS):
            if self._market.block(item, minute_ms).minute(minute_ms)[0].trades:
                return first_id(self._market, item, minute_ms)
        return first_id(self._market, item, now_ms // MINUTE_MS * MINUTE_MS)


def last_number(ticker: Ticker) -> int:
    """The id of the last trade of the window; -1 if there is none."""
    return ticker.last.number if ticker.last is not None and ticker.candle.trades else -1
