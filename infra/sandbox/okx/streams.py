"""The streams of OKX's sockets, one class for each kind of channel."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final

import orjson

from infra.sandbox.book import LATE_STEPS_MAX, step_at
from infra.sandbox.candles import QUANTUM_MS
from infra.sandbox.faults import Target
from infra.sandbox.grid import MINUTE_MS, SECOND_MS
from infra.sandbox.ladders import Change
from infra.sandbox.listings import SPOT, SWAP, Listing
from infra.sandbox.okx import rows
from infra.sandbox.okx.bars import BARS, Bar
from infra.sandbox.peers import Stream
from infra.sandbox.tape import Trade
from infra.sandbox.venue import StepCursor, TradeCursor, Venue, step_ms

_KEEP_ALIVE_STEPS: Final = 64  # a frame with equal sequence numbers follows the update of every such step
_JOINED_MAX: Final = 20  # trades that the channel trades joins in one frame
_CLOSED_MAX: Final = 60  # closed candles that a delayed stream still sends
_BOOK_KINDS: Final = {"bbo-tbt": 1, "books5": 5}
_EVERY_MS: Final = {"tickers": 250, "funding-rate": MINUTE_MS, "open-interest": 3 * SECOND_MS, "mark-price": 1_000}
_BUSINESS: Final = ("candle", "trades-all")

Arg = dict[str, str]


def key_of(arg: Arg) -> str:
    """The name of a stream among those of a socket, which faults can match: books:BTC-USDT-SWAP."""
    return f"{arg.get('channel', '')}:{arg.get('instId', '')}"


def stream_of(venue: Venue, arg: Arg, path: str, now_ms: int) -> Stream | None:
    """The stream of a subscription's argument; None if the URL has no such channel or instrument."""
    channel = arg.get("channel", "")
    listing = venue.listings.find(arg.get("instId", ""), now_ms)
    if listing is None or path.endswith("/business") != channel.startswith(_BUSINESS):
        return None
    bar = BARS.get(channel.removeprefix("candle")) if channel.startswith("candle") else None
    if bar is not None:
        return CandleStream(venue, listing, arg, bar, now_ms)
    if channel == "books":
        target = Target(symbol=listing.name, path=path, streams=(key_of(arg),), venue=venue.name)
        begins_late = venue.faults.take("snapshot_missing", target, now_ms) is not None
        return BookStream(venue, listing, arg, now_ms, begins_late=begins_late)
    if channel in _BOOK_KINDS:
        return SnapshotStream(venue, listing, arg, now_ms)
    if channel in {"trades", "trades-all"}:
        return TradeStream(venue, listing, arg, now_ms)
    describe = _values(venue, listing).get(channel)
    return None if describe is None else ValueStream(listing, arg, describe)


def _values(venue: Venue, listing: Listing) -> dict[str, Callable[[int], rows.Json]]:
    """By channel: the value at a time. Only what expires or swaps has fundings, open interest and a mark price."""
    found: dict[str, Callable[[int], rows.Json]] = {"tickers": lambda now_ms: rows.ticker(venue, listing, now_ms)}
    if listing.kind != SPOT:
        found["open-interest"] = lambda now_ms: rows.open_interest(venue, listing, now_ms)
        found["mark-price"] = lambda now_ms: rows.mark_price(venue, listing, now_ms)
    if listing.kind == SWAP:
        found["funding-rate"] = lambda now_ms: rows.funding(listing, now_ms)
    return found


class BookStream(Stream):
    """The channel books: a snapshot of 400 levels, and an update for each step of the book."""

    def __init__(self, venue: Venue, listing: Listing, arg: Arg, now_ms: int, *, begins_late: bool) -> None:
        super().__init__(key_of(arg), listing.name, is_sequenced=True)
        self._venue, self._listing = venue, listing
        self._head = f'{{"arg":{_text(arg)},"action":'
        self._cursor = StepCursor(now_ms)
        self._is_new = not begins_late

    def frames(self, now_ms: int) -> Iterator[str]:
        """The snapshot, and an update for each step since."""
        if self._is_new:
            self._is_new = False
            yield self._snapshot(self._cursor.step)
        for step in self._cursor.take(now_ms, LATE_STEPS_MAX):
            yield self._update(step)
            if step % _KEEP_ALIVE_STEPS == 0:
                sequence = self._venue.sequence(self._listing, step)
                yield self._frame("update", "[]", "[]", step, sequence, sequence)

    def _snapshot(self, step: int) -> str:
        best = self._venue.ladders.best(self._listing.item, step, rows.DEPTH)
        bids, asks = (rows.levels(self._listing, side.items()) for side in best)
        return self._frame("snapshot", bids, asks, step, self._venue.sequence(self._listing, step), -1)

    def _update(self, step: int) -> str:
        delta = self._venue.ladders.delta(self._listing.item, step, rows.DEPTH)
        bids, asks = (rows.levels(self._listing, map(_after, side)) for side in delta)
        sequence = self._venue.sequence(self._listing, step)
        return self._frame("update", bids, asks, step, sequence, self._venue.sequence(self._listing, step - 1))

    def _frame(self, action: str, bids: str, asks: str, step: int, sequence: int, before: int) -> str:
        return (
            f'{self._head}"{action}","data":[{{"asks":{asks},"bids":{bids},"ts":"{step_ms(step)}",'
            f'"checksum":0,"seqId":{sequence},"prevSeqId":{before}}}]}}'
        )


class SnapshotStream(Stream):
    """The channels books5 and bbo-tbt: the best levels, whenever they have changed."""

    def __init__(self, venue: Venue, listing: Listing, arg: Arg, now_ms: int) -> None:
        super().__init__(key_of(arg), listing.name)
        self._venue, self._listing = venue, listing
        self._levels = _BOOK_KINDS[arg["channel"]]
        self._head = f'{{"arg":{_text(arg)},"data":[{{'
        self._named = f'"instId":"{listing.name}",' if self._levels > 1 else ""
        self._cursor = StepCursor(now_ms)
        self._cursor.step -= 1
        self._sent = ("", "")

    def frames(self, now_ms: int) -> Iterator[str]:
        """The levels of each step since, if they differ from those before."""
        for step in self._cursor.take(now_ms, LATE_STEPS_MAX):
            best = self._venue.ladders.best(self._listing.item, step, self._levels)
            sides = (rows.levels(self._listing, best.asks.items()), rows.levels(self._listing, best.bids.items()))
            if sides != self._sent:
                self._sent = sides
                yield (
                    f'{self._head}"asks":{sides[0]},"bids":{sides[1]},{self._named}"ts":"{step_ms(step)}",'
                    f'"seqId":{self._venue.sequence(self._listing, step)}}}]}}'
                )


class TradeStream(Stream):
    """The channels trades-all, a frame for each trade, and trades, which joins those of one price and side."""

    def __init__(self, venue: Venue, listing: Listing, arg: Arg, now_ms: int) -> None:
        super().__init__(key_of(arg), listing.name, is_sequenced=True)
        self._venue, self._listing = venue, listing
        self._is_joined = arg["channel"] == "trades"
        self._head = f'{{"arg":{_text(arg)},"data":[{{"instId":"{listing.name}","tradeId":"'
        self._cursor = TradeCursor(venue, listing, now_ms)

    def frames(self, now_ms: int) -> Iterator[str]:
        """The trades published since the last call."""
        trades = self._cursor.take(now_ms)
        return self._joined(trades) if self._is_joined else self._single(trades)

    def _single(self, trades: list[Trade]) -> Iterator[str]:
        head, listing = self._head, self._listing
        for (price, maker), part in groupby(trades, _price_and_side):
            middle, tail = f'","px":"{listing.price(price)}","sz":"', f'","side":"{_SIDES[maker]}","source":"0","ts":"'
            for trade in part:
                yield f'{head}{trade.number}{middle}{listing.size(trade.lots)}{tail}{trade.time_ms}"}}]}}'

    def _joined(self, trades: list[Trade]) -> Iterator[str]:
        listing = self._listing
        for (price, maker, _, _), part in groupby(trades, _joint):
            held = list(part)
            size, last = listing.size(sum(trade.lots for trade in held)), held[-1]
            sequence = self._venue.sequence(listing, step_at(last.time_ms))
            yield (
                f'{self._head}{last.number}","px":"{listing.price(price)}","sz":"{size}","side":"{_SIDES[maker]}",'
                f'"ts":"{last.time_ms}","count":"{len(held)}","source":"0","seqId":{sequence}}}]}}'
            )


class CandleStream(Stream):
    """A candle: when it changes, and with confirm 1 when it closes."""

    def __init__(self, venue: Venue, listing: Listing, arg: Arg, bar: Bar, now_ms: int) -> None:
        super().__init__(key_of(arg), listing.name, interval=bar.name)
        self._venue, self._listing, self._bar = venue, listing, bar
        self._head = f'{{"arg":{_text(arg)},"data":['
        self._open_ms, self._quantum = bar.open_ms(now_ms), -1
        self._sent: list[str] = []

    def frames(self, now_ms: int) -> Iterator[str]:
        """The candles closed since the last call, and the one in progress if it has changed."""
        quantum = now_ms // QUANTUM_MS
        if quantum == self._quantum:
            return
        self._quantum, closed = quantum, 0
        while (end_ms := self._bar.next_ms(self._open_ms)) <= now_ms:
            if closed < _CLOSED_MAX:
                yield self._frame(rows.candle_row(self._venue, self._listing, self._open_ms, end_ms, now_ms))
            self._open_ms, closed = end_ms, closed + 1
        row = rows.candle_row(self._venue, self._listing, self._open_ms, end_ms, now_ms)
        if row != self._sent:
            self._sent = row
            yield self._frame(row)

    def _frame(self, row: list[str]) -> str:
        return f"{self._head}{orjson.dumps(row).decode()}]}}"


class ValueStream(Stream):
    """A channel that tells a value now and then: at the subscription, and whenever its period begins."""

    def __init__(self, listing: Listing, arg: Arg, describe: Callable[[int], rows.Json]) -> None:
        super().__init__(key_of(arg), listing.name)
        self._head, self._describe = f'{{"arg":{_text(arg)},"data":[', describe
        self._every_ms, self._period = _EVERY_MS[arg["channel"]], -1

    def frames(self, now_ms: int) -> Iterator[str]:
        """One frame if a new period has begun."""
        period = now_ms // self._every_ms
        if period != self._period:
            self._period = period
            yield f"{self._head}{orjson.dumps(self._describe(now_ms)).decode()}]}}"


_SIDES: Final = ("buy", "sell")  # by whether the buyer was the maker


def _price_and_side(trade: Trade) -> tuple[int, bool]:
    return trade.price, trade.maker


def _joint(trade: Trade) -> tuple[int, bool, int, int]:
    return trade.price, trade.maker, trade.time_ms // QUANTUM_MS, trade.number // _JOINED_MAX


def _after(change: Change) -> tuple[int, int]:
    return change.price, change.after


def _text(arg: Arg) -> str:
    return orjson.dumps(arg).decode()
