"""The continuous klines of a pair's contract: the frames of its candles, live ones and one that closes each."""

from collections.abc import Iterator
from dataclasses import dataclass

from infra.sandbox.book import step_at, update_id
from infra.sandbox.close_delay import close_delay_ms
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import MINUTE_MS
from infra.sandbox.render import Row, rest_row
from infra.sandbox.universe import Instrument

Event = dict[str, object]


@dataclass(slots=True)
class ContinuousKlineSource:
    """The events of `<pair>_<contractType>@continuousKline_<interval>`."""

    exchange: Exchange
    interval: str
    _open_ms: int = -1
    _sent: tuple[int, int] = (-1, -1)

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """The closing frame when it is due, then the candle in progress if something traded."""
        grid, market = item.grid(self.interval), self.exchange.market
        if self._open_ms < 0:
            self._open_ms = grid.floor(now_ms)
        end_ms = grid.next(self._open_ms)
        if now_ms >= end_ms:
            if now_ms < end_ms + close_delay_ms(item, end_ms - MINUTE_MS):
                return
            candle = market.candle(item, self.interval, self._open_ms)
            yield self._event(item, rest_row(item, candle, end_ms - 1), now_ms, closed=True)
            self._open_ms = grid.floor(now_ms)
        candle = market.candle_now(item, self.interval, self._open_ms, now_ms)
        if candle.trades and self._sent != (self._open_ms, candle.trades):
            self._sent = (self._open_ms, candle.trades)
            row = rest_row(item, candle, grid.next(self._open_ms) - 1)
            yield self._event(item, row, now_ms, closed=False)

    def _event(self, item: Instrument, row: Row, now_ms: int, *, closed: bool) -> Event:
        open_ms, first, high, low, close, volume, close_ms, quote, trades, taker, taker_quote, _ = row
        ids = update_id(step_at(int(open_ms))), update_id(step_at(min(now_ms, int(close_ms))))
        kline = {
            "t": open_ms,
            "T": close_ms,
            "i": self.interval,
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
