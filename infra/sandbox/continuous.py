"""The streams of continuous klines: live frames of each candle and its closing frame.

Their shortest interval is 1s, which no other klines have.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from infra.sandbox.book import step_at, update_id
from infra.sandbox.candles import Candle, flat
from infra.sandbox.close_delay import close_delay_ms
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import MINUTE_MS, SECOND_MS
from infra.sandbox.render import Row, rest_row
from infra.sandbox.stream_names import SECONDS
from infra.sandbox.universe import Instrument

LATE_SECONDS_MAX: Final = 60  # a delayed stream sends these later, and omits older ones

Event = dict[str, object]


@dataclass(slots=True)
class ContinuousKlineSource:
    """The events of `<pair>_<contractType>@continuousKline_<interval>`."""

    exchange: Exchange
    interval: str
    _open_ms: int = -1
    _sent: tuple[int, int] = (-1, -1)

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """The closing frame if it is due, then the candle in progress if there were new trades."""
        grid, market = item.grid(self.interval), self.exchange.market
        if self._open_ms < 0:
            self._open_ms = grid.floor(now_ms)
        end_ms = grid.next(self._open_ms)
        if now_ms >= end_ms:
            if now_ms < end_ms + close_delay_ms(item, end_ms - MINUTE_MS):
                return
            candle = market.candle(item, self.interval, self._open_ms)
            yield _event(item, self.interval, rest_row(item, candle, end_ms - 1), now_ms, closed=True)
            self._open_ms = grid.floor(now_ms)
        candle = market.candle_now(item, self.interval, self._open_ms, now_ms)
        if candle.trades and self._sent != (self._open_ms, candle.trades):
            self._sent = (self._open_ms, candle.trades)
            row = rest_row(item, candle, grid.next(self._open_ms) - 1)
            yield _event(item, self.interval, row, now_ms, closed=False)


@dataclass(slots=True)
class SecondKlineSource:
    """The events of `<pair>_<contractType>@continuousKline_1s`; flat in a second without trades."""

    exchange: Exchange
    _open_ms: int = -1
    _sent: tuple[int, int] = (-1, -1)

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """The closing frames of the seconds that have ended, then the second in progress if there were new trades."""
        second_ms = now_ms // SECOND_MS * SECOND_MS
        if self._open_ms < 0:
            self._open_ms = second_ms
        for open_ms in range(max(self._open_ms, second_ms - LATE_SECONDS_MAX * SECOND_MS), second_ms, SECOND_MS):
            yield self._event(item, self._candle(item, open_ms, now_ms), now_ms, closed=True)
        self._open_ms = second_ms
        candle = self._candle(item, second_ms, now_ms)
        if candle.trades and self._sent != (second_ms, candle.trades):
            self._sent = (second_ms, candle.trades)
            yield self._event(item, candle, now_ms, closed=False)

    def _candle(self, item: Instrument, open_ms: int, now_ms: int) -> Candle:
        minute_ms = open_ms // MINUTE_MS * MINUTE_MS
        seen = self.exchange.tape.seen(item, minute_ms, now_ms)
        first, end = (bisect_left(seen, at_ms, key=lambda trade: trade.time_ms) for at_ms in (open_ms, open_ms + 1_000))
        trades = seen[first:end]
        if not trades:
            return flat(open_ms, self.exchange.market.minute_now(item, open_ms).close)
        bought = [trade for trade in trades if not trade.maker]
        prices = [trade.price for trade in trades]
        return Candle(
            open_ms,
            prices[0],
            max(prices),
            min(prices),
            prices[-1],
            sum(trade.lots for trade in trades),
            sum(trade.lots * trade.price for trade in trades),
            len(trades),
            sum(trade.lots for trade in bought),
            sum(trade.lots * trade.price for trade in bought),
        )

    def _event(self, item: Instrument, candle: Candle, now_ms: int, *, closed: bool) -> Event:
        row = rest_row(item, candle, candle.open_ms + SECOND_MS - 1)
        return _event(item, SECONDS, row, now_ms, closed=closed)


def _event(item: Instrument, interval: str, row: Row, now_ms: int, *, closed: bool) -> Event:
    open_ms, first, high, low, close, volume, close_ms, quote, trades, taker, taker_quote, _ = row
    ids = update_id(step_at(int(open_ms))), update_id(step_at(min(now_ms, int(close_ms))))
    kline = {
        "t": open_ms,
        "T": close_ms,
        "i": interval,
        "f": ids[0],
        "L": ids[1],
        "o": first,
        "c": close,
        "h": high,
        "l": low,
        "v": volume,
        "n": trades,
        "x": closed,
        "q": quote,
        "V": taker,
        "Q": taker_quote,
        "B": "0",
    }
    return {"e": "continuous_kline", "E": now_ms, "ps": item.pair, "ct": item.contract_type, "k": kline}
