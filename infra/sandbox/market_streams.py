"""All streams except klines: their subscribers, and the events due at a tick."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import orjson

from infra.sandbox.answers.klines import contract
from infra.sandbox.continuous import ContinuousKlineSource, SecondKlineSource
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import Target
from infra.sandbox.params import ApiError
from infra.sandbox.price_klines import PRICES, PriceKlineSource
from infra.sandbox.publishing import Outlet, Publisher, Subscriber
from infra.sandbox.stream_events import Event, Source, coin_margined, everyone, source_of
from infra.sandbox.stream_names import SECONDS, StreamSpec, parse_stream
from infra.sandbox.universe import Instrument

FAST_MS = 100  # the interval of book streams; that of klines is 250 ms
_MIXED_SYMBOL = "BTCUSDT"  # the symbol that also has a COIN-M row in all-market streams
_LISTS = frozenset({"markPrice", "ticker", "miniTicker"})  # all-market streams whose payload is a list


@dataclass(slots=True, eq=False)
class MarketStream(Outlet):
    """One stream with its sources by symbol, and the number of the period last sent."""

    spec: StreamSpec = field(kw_only=True)
    sources: dict[str, Source] = field(default_factory=dict)
    period: int = -1


class MarketStreams:
    """The streams with subscribers."""

    def __init__(self, exchange: Exchange, publisher: Publisher) -> None:
        self._exchange = exchange
        self._publisher = publisher
        self._streams: dict[str, MarketStream] = {}
        self._fast = 0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def is_fast(self) -> bool:
        """Whether a subscribed stream has events every 100 ms."""
        return self._fast > 0

    def subscribe(self, subscriber: Subscriber, name: str) -> None:
        """Add `subscriber` to a stream; unknown names are ignored and stay silent."""
        spec = parse_stream(name)
        if spec is None:
            return
        if name not in self._streams:
            self._streams[name] = MarketStream(name, spec=spec)
            self._fast += spec.every_ms == FAST_MS
        self._streams[name].subscribers[subscriber] = None

    def unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        """Remove `subscriber`; a stream without subscribers is deleted."""
        stream = self._streams.get(name)
        if stream is None:
            return
        stream.subscribers.pop(subscriber, None)
        if not stream.subscribers:
            del self._streams[name]
            self._fast -= stream.spec.every_ms == FAST_MS

    def warm(self, names: Iterable[str]) -> None:
        """Compute what the first events of streams need: the 24 hours of every symbol take a while."""
        now_ms = self._exchange.clock.now_ms()
        for spec in filter(None, map(parse_stream, names)):
            for item in self._items(spec, now_ms):
                self._exchange.market.minute_now(item, now_ms)
                if spec.kind in {"trade", "aggTrade"}:
                    self._exchange.market.numbers.first(item, now_ms)
                if spec.kind in {"ticker", "miniTicker"}:
                    self._exchange.tickers.at(item, now_ms)
                if spec.kind == "continuousKline" and spec.detail != SECONDS:
                    open_ms = item.grid(spec.detail).floor(now_ms)
                    self._exchange.market.candle_now(item, spec.detail, open_ms, now_ms)
                if spec.kind in PRICES:
                    open_ms = item.grid(spec.detail).floor(now_ms)
                    self._exchange.marks.candle(item, PRICES[spec.kind], spec.detail, open_ms, now_ms)

    def tick(self, now_ms: int, *, faulty: bool) -> None:
        """Send what is due at `now_ms`."""
        for stream in tuple(self._streams.values()):
            period = now_ms // stream.spec.every_ms
            if period == stream.period:
                continue
            stream.period = period
            for event in self._events(stream, now_ms):
                target = Target(stream.spec.symbol, stream.spec.detail, streams=(stream.name,))
                self._publisher.send(stream, target, orjson.dumps(event).decode(), now_ms, faulty=faulty)

    def _events(self, stream: MarketStream, now_ms: int) -> Iterator[object]:
        spec = stream.spec
        items = self._items(spec, now_ms)
        if spec.symbol or spec.kind not in _LISTS:
            for item in items:
                yield from self._told(stream, item, now_ms)
            return
        rows = [(item, row) for item in items for row in self._told(stream, item, now_ms)]
        for of_frame in _FRAMES:  # a list is sent as two frames: crypto and TradFi symbols
            frame = [row for item, row in rows if of_frame(item)]
            if frame:
                yield frame

    def _told(self, stream: MarketStream, item: Instrument, now_ms: int) -> Iterator[Event]:
        """A symbol's events; in all-market streams, those of one symbol also as COIN-M rows."""
        source = stream.sources.get(item.symbol)
        if source is None:
            source = stream.sources[item.symbol] = self._source(stream.spec)
        for event in source.events(item, now_ms):
            yield event
            if not stream.spec.symbol and item.symbol == _MIXED_SYMBOL and "s" in event:
                yield coin_margined(event)

    def _source(self, spec: StreamSpec) -> Source:
        if spec.kind == "continuousKline":
            of_seconds = spec.detail == SECONDS
            return (
                SecondKlineSource(self._exchange) if of_seconds else ContinuousKlineSource(self._exchange, spec.detail)
            )
        if spec.kind in PRICES:
            return PriceKlineSource(self._exchange, spec.kind, spec.detail)
        return source_of(self._exchange, spec.kind, spec.detail)

    def _items(self, spec: StreamSpec, now_ms: int) -> list[Instrument]:
        """The symbols of a stream that trade."""
        if not spec.symbol:
            return everyone(self._exchange, now_ms)
        if spec.kind == "continuousKline":
            pair, _, contract_type = spec.symbol.partition("_")
            try:
                item: Instrument | None = contract(self._exchange, {"pair": pair}, contract_type, now_ms)
            except ApiError:
                item = None  # a stream of a missing contract is acknowledged and stays silent
        elif spec.rival and self._exchange.universe.find(spec.rival, now_ms) is not None:
            item = None
        else:
            item = self._exchange.universe.find(spec.symbol, now_ms)
        return [item] if item is not None and item.status(now_ms) == "TRADING" else []


def _is_tradfi(item: Instrument) -> bool:
    return item.contract_type == "TRADIFI_PERPETUAL"


def _is_crypto(item: Instrument) -> bool:
    return not _is_tradfi(item)


_FRAMES: tuple[Callable[[Instrument], bool], ...] = (_is_crypto, _is_tradfi)
