"""Deribit as the collector asks it: channels, messages, requests and limits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec

from app.deribit import envelope, frames, names, numbers, rows
from app.deribit.instruments import NAME, read_instruments
from app.deribit.numbers import Digits
from app.domain.instrument import Instrument
from app.domain.interval import HOUR_MS, INTERVALS
from app.domain.market_events import BookUpdate, Event
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel, Limits, Poll, Request

TRADES_MAX: Final = 1_000
"""The most trades that one answer has."""
KLINES_MAX: Final = 1_000
"""Deribit names no number; bounds the answer."""
FUNDINGS_MAX: Final = 700
"""Hours in one answer: Deribit was seen to answer with a month of them at most."""
_LIMIT_CODES: Final = frozenset({10028})
_REFILL_MS: Final = 5_000
"""A pool of 50,000 credits that is refilled by 10,000 a second is full again."""
_ERROR_BODY_MAX: Final = 1_000
"""Longer answers are rows; they are not decoded twice."""

LIMITS: Final = Limits(
    channels_per_socket_max=500,  # Deribit's own limit
    channels_per_message_max=100,
    messages_per_s_max=2,  # 3,000 credits each; the pool holds ten, and three are refilled each second
    connects_per_s_max=1,  # 32 connections at once; Deribit names no rate
    keepalive_ms=5_000,  # each test draws an answer, so that silence means something
    silence_ms=15_000,
    age_ms_max=23 * 3_600_000,  # Deribit names no age; one renewal a day
    weight_per_minute=600,  # half of the 20 requests a second that the credits allow
)


class _Charts(msgspec.Struct, gc=False):
    status: Literal["ok", "no_data"]
    ticks: list[rows.Time] = []
    open: list[Digits] = []
    high: list[Digits] = []
    low: list[Digits] = []
    close: list[Digits] = []
    volume: list[Digits] = []
    cost: list[Digits] = []


class _Page(msgspec.Struct, gc=False):
    trades: Annotated[list[rows.TradeRow], msgspec.Meta(max_length=10 * TRADES_MAX)]


_trades: Final = numbers.decoder(_Page)
_charts: Final = numbers.decoder(_Charts)
_paid: Final = msgspec.json.Decoder(list[rows.PaidRow], float_hook=str)


class DeribitVenue:
    """Deribit: spot, perpetuals and dated futures, linear and inverse (app/ports/venue.py)."""

    name: Final = NAME
    limits: Final = LIMITS

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument] = {}

    def instrument_requests(self) -> Sequence[Request]:
        """One request for each kind; Deribit wants ten seconds between them, after a burst of five."""
        path = "/api/v2/public/get_instruments"
        return [Request(path, (("currency", "any"), ("kind", kind)), 10) for kind in ("future", "spot")]

    def read_instruments(self, body: bytes) -> list[Instrument]:
        """The instruments that trade; options and combinations are left out."""
        return read_instruments(body)

    def learn(self, instruments: Collection[Instrument]) -> None:
        """Read frames of these instruments."""
        self._instruments = {instrument.native: instrument for instrument in instruments}

    def channels(self, feed: Feed) -> tuple[Channel, ...]:
        """The one channel of `feed`; that of the ticker serves three feeds."""
        return (names.channel(feed),)

    def greeting(self, request_id: int) -> str | None:
        """Demand heartbeats."""
        return frames.command(frames.other_id(request_id), "set_heartbeat", interval=frames.HEARTBEAT_S)

    def subscribe(self, request_id: int, names: Sequence[str]) -> str:
        """The answer lists the channels that exist; others are missing there."""
        return frames.command(frames.subscription_id(request_id), "subscribe", channels=list(names))

    def unsubscribe(self, request_id: int, names: Sequence[str]) -> str:
        """The message that ends subscriptions."""
        return frames.command(frames.other_id(request_id), "unsubscribe", channels=list(names))

    def keepalive(self, request_id: int) -> str | None:
        """A test, which is answered."""
        return frames.command(frames.other_id(request_id), "test")

    def read(self, route: str, frame: bytes, received_ms: int) -> Sequence[Event]:
        """What a frame says; a ticker's frame has up to three events."""
        del route
        return frames.read(frame, self._instruments, received_ms)

    def poll(self, feed: Feed) -> Poll | None:
        """Nothing is polled: the history of funding must be asked for by time (`funding_request`)."""
        del feed
        return None

    def trades_request(self, instrument: Instrument, first: int, end: int) -> Request:
        """The oldest of the trades, with a neighbour on each side, which proves what is missing between them."""
        before = max(0, first - 1)
        params = (
            ("instrument_name", instrument.native),
            ("start_seq", str(before)),
            ("end_seq", str(min(end, before + TRADES_MAX - 1))),
            ("count", str(TRADES_MAX)),
            ("sorting", "asc"),
        )
        return Request("/api/v2/public/get_last_trades_by_instrument", params)

    def klines_request(self, feed: Feed, start_ms: int, end_ms: int) -> Request:
        """The oldest klines of the span; both bounds of Deribit are inclusive."""
        end_ms = min(end_ms, INTERVALS[feed.interval].grid.shift(start_ms, KLINES_MAX))
        params = (
            ("instrument_name", feed.instrument.native),
            ("resolution", names.resolution(feed.interval)),
            ("start_timestamp", str(start_ms)),
            ("end_timestamp", str(end_ms - 1)),
        )
        return Request("/api/v2/public/get_tradingview_chart_data", params)

    def funding_request(self, instrument: Instrument, start_ms: int, end_ms: int) -> Request:
        """The oldest hours of the span; both bounds of Deribit are inclusive."""
        params = (
            ("instrument_name", instrument.native),
            ("start_timestamp", str(start_ms)),
            ("end_timestamp", str(min(end_ms, start_ms + FUNDINGS_MAX * HOUR_MS) - 1)),
        )
        return Request("/api/v2/public/get_funding_rate_history", params)

    def snapshot_request(self, instrument: Instrument) -> Request | None:
        """None: each subscription to a book begins with a snapshot."""
        del instrument
        return None

    def read_answer(
        self, feed: Feed, body: bytes, received_ms: int
    ) -> Sequence[Trade | KlineRecord | FundingRate | OpenInterest | Ticker]:
        """A candle is final when Deribit's own clock, which each answer states, is past its end."""
        instrument = feed.instrument
        match feed.data_type:
            case DataType.TRADE:
                found = envelope.decode(body, _trades).trades
                found.sort(key=lambda row: row.trade_seq)
                return rows.trades_of(instrument, found, received_ms)
            case DataType.KLINE:
                charts, sent_ms = envelope.decode_with_time(body, _charts)
                return _klines(feed, charts, sent_ms or received_ms, received_ms)
            case DataType.FUNDING_RATE:
                paid = envelope.decode(body, _paid)
                paid.sort(key=lambda row: row.timestamp)
                return [rows.paid_of(instrument, row, received_ms) for row in paid]
            case _:
                raise LookupError(f"Deribit is not asked for {feed.data_type}, which has a channel")

    def read_snapshot(self, instrument: Instrument, body: bytes, received_ms: int) -> BookUpdate:
        """No snapshot is asked for (`snapshot_request`)."""
        del received_ms
        raise Unreadable(f"expected no book of {instrument.native}, subscribe again; got {body[:100]!r}")

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> int | None:
        """After 10028 or 429: until the credits are refilled."""
        del headers
        is_error = len(body) <= _ERROR_BODY_MAX and envelope.error_code(body) in _LIMIT_CODES
        return now_ms + _REFILL_MS if status == 429 or is_error else None


def _klines(feed: Feed, charts: _Charts, now_ms: int, received_ms: int) -> list[KlineRecord]:
    """The final candles of an answer, whose columns must be equally long."""
    columns = (charts.ticks, charts.open, charts.high, charts.low, charts.close, charts.volume, charts.cost)
    if len({len(column) for column in columns}) > 1:
        raise Unreadable(f"expected columns of one length, got {[len(column) for column in columns]}")
    grid = INTERVALS[feed.interval].grid
    candles = sorted(zip(*columns, strict=True), key=lambda row: row[0])
    return [
        rows.kline_of(feed.instrument, feed.interval, rows.CandleRow(*row), received_ms, is_final=True)
        for row in candles
        if grid.shift(row[0], 1) <= now_ms
    ]
