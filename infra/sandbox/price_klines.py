"""The undocumented kline streams of the price index and of the premium index.

Their names are those of klines with a letter before the symbol (`iBTCUSDT@kline_1m`, `pBTCUSDT@kline_1m`, binance-facts
section 5.1). Their events have the form of COIN-M index klines, with the letter in upper case in `ps`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from infra.sandbox.close_delay import CLOSE_DELAY_MIN_MS
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import SECOND_MS
from infra.sandbox.marks import Sampled
from infra.sandbox.render import sampled_row
from infra.sandbox.universe import Instrument

PRICES: Final = {"indexKline": "index", "premiumKline": "premium"}
"""By kind of stream: the kind of price (marks.KINDS)."""
_LETTERS: Final = {"indexKline": "I", "premiumKline": "P"}

Event = dict[str, object]


@dataclass(slots=True)
class PriceKlineSource:
    """The events of one stream."""

    exchange: Exchange
    kind: str
    interval: str
    _open_ms: int = -1
    _sent: tuple[int, int] = (-1, -1)

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """The closing frame if it is due, then the candle in progress, which has a new sample each second."""
        grid = item.grid(self.interval)
        if self._open_ms < 0:
            self._open_ms = grid.floor(now_ms)
        end_ms = grid.next(self._open_ms)
        if now_ms >= end_ms:
            if now_ms < end_ms + CLOSE_DELAY_MIN_MS:
                return
            yield self._event(item, self._candle(item, now_ms), now_ms, closed=True)
            self._open_ms = grid.floor(now_ms)
        candle = self._candle(item, now_ms)
        if self._sent != (self._open_ms, candle.samples):
            self._sent = (self._open_ms, candle.samples)
            yield self._event(item, candle, now_ms, closed=False)

    def _candle(self, item: Instrument, now_ms: int) -> Sampled:
        return self.exchange.marks.candle(item, PRICES[self.kind], self.interval, self._open_ms, now_ms)

    def _event(self, item: Instrument, candle: Sampled, now_ms: int, *, closed: bool) -> Event:
        close_ms = item.grid(self.interval).next(self._open_ms) - 1
        _, first, high, low, close, *_ = sampled_row(self._open_ms, candle, close_ms)
        kline = {
            "t": self._open_ms,
            "T": close_ms,
            "s": "0",
            "i": self.interval,
            "f": self._open_ms,
            "L": min(now_ms, close_ms) // SECOND_MS * SECOND_MS,
            "o": first,
            "c": close,
            "h": high,
            "l": low,
            "v": "0",
            "n": candle.samples,
            "x": closed,
            "q": "0",
            "V": "0",
            "Q": "0",
            "B": "0",
        }
        name = item.pair if self.kind == "indexKline" else item.symbol
        return {"e": "indexPrice_kline", "E": now_ms, "ps": f"{_LETTERS[self.kind]}{name}", "k": kline}
