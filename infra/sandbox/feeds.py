"""The kline streams, and the tick that every 250 ms sends the due frames of all streams, each encoded once."""

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from infra.sandbox.candles import QUANTUM_MS, Candle, Walk
from infra.sandbox.close_delay import close_delay_ms
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard, Target
from infra.sandbox.grid import MINUTE_MS, SECOND_MS
from infra.sandbox.market_streams import FAST_MS, MarketStreams
from infra.sandbox.publishing import Outlet, Publisher, Subscriber
from infra.sandbox.render import NO_TRADES, Row, rest_row, stream_event
from infra.sandbox.stream_names import parse_kline
from infra.sandbox.tape import first_id, ids_within
from infra.sandbox.universe import Instrument

CATCH_UP_MINUTES_MAX = 60  # minutes that a delayed tick still closes, one by one; older ones are omitted


@dataclass(slots=True, eq=False)
class Feed(Outlet):
    """One stream, `<symbol>@kline_<interval>`, and the state for its next frame."""

    interval: str = field(kw_only=True)
    open_ms: int = -1
    finished: Candle | None = None
    first_id: int = -1


@dataclass(slots=True, eq=False)
class SymbolFeeds:
    """The streams of one symbol, and the state of its minute in progress."""

    symbol: str
    feeds: dict[str, Feed] = field(default_factory=dict)
    item: Instrument | None = None
    minute_ms: int = -1
    walk: Walk | None = None
    first_id: int = -1
    trades_sent: int = 0
    closing: deque["_Closing"] = field(default_factory=deque)


class _Closing(NamedTuple):
    """A closing frame to be sent at `due_ms`. Only if it is `late`, frames of the next minute are sent before it."""

    due_ms: int
    minute_ms: int
    late: bool


class FeedHub(Publisher):
    """All streams of the sandbox: kline streams itself, others through MarketStreams."""

    def __init__(self, exchange: Exchange, faults: FaultBoard) -> None:
        super().__init__(faults)
        self._exchange = exchange
        self._symbols: dict[str, SymbolFeeds] = {}
        self._others = MarketStreams(exchange, self)
        self._quantum = -1

    @property
    def streams(self) -> int:
        """How many streams have a subscriber."""
        return sum(len(symbol.feeds) for symbol in self._symbols.values()) + len(self._others)

    def wait_ms(self, now_ms: int) -> int:
        """The time in ms from `now_ms` to the next tick."""
        quantum_ms = QUANTUM_MS - now_ms % QUANTUM_MS
        return min(quantum_ms, FAST_MS - now_ms % FAST_MS) if self._others.is_fast else quantum_ms

    async def prepare(self, names: Iterable[str]) -> None:
        """Compute in a thread what the streams are based on: a month in progress has 40,000 minutes."""
        wanted = list(names)
        if wanted:
            await asyncio.to_thread(self._warm, wanted)

    def subscribe(self, subscriber: Subscriber, names: Iterable[str]) -> None:
        """Add `subscriber` to the streams of valid names."""
        for name in names:
            self._others.subscribe(subscriber, name)
            parsed = parse_kline(name)
            if parsed is None:
                continue
            symbol, interval = parsed
            feeds = self._symbols.setdefault(symbol, SymbolFeeds(symbol)).feeds
            feeds.setdefault(interval, Feed(name, interval=interval)).subscribers[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, names: Iterable[str]) -> None:
        """Remove `subscriber`; a stream without subscribers is deleted."""
        for name in names:
            self._others.unsubscribe(subscriber, name)
            symbol, interval = parse_kline(name) or ("", "")
            feeds = self._symbols.get(symbol)
            if feeds is None or interval not in feeds.feeds:
                continue
            feeds.feeds[interval].subscribers.pop(subscriber, None)
            if not feeds.feeds[interval].subscribers:
                del feeds.feeds[interval]
            if not feeds.feeds:
                del self._symbols[symbol]

    def tick(self, now_ms: int) -> None:
        """Send what is due at `now_ms`."""
        faulty = self.is_faulty
        if len(self._others):
            self._others.tick(now_ms, faulty=faulty)
        quantum = now_ms // QUANTUM_MS
        if quantum == self._quantum and self._others.is_fast:
            return  # this tick is for fast streams only
        self._quantum = quantum
        for feeds in tuple(self._symbols.values()):
            self._advance(feeds, now_ms, faulty=faulty)

    def _warm(self, wanted: Iterable[str]) -> None:
        now_ms = self._exchange.clock.now_ms()
        self._others.warm(wanted)
        for symbol, interval in filter(None, map(parse_kline, wanted)):
            item = self._exchange.universe.find(symbol, now_ms)
            if item is not None and item.status(now_ms) != "PENDING_TRADING":
                open_ms = item.grid(interval).floor(now_ms)
                self._exchange.market.candle_now(item, interval, open_ms, now_ms)
                first_id(self._exchange.market, item, now_ms // MINUTE_MS * MINUTE_MS)

    def _advance(self, feeds: SymbolFeeds, now_ms: int, *, faulty: bool) -> None:
        minute_ms = now_ms // MINUTE_MS * MINUTE_MS
        if feeds.minute_ms != minute_ms:
            self._turn_minute(feeds, minute_ms, now_ms)
        item = feeds.item
        while item is not None and feeds.closing and feeds.closing[0].due_ms <= now_ms:
            self._send_closed(feeds, item, feeds.closing.popleft().minute_ms, now_ms, faulty=faulty)
        if feeds.walk is None or item is None or not all(closing.late for closing in feeds.closing):
            return
        quantum = (now_ms - minute_ms) // QUANTUM_MS
        trades = feeds.walk.trades_at(quantum)
        if trades != feeds.trades_sent:
            feeds.trades_sent = trades
            minute = feeds.walk.candle_at(minute_ms, quantum)
            assert minute is not None, "trades were counted"
            self._send_live(feeds, item, minute, now_ms, faulty=faulty)

    def _turn_minute(self, feeds: SymbolFeeds, minute_ms: int, now_ms: int) -> None:
        """Queue the closing frames of the minutes that ended, and load the minute that began."""
        item = self._exchange.universe.find(feeds.symbol, minute_ms) or feeds.item
        before, known_ms, feeds.minute_ms, feeds.item = feeds.item, feeds.minute_ms, minute_ms, item
        feeds.trades_sent, feeds.walk = 0, None
        if before is not None and item is not None and before.uid != item.uid:
            feeds.closing.clear()  # the symbol is another coin now
            known_ms = -1
        if item is None or item.pending:
            return
        fresh = known_ms < 0  # a new subscriber gets the closing frame that is not sent yet, but no older one
        oldest_ms = minute_ms - (1 if fresh else CATCH_UP_MINUTES_MAX) * MINUTE_MS
        for ended_ms in range(max(known_ms, oldest_ms, item.onboard_ms), min(minute_ms, item.delivery_ms), MINUTE_MS):
            due_ms = ended_ms + MINUTE_MS + close_delay_ms(item, ended_ms)
            if not fresh or due_ms > now_ms:
                feeds.closing.append(self._closing(feeds, item, ended_ms, due_ms))
        if item.status(minute_ms) == "TRADING":
            feeds.walk = self._exchange.market.block(item, minute_ms).minute(minute_ms)[1]
            feeds.first_id = first_id(self._exchange.market, item, minute_ms)

    def _closing(self, feeds: SymbolFeeds, item: Instrument, minute_ms: int, due_ms: int) -> _Closing:
        target = Target(item.symbol, "1m", streams=[feed.name for feed in feeds.feeds.values()])
        fault = self._faults.take("late_close", target, minute_ms + MINUTE_MS)
        if fault is not None:
            due_ms += int(fault.delay_s * SECOND_MS)
        if feeds.closing:
            due_ms = max(due_ms, feeds.closing[-1].due_ms)
        return _Closing(due_ms, minute_ms, fault is not None)

    def _send_closed(self, feeds: SymbolFeeds, item: Instrument, minute_ms: int, now_ms: int, *, faulty: bool) -> None:
        for feed in feeds.feeds.values():
            grid = item.grid(feed.interval)
            open_ms = grid.floor(minute_ms)
            end_ms = grid.next(open_ms)
            if end_ms != minute_ms + MINUTE_MS:
                continue
            market = self._exchange.market
            candle = market.candle(item, feed.interval, open_ms)
            ids = ids_within(market, item, open_ms, end_ms) if candle.trades else NO_TRADES
            row = rest_row(item, candle, end_ms - 1)
            if faulty and self._faults.take("drop_close", _frame_target(item, feed), now_ms):
                continue
            rows = self._contradicted(_frame_target(item, feed), row, now_ms) if faulty else (row,)
            for each in rows:
                event = stream_event(item, feed.interval, each, now_ms, closed=True, ids=ids)
                self.send(feed, _frame_target(item, feed), event, now_ms, faulty=faulty)

    def _send_live(self, feeds: SymbolFeeds, item: Instrument, minute: Candle, now_ms: int, *, faulty: bool) -> None:
        market = self._exchange.market
        last_id = feeds.first_id + minute.trades - 1
        for feed in feeds.feeds.values():
            grid = item.grid(feed.interval)
            open_ms = grid.floor(minute.open_ms)
            if feed.open_ms != minute.open_ms:
                feed.open_ms = minute.open_ms
                feed.finished = market.before_minute(item, open_ms, now_ms)
                begun = feed.finished is not None and feed.finished.trades
                feed.first_id = ids_within(market, item, open_ms, minute.open_ms)[0] if begun else feeds.first_id
            candle = market.so_far(open_ms, feed.finished, minute) if feed.finished else minute
            row = rest_row(item, candle._replace(open_ms=open_ms), grid.next(open_ms) - 1)
            ids = (feed.first_id, last_id)
            event = stream_event(item, feed.interval, row, now_ms, closed=False, ids=ids)
            self.send(feed, _frame_target(item, feed), event, now_ms, faulty=faulty)

    def _contradicted(self, target: Target, row: Row, now_ms: int) -> tuple[Row, ...]:
        """The closing frames to send for `row`: the row, and with a fault also a false one before or after it."""
        fault = self._faults.take("contradict", target, now_ms)
        if fault is None:
            return (row,)
        return (_falsified(row), row) if fault.false_final == "first" else (row, _falsified(row))


def _frame_target(item: Instrument, feed: Feed) -> Target:
    return Target(symbol=item.symbol, interval=feed.interval, streams=(feed.name,))


def _falsified(row: Row) -> Row:
    """The row with a wrong but plausible volume and, if the candle has a range, close."""
    open_ms, first, high, low, close, volume, *rest = row
    text = str(volume)
    return [open_ms, first, high, low, high if close == low else low, f"{text[:-1]}{(int(text[-1]) + 1) % 10}", *rest]
