"""The events of all streams except klines, one class for each kind, with the state of what was sent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from infra.sandbox.answers.prices import describe_ticker, index_price, ticker_text, trading
from infra.sandbox.answers.trades import levels_of
from infra.sandbox.book import step_at, update_id
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.exchange import Exchange
from infra.sandbox.funding import funding_rate, next_funding_ms
from infra.sandbox.grid import MINUTE_MS, SECOND_MS
from infra.sandbox.marks import PLACES
from infra.sandbox.noise import chance
from infra.sandbox.render import amount, decimal, signed
from infra.sandbox.tape import Aggregate, Trade
from infra.sandbox.tickers import last_number
from infra.sandbox.universe import Instrument

USD_M: Final = 1  # `st` of USDⓈ-M rows
COIN_M: Final = 2  # `st` of COIN-M rows, which all-market streams also have since 2026-06-30
LIQUIDATIONS_OF_97: Final = 1  # seconds in which a symbol has a liquidation
_LATE_MINUTES_MAX: Final = 5  # minutes of trades that a delayed stream still sends; older ones are omitted

Event = dict[str, object]


class Source(Protocol):
    """The events of one stream of one symbol."""

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """The events to send at `now_ms`, after those of earlier calls."""
        ...


@dataclass(slots=True)
class TradeSource:
    """The trades, or aggregates, published since the last tick."""

    exchange: Exchange
    aggregate: bool
    _open_ms: int = -1
    _rows: list[Trade] | list[Aggregate] | None = None
    _sent: int = 0

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """The trades since the last call; none at the first call."""
        minute_ms = now_ms // MINUTE_MS * MINUTE_MS
        if self._rows is None:
            self._load(item, minute_ms)
            self._sent = self._seen(item, now_ms)
        while self._rows is not None:
            seen = self._seen(item, now_ms)
            for row in self._rows[self._sent : seen]:
                yield _aggregate(item, row, now_ms) if isinstance(row, Aggregate) else _trade(item, row, now_ms)
            self._sent = seen
            if self._open_ms >= minute_ms:
                return
            self._load(item, max(self._open_ms + MINUTE_MS, minute_ms - _LATE_MINUTES_MAX * MINUTE_MS))

    def _load(self, item: Instrument, open_ms: int) -> None:
        self._open_ms, self._sent = open_ms, 0
        tape, end_ms = self.exchange.tape, open_ms + MINUTE_MS
        self._rows = tape.aggregates(item, open_ms, end_ms) if self.aggregate else tape.minute(item, open_ms)

    def _seen(self, item: Instrument, now_ms: int) -> int:
        """How many of the minute's rows are published by now."""
        rows = self._rows or []
        if now_ms >= self._open_ms + MINUTE_MS or not rows:
            return len(rows)
        walk = self.exchange.market.block(item, self._open_ms).minute(self._open_ms)[1]
        assert walk is not None, "a minute with trades has a walk"
        trades = walk.trades_at((now_ms - self._open_ms) // QUANTUM_MS)
        if not self.aggregate:
            return trades
        first = rows[0]
        assert isinstance(first, Aggregate), "aggregates were loaded"
        place = self._sent
        while place < len(rows) and _last(rows[place]) < first.first + trades:
            place += 1
        return place


@dataclass(slots=True)
class DepthSource:
    """The changes of the book since the last tick."""

    exchange: Exchange
    _step: int | None = None

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """One update, chained to the previous one by `pu`."""
        step = step_at(now_ms)
        if self._step is None or self._step >= step:
            self._step = step if self._step is None else self._step
            return
        changes = self.exchange.book.changes(item, self._step, step)
        self._step = step
        bids, asks = levels_of(item, changes.bids), levels_of(item, changes.asks)
        yield _depth(item, now_ms, (changes.before_id, changes.last_id, changes.time_ms), bids, asks)


@dataclass(slots=True)
class PartialDepthSource:
    """The best levels, at every tick in which they may have changed."""

    exchange: Exchange
    levels: int
    _step: int = 0

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """One snapshot in the form of an update."""
        step = step_at(now_ms)
        if step == self._step:
            return
        before = update_id(self._step or step - 1)
        self._step = step
        snapshot = self.exchange.book.snapshot(item, self.levels, now_ms)
        bids, asks = levels_of(item, snapshot.bids), levels_of(item, snapshot.asks)
        yield _depth(item, now_ms, (before, snapshot.update_id, snapshot.time_ms), bids, asks)


@dataclass(slots=True)
class BookTickerSource:
    """Best bid and ask, when they change."""

    exchange: Exchange
    _sent: tuple[object, ...] = ()

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """One event if anything except the time has changed."""
        snapshot = self.exchange.book.snapshot(item, 1, now_ms)
        (bid, bid_lots), (ask, ask_lots) = snapshot.bids[0], snapshot.asks[0]
        if self._sent == (bid, bid_lots, ask, ask_lots):
            return
        self._sent = (bid, bid_lots, ask, ask_lots)
        price, lots = item.price_precision, item.quantity_precision
        yield {
            "e": "bookTicker",
            "u": snapshot.update_id,
            "E": now_ms,
            "T": snapshot.time_ms,
            "s": item.symbol,
            "b": decimal(bid, price),
            "B": decimal(bid_lots, lots),
            "a": decimal(ask, price),
            "A": decimal(ask_lots, lots),
            "ps": item.pair,
            "st": USD_M,
        }


@dataclass(slots=True)
class MarkPriceSource:
    """Mark and index price, at every tick."""

    exchange: Exchange

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """One event."""
        marks = self.exchange.marks
        next_ms, mark = next_funding_ms(item, now_ms), marks.mark(item, now_ms)
        yield {
            "e": "markPriceUpdate",
            "E": now_ms,
            "s": item.symbol,
            "p": decimal(mark, PLACES),
            "ap": decimal(marks.average(item, now_ms), PLACES),
            "i": decimal(index_price(self.exchange, item, now_ms), PLACES),
            "P": decimal(mark, PLACES),
            "r": signed(funding_rate(item, next_ms), PLACES),
            "T": next_ms,
            "st": USD_M,
        }


@dataclass(slots=True)
class TickerSource:
    """The last 24 hours, if there were trades since the last tick; `mini` has fewer fields."""

    exchange: Exchange
    mini: bool
    _sent: tuple[int, ...] = ()

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """One event if the ticker changed."""
        ticker = self.exchange.tickers.at(item, now_ms)
        state = (last_number(ticker), ticker.open_ms, ticker.candle.trades)
        if state == self._sent:
            return
        self._sent = state
        text = ticker_text(item, ticker)
        head: Event = {"e": "24hrMiniTicker" if self.mini else "24hrTicker", "E": now_ms, "s": item.symbol}
        tail: Event = {"ps": item.pair, "st": USD_M}
        if self.mini:
            yield {**head, **{name: text[name] for name in "cohlvq"}, **tail}
            return
        row = describe_ticker(self.exchange, item, now_ms)
        numbers = {"O": "openTime", "C": "closeTime", "F": "firstId", "L": "lastId", "n": "count"}
        counts = {name: row[field] for name, field in numbers.items()}
        yield {**head, **{name: text[name] for name in "pPwcQohlvq"}, **counts, **tail}


@dataclass(slots=True)
class ForceOrderSource:
    """An occasional liquidation; like the exchange, at most one a second and symbol (binance-facts section 5.4)."""

    exchange: Exchange

    def events(self, item: Instrument, now_ms: int) -> Iterator[Event]:
        """One order, or none."""
        bits = chance(f"{item.uid}/liquidation/{now_ms // SECOND_MS}")
        if bits % 97 >= LIQUIDATIONS_OF_97:
            return
        price, lots = item.price_precision, item.quantity_precision
        last = decimal(self.exchange.market.minute_now(item, now_ms).close, price)
        quantity = amount(item.lots_a_trade * (1 + (bits >> 8) % 40), lots)
        order = {
            "s": item.symbol,
            "S": "SELL" if bits >> 16 & 1 else "BUY",
            "o": "LIMIT",
            "f": "IOC",
            "q": quantity,
            "p": last,
            "ap": last,
            "X": "FILLED",
            "l": quantity,
            "z": quantity,
            "T": now_ms,
        }
        yield {"e": "forceOrder", "E": now_ms, "o": order, "ps": item.pair, "st": USD_M}


def source_of(exchange: Exchange, kind: str, detail: str) -> Source:
    """The source of events for a stream of `kind`."""
    makers: dict[str, Callable[[], Source]] = {
        "aggTrade": lambda: TradeSource(exchange, aggregate=True),
        "trade": lambda: TradeSource(exchange, aggregate=False),
        "depth": lambda: DepthSource(exchange),
        "partialDepth": lambda: PartialDepthSource(exchange, int(detail)),
        "bookTicker": lambda: BookTickerSource(exchange),
        "markPrice": lambda: MarkPriceSource(exchange),
        "ticker": lambda: TickerSource(exchange, mini=False),
        "miniTicker": lambda: TickerSource(exchange, mini=True),
        "forceOrder": lambda: ForceOrderSource(exchange),
    }
    return makers[kind]()


def coin_margined(event: Event) -> Event:
    """`event` as a COIN-M row, which all-market streams also contain."""
    base = str(event["s"]).removesuffix("USDT")
    pair = {"ps": f"{base}USD"} if "ps" in event else {}
    return {**event, "s": f"{base}USD_PERP", **pair, "st": COIN_M}


def everyone(exchange: Exchange, now_ms: int) -> list[Instrument]:
    """The symbols of the all-market streams."""
    return trading(exchange, now_ms)


def _trade(item: Instrument, row: Trade, now_ms: int) -> Event:
    price, lots = decimal(row.price, item.price_precision), decimal(row.lots, item.quantity_precision)
    return {
        "e": "trade",
        "E": now_ms,
        "T": row.time_ms,
        "s": item.symbol,
        "t": row.number,
        "p": price,
        "q": lots,
        "X": "MARKET",
        "m": row.maker,
        "st": USD_M,
    }


def _aggregate(item: Instrument, row: Aggregate, now_ms: int) -> Event:
    price, lots = decimal(row.price, item.price_precision), decimal(row.lots, item.quantity_precision)
    return {
        "e": "aggTrade",
        "E": now_ms,
        "s": item.symbol,
        "a": row.number,
        "p": price,
        "q": lots,
        "nq": lots,
        "f": row.first,
        "l": row.last,
        "T": row.time_ms,
        "m": row.maker,
        "st": USD_M,
    }


def _depth(
    item: Instrument, now_ms: int, ids: tuple[int, int, int], bids: list[list[str]], asks: list[list[str]]
) -> Event:
    before_id, last_id, time_ms = ids
    return {
        "e": "depthUpdate",
        "E": now_ms,
        "T": time_ms,
        "s": item.symbol,
        "U": before_id + 1,
        "u": last_id,
        "pu": before_id,
        "b": bids,
        "a": asks,
        "ps": item.pair,
        "st": USD_M,
    }


def _last(row: Trade | Aggregate) -> int:
    return row.last if isinstance(row, Aggregate) else row.number
