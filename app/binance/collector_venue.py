"""Binance USDⓈ-M as the collector asks it: streams, messages, requests and limits."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from app.binance import collector_answers as answers
from app.binance import collector_frames as frames
from app.binance import collector_names as names
from app.binance import error_body
from app.binance.weights import depth_weight, klines_weight
from app.domain import letters
from app.domain.instrument import Instrument
from app.domain.interval import DAY_MS, INTERVALS, MINUTE_MS
from app.domain.market_events import BookUpdate, Event
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, OpenInterest, Ticker, Trade
from app.domain.venue import Channel, Limits, Poll, Request

OPEN_INTEREST_POLL_MS: Final = 60_000
"""A request a minute costs one weight; 700 symbols would cost a third of the minute's weight."""
_BAN_MS: Final = 2 * MINUTE_MS
"""The shortest ban, for one whose end is not told."""
_BAN_MS_MAX: Final = 3 * DAY_MS
"""The longest ban (binance-facts section 1.2)."""

LIMITS: Final = Limits(
    channels_per_socket_max=200,  # 1,024 are allowed; bounds what one lost socket takes with it
    channels_per_message_max=100,
    messages_per_s_max=5,  # ten are allowed, and answers to pings count
    connects_per_s_max=1,  # spot allows 300 in five minutes; none is documented here
    keepalive_ms=5_000,  # each question draws an answer, so that silence means something; pings come every 3 min
    silence_ms=15_000,
    age_ms_max=23 * 3_600_000,  # the exchange ends a socket after 24 h
    weight_per_minute=1_200,  # half of the 2,400 that all requests of an address share
)


class BinanceVenue:
    """Binance USDⓈ-M: perpetuals and quarterly contracts (app/ports/venue.py)."""

    name: Final = names.NAME
    limits: Final = LIMITS

    def __init__(self) -> None:
        self._instruments: dict[str, Instrument] = {}

    def instrument_requests(self) -> Sequence[Request]:
        """The exchangeInfo."""
        return [Request("/fapi/v1/exchangeInfo")]

    def read_instruments(self, body: bytes) -> list[Instrument]:
        """The contracts that trade."""
        return names.read_instruments(body)

    def learn(self, instruments: Collection[Instrument]) -> None:
        """Read frames of these instruments."""
        self._instruments = {instrument.native: instrument for instrument in instruments}

    def channels(self, feed: Feed) -> tuple[Channel, ...]:
        """The one stream of `feed`; none of the open interest."""
        channel = names.channel(feed)
        return () if channel is None else (channel,)

    def greeting(self, request_id: int) -> str | None:
        """Binance expects no greeting."""
        del request_id
        return None

    def subscribe(self, request_id: int, names: Sequence[str]) -> str:
        """The answer accepts all, also names of streams that do not exist."""
        return frames.command(frames.subscription_id(request_id), "SUBSCRIBE", names)

    def unsubscribe(self, request_id: int, names: Sequence[str]) -> str:
        """The message that ends subscriptions."""
        return frames.command(frames.other_id(request_id), "UNSUBSCRIBE", names)

    def keepalive(self, request_id: int) -> str | None:
        """A question whose answer is short."""
        return frames.command(frames.other_id(request_id), "GET_PROPERTY", ["combined"])

    def read(self, route: str, frame: bytes, received_ms: int) -> Sequence[Event]:
        """What a frame says."""
        del route
        return frames.read(frame, self._instruments, received_ms)

    def poll(self, feed: Feed) -> Poll | None:
        """The open interest, which has no stream; rates that were paid are asked for by time (`funding_request`)."""
        if feed.data_type is not DataType.OPEN_INTEREST:
            return None
        params = (("symbol", feed.instrument.native),)
        return Poll(Request("/fapi/v1/openInterest", params), OPEN_INTEREST_POLL_MS)

    def trades_request(self, instrument: Instrument, first: int, end: int) -> Request:
        """The oldest of the trades; where some are missing, newer ones come along."""
        limit = min(end + 1 - first, answers.TRADES_MAX)
        params = (("symbol", instrument.native), ("fromId", str(first)), ("limit", str(limit)))
        return Request("/fapi/v1/aggTrades", params, 20)

    def klines_request(self, feed: Feed, start_ms: int, end_ms: int) -> Request:
        """The oldest klines of the span; both bounds of Binance are inclusive."""
        names.check_interval(feed.interval)
        limit = min(max(1, INTERVALS[feed.interval].grid.count(start_ms, end_ms)), answers.KLINES_MAX)
        params = (
            ("symbol", feed.instrument.native),
            ("interval", feed.interval),
            ("startTime", str(start_ms)),
            ("endTime", str(end_ms - 1)),
            ("limit", str(limit)),
        )
        return Request("/fapi/v1/klines", params, klines_weight(limit))

    def funding_request(self, instrument: Instrument, start_ms: int, end_ms: int) -> Request:
        """The oldest rates of the span; both bounds of Binance are inclusive."""
        params = (
            ("symbol", instrument.native),
            ("startTime", str(start_ms)),
            ("endTime", str(end_ms - 1)),
            ("limit", str(answers.FUNDINGS_MAX)),
        )
        return Request("/fapi/v1/fundingRate", params)

    def snapshot_request(self, instrument: Instrument) -> Request | None:
        """The deepest book that is offered; updates join it by their numbers."""
        limit = answers.LEVELS_MAX
        return Request("/fapi/v1/depth", (("symbol", instrument.native), ("limit", str(limit))), depth_weight(limit))

    def read_answer(
        self, feed: Feed, body: bytes, received_ms: int
    ) -> Sequence[Trade | KlineRecord | FundingRate | OpenInterest | Ticker]:
        """The records of an answer."""
        instrument = feed.instrument
        match feed.data_type:
            case DataType.TRADE:
                return answers.trades(instrument, body, received_ms)
            case DataType.KLINE:
                return answers.klines(feed, body, received_ms)
            case DataType.FUNDING_RATE:
                return answers.fundings(instrument, body, received_ms)
            case DataType.OPEN_INTEREST:
                return [answers.open_interest(instrument, body, received_ms)]
            case _:
                raise LookupError(f"Binance is not asked for {feed.data_type}, which has a stream")

    def read_snapshot(self, instrument: Instrument, body: bytes, received_ms: int) -> BookUpdate:
        """The book of an answer to `snapshot_request`."""
        return answers.book(instrument, body, received_ms)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> int | None:
        """After 418 and 429: what the header or the text says, or else the next minute or the shortest ban."""
        if status not in (418, 429):
            return None
        until_ms = now_ms + _BAN_MS if status == 418 else now_ms - now_ms % MINUTE_MS + MINUTE_MS
        stated = [value for name, value in headers.items() if letters.lower(name) == "retry-after"]
        if stated and stated[0].isascii() and stated[0].isdigit():
            until_ms = now_ms + min(int(stated[0][:9]) * 1_000, _BAN_MS_MAX)
        error = error_body.decode(status, body)
        banned_ms = error_body.banned_until_ms(error.msg) if error is not None else None
        if banned_ms is not None:
            until_ms = max(until_ms, min(banned_ms, now_ms + _BAN_MS_MAX))
        return until_ms
