"""The language of the exchange that the tests of the collector are written against: JSON of our own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from app.domain.instrument import Instrument, Market
from app.domain.market_events import Accepted, Alive, BookUpdate, Closing, Event, Refused, Reply, Trades
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, Level, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel, Limits, Poll, Request

LIMITS: Final = Limits(
    channels_per_socket_max=5,
    channels_per_message_max=3,
    messages_per_s_max=5,
    connects_per_s_max=2,
    keepalive_ms=4_000,
    silence_ms=10_000,
    age_ms_max=240_000,
    weight_per_minute=600,
)
INSTRUMENTS: Final = tuple(Instrument("model", Market.SWAP, f"{coin}-USDT", f"{coin}USDT") for coin in ("BTC", "ETH"))
TRADES_PAGE: Final = 20
TOO_MANY: Final = 429


@dataclass
class ModelVenue:
    """One exchange's language. `is_streamed`: a book subscription begins with a snapshot, none can be fetched."""

    is_streamed: bool = False
    has_final_flag: bool = True
    is_newest_page: bool = False
    limits: Limits = LIMITS
    name: str = "model"
    by_native: dict[str, Instrument] = field(default_factory=dict)

    def instrument_requests(self) -> Sequence[Request]:
        return [Request("/instruments")]

    def read_instruments(self, body: bytes) -> list[Instrument]:
        return list(INSTRUMENTS)

    def learn(self, instruments: Collection[Instrument]) -> None:
        self.by_native |= {instrument.native: instrument for instrument in instruments}

    def channels(self, feed: Feed) -> tuple[Channel, ...]:
        native = feed.instrument.native
        match feed.data_type:
            case DataType.OPEN_INTEREST:
                return ()
            case DataType.ORDERBOOK:
                return (Channel("/book", f"book:{native}"),)
            case DataType.KLINE if feed.interval != "1m":
                raise LookupError(feed.interval)
            case other:
                return (Channel("/market", f"{other.value}:{native}"),)

    def greeting(self, request_id: int) -> str | None:
        return None

    def subscribe(self, request_id: int, names: Sequence[str]) -> str:
        return _text({"op": "subscribe", "id": request_id, "names": list(names)})

    def unsubscribe(self, request_id: int, names: Sequence[str]) -> str:
        return _text({"op": "unsubscribe", "id": request_id, "names": list(names)})

    def keepalive(self, request_id: int) -> str | None:
        return _text({"op": "ping", "id": request_id})

    def read(self, route: str, frame: bytes, received_ms: int) -> Sequence[Event]:
        data = _read(frame)
        match data.get("kind"):
            case "accepted":
                return [Accepted(data["id"], tuple(data["names"]))]
            case "refused":
                return [Refused(data["id"], 60018, "no such channel", data["name"])]
            case "pong":
                return [Alive()]
            case "test":
                return [Reply(_text({"op": "pong"}))]
            case "closing":
                return [Closing("upgrade")]
            case "trades":
                trades = [self._trade(row, data["native"], received_ms) for row in data["rows"]]
                return [Trades(self._instrument(data["native"]), trades)]
            case "book":
                return [self._book(data, received_ms)]
            case "kline":
                return [self._kline(data["row"], data["native"], received_ms, is_live=True)]
            case "ticker":
                return [self._ticker(data, received_ms)]
            case "funding":
                return [self._funding(data["row"], data["native"], received_ms)]
            case other:
                raise Unreadable(f"kind {other!r}")

    def poll(self, feed: Feed) -> Poll | None:
        if feed.data_type is DataType.OPEN_INTEREST:
            return Poll(_request("open_interest", feed.instrument), 15_000)
        return None

    def trades_request(self, instrument: Instrument, first: int, end: int) -> Request:
        return _request("trades", instrument, first=first, end=end)

    def klines_request(self, feed: Feed, start_ms: int, end_ms: int) -> Request:
        return _request("klines", feed.instrument, first=start_ms, end=end_ms)

    def funding_request(self, instrument: Instrument, start_ms: int, end_ms: int) -> Request:
        return _request("funding", instrument, first=start_ms, end=end_ms)

    def snapshot_request(self, instrument: Instrument) -> Request | None:
        return None if self.is_streamed else _request("book", instrument)

    def read_answer(
        self, feed: Feed, body: bytes, received_ms: int
    ) -> Sequence[Trade | KlineRecord | FundingRate | OpenInterest | Ticker]:
        data, native = _read(body), feed.instrument.native
        match data.get("kind"):
            case "trades":
                return [self._trade(row, native, received_ms) for row in data["rows"]]
            case "klines":
                return [self._kline(row, native, received_ms, is_live=False) for row in data["rows"]]
            case "funding":
                return [self._funding(row, native, received_ms) for row in data["rows"]]
            case "open_interest":
                amount = data["amount"]
                return [OpenInterest(self._instrument(native), amount, amount, data["t"], received_ms)]
            case other:
                raise Unreadable(f"kind {other!r}")

    def read_snapshot(self, instrument: Instrument, body: bytes, received_ms: int) -> BookUpdate:
        return self._book(_read(body), received_ms)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> int | None:
        return now_ms + 1_000 * int(headers["retry-after"]) if status == TOO_MANY else None

    def _instrument(self, native: str) -> Instrument:
        if native not in self.by_native:
            raise Unreadable(f"instrument {native!r}")
        return self.by_native[native]

    def _trade(self, row: list[Any], native: str, received_ms: int) -> Trade:
        sequence, trade_id, price, quantity, time_ms = row
        return Trade(
            self._instrument(native), sequence, trade_id, price, quantity, quantity, time_ms, received_ms, False
        )

    def _kline(self, row: list[Any], native: str, received_ms: int, *, is_live: bool) -> KlineRecord:
        open_ms, opened, high, low, close, volume, is_final, time_ms = row
        is_final = is_final and (self.has_final_flag or not is_live)
        return KlineRecord(
            self._instrument(native), "1m", open_ms, opened, high, low, close, volume, is_final, time_ms, received_ms
        )

    def _funding(self, row: list[Any], native: str, received_ms: int) -> FundingRate:
        rate, funding_ms, time_ms, is_final = row
        return FundingRate(self._instrument(native), rate, funding_ms, time_ms, received_ms, is_final)

    def _ticker(self, data: dict[str, Any], received_ms: int) -> Ticker:
        return Ticker(self._instrument(data["native"]), data["t"], received_ms, last_price=data["price"])

    def _book(self, data: dict[str, Any], received_ms: int) -> BookUpdate:
        return BookUpdate(
            self._instrument(data["native"]),
            data["snapshot"],
            data["first"],
            data["last"],
            data["previous"],
            [Level(*level) for level in data["bids"]],
            [Level(*level) for level in data["asks"]],
            data["t"],
            received_ms,
        )


def _request(kind: str, instrument: Instrument, **params: int) -> Request:
    pairs = (("native", instrument.native), *((key, str(value)) for key, value in params.items()))
    return Request(f"/{kind}", pairs, weight=5)


def _read(frame: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(frame, type=dict)
    except msgspec.DecodeError as error:
        raise Unreadable(f"no JSON: {frame[:40]!r}") from error


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
