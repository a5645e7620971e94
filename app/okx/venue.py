"""OKX as the collector asks it: channels, messages, requests and limits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from app.domain.instrument import Instrument
from app.domain.interval import INTERVALS
from app.domain.market_events import BookUpdate, Event
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel, Limits, Poll, Request
from app.okx import envelope, frames, names, rows
from app.okx.instruments import NAME, read_instruments

TRADES_MAX: Final = 100
KLINES_MAX: Final = 300
FUNDINGS_MAX: Final = 400
"""The most rows that one answer has."""
_WINDOW_MS: Final = 2_000
"""Requests are counted in windows of two seconds."""
_ERROR_BODY_MAX: Final = 1_000
"""Longer answers are rows; they are not decoded twice."""
_LIMIT_CODES: Final = frozenset({"50011", "50061"})

LIMITS: Final = Limits(
    channels_per_socket_max=100,  # OKX names no number; bounds what one lost socket takes with it
    channels_per_message_max=50,  # 64 KB at the most, at about 60 bytes each
    messages_per_s_max=2,  # 480 subscribe and unsubscribe messages an hour: a burst is fine, a storm is not
    connects_per_s_max=3,
    keepalive_ms=5_000,  # each ping draws a pong, so that silence means something
    silence_ms=15_000,
    age_ms_max=23 * 3_600_000,  # OKX names no age, but announces upgrades a minute before; one renewal a day
    weight_per_minute=1_200,  # the narrowest limit is 10 in 2 s, wherefore requests weigh 2 or 4
)

_trade_rows: Final = msgspec.json.Decoder(list[rows.TradeRow], strict=False)
_candle_rows: Final = msgspec.json.Decoder(list[rows.CandleRow], strict=False)
_paid_rows: Final = msgspec.json.Decoder(list[rows.PaidRow], strict=False)


class OkxVenue:
    """OKX: spot, linear and inverse swaps, dated futures (app/ports/venue.py)."""

    name: Final = NAME
    limits: Final = LIMITS

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument] = {}

    def instrument_requests(self) -> Sequence[Request]:
        """One request for each kind."""
        path = "/api/v5/public/instruments"
        return [Request(path, (("instType", kind),), 2) for kind in ("SPOT", "SWAP", "FUTURES")]

    def read_instruments(self, body: bytes) -> list[Instrument]:
        """The instruments that trade; options and what cannot be named are left out."""
        return read_instruments(body)

    def learn(self, instruments: Collection[Instrument]) -> None:
        """Read frames of these instruments."""
        self._instruments = {instrument.native: instrument for instrument in instruments}

    def channels(self, feed: Feed) -> tuple[Channel, ...]:
        """The one channel of `feed`."""
        return (names.channel(feed),)

    def greeting(self, request_id: int) -> str | None:
        """OKX expects no greeting."""
        del request_id
        return None

    def subscribe(self, request_id: int, names: Sequence[str]) -> str:
        """Without an id: OKX acknowledges each channel by its name."""
        del request_id
        return frames.command("subscribe", names)

    def unsubscribe(self, request_id: int, names: Sequence[str]) -> str:
        """As `subscribe`."""
        del request_id
        return frames.command("unsubscribe", names)

    def keepalive(self, request_id: int) -> str | None:
        """The text `ping`, which is answered by `pong`."""
        del request_id
        return frames.PING

    def read(self, route: str, frame: bytes, received_ms: int) -> Sequence[Event]:
        """What a frame says."""
        del route
        return frames.read(frame, self._instruments, received_ms)

    def poll(self, feed: Feed) -> Poll | None:
        """Nothing is polled: rates that were paid are asked for by time (`funding_request`)."""
        del feed
        return None

    def trades_request(self, instrument: Instrument, first: int, end: int) -> Request:
        """The newest trades before `end`; where some of [`first`, `end`) are missing there, older ones come along."""
        del first
        params = (("instId", instrument.native), ("type", "1"), ("after", str(end)), ("limit", str(TRADES_MAX)))
        return Request("/api/v5/market/history-trades", params, 2)

    def klines_request(self, feed: Feed, start_ms: int, end_ms: int) -> Request:
        """The oldest klines of the span; both bounds of OKX are exclusive."""
        end_ms = min(end_ms, INTERVALS[feed.interval].grid.shift(start_ms, KLINES_MAX))
        params = (
            ("instId", feed.instrument.native),
            ("bar", names.bar(feed.interval)),
            ("before", str(start_ms - 1)),
            ("after", str(end_ms)),
            ("limit", str(KLINES_MAX)),
        )
        return Request("/api/v5/market/history-candles", params, 2)

    def funding_request(self, instrument: Instrument, start_ms: int, end_ms: int) -> Request:
        """The newest rates of the span; both bounds of OKX are exclusive."""
        params = (
            ("instId", instrument.native),
            ("before", str(start_ms - 1)),
            ("after", str(end_ms)),
            ("limit", str(FUNDINGS_MAX)),
        )
        return Request("/api/v5/public/funding-rate-history", params, 4)

    def snapshot_request(self, instrument: Instrument) -> Request | None:
        """None: a REST book has no sequence number, so that no update can be joined to it; subscribe again."""
        del instrument
        return None

    def read_answer(
        self, feed: Feed, body: bytes, received_ms: int
    ) -> Sequence[Trade | KlineRecord | FundingRate | OpenInterest | Ticker]:
        """Rows come newest first; those in progress are left out."""
        instrument = feed.instrument
        match feed.data_type:
            case DataType.TRADE:
                found = envelope.decode(body, _trade_rows)
                found.sort(key=lambda row: row.tradeId)
                return rows.trades_of(instrument, found, received_ms)
            case DataType.KLINE:
                candles = envelope.decode(body, _candle_rows)
                candles.sort(key=lambda row: row[0])
                made = (rows.kline_of(instrument, feed.interval, row, received_ms) for row in candles)
                return [kline for kline in made if kline.is_final]
            case DataType.FUNDING_RATE:
                paid = envelope.decode(body, _paid_rows)
                paid.sort(key=lambda row: row.funding_time)
                return [rows.paid_of(instrument, row, received_ms) for row in paid if row.realized_rate]
            case _:
                raise LookupError(f"OKX is not asked for {feed.data_type}, which has a channel")

    def read_snapshot(self, instrument: Instrument, body: bytes, received_ms: int) -> BookUpdate:
        """No snapshot is asked for (`snapshot_request`)."""
        del received_ms
        raise Unreadable(f"expected no book of {instrument.native}, subscribe again; got {body[:100]!r}")

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> int | None:
        """After 50011 or 429: until the window of two seconds is over."""
        del headers
        is_error = len(body) <= _ERROR_BODY_MAX and envelope.error_code(body) in _LIMIT_CODES
        return now_ms + _WINDOW_MS if status == 429 or is_error else None
