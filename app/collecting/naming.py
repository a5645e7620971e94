"""The names of messages: subject, id (the same for the same content), and headers.

A subject is `market.{exchange}.{symbol}.{type}`. Spot and swap of one pair share it, so the id and a header have the
market. The stream stores an id once within its duplicate window, therefore no two contents may share one: what can
change while its time stays the same (a ticker, a kline in progress) has a hash of its state in the id.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from xxhash import xxh3_64_hexdigest

from app.domain.instrument import Instrument
from app.domain.records import (
    BookDelta,
    BookSnapshot,
    DataType,
    Feed,
    FundingRate,
    Gap,
    KlineRecord,
    OpenInterest,
    Record,
    Ticker,
    Trade,
    feed_of,
)

ROOT: Final = "market"
SCHEMA_HEADER: Final = "Klinenode-Schema"
MARKET_HEADER: Final = "Klinenode-Market"
TIME_HEADER: Final = "Klinenode-Time"
GAP: Final = "gap"
NAMES_KEPT: Final = 65_536
"""Instruments whose names are kept in memory: more than three exchanges list, at some 200 bytes each."""

Headers: TypeAlias = tuple[tuple[str, str], ...]

_MEANINGS: Final = " .*>%/\t\r\n\0"
"""Characters that mean something in a subject or in an id; in names they are printed as %XX."""
_ESCAPES: Final = str.maketrans({mark: f"%{ord(mark):02X}" for mark in _MEANINGS})


def subject(record: Record) -> str:
    """Where `record` is published."""
    feed = feed_of(record)
    kind = GAP if isinstance(record, Gap) else _kind(feed)
    return f"{_place(feed.instrument)[0]}.{kind}"


def message_id(record: Record) -> str:
    """The id of the message that holds `record` alone."""
    feed = feed_of(record)
    start = _place(feed.instrument)[1]
    if isinstance(record, Gap):
        return f"{start}/{GAP}/{_kind(feed)}/{_span(record)}-{record.state}"
    return f"{start}/{_kind(feed)}/{_state(record)}"


def batch_id(trades: Sequence[Trade]) -> str:
    """The id of a message with `trades`, whose sequences have no hole: first and last say which they are."""
    first, last = trades[0].sequence, trades[-1].sequence
    assert last - first == len(trades) - 1, "a batch has no hole: otherwise two contents would share an id"
    return f"{_place(trades[0].instrument)[1]}/{DataType.TRADE}/{first}-{last}"


def headers(schema: str, instrument: Instrument, timestamp_ms: int) -> Headers:
    """The headers of a message: form and version of its body, market, time of the exchange (ms)."""
    return ((SCHEMA_HEADER, schema), (MARKET_HEADER, instrument.market), (TIME_HEADER, str(timestamp_ms)))


@lru_cache(NAMES_KEPT)
def _place(instrument: Instrument) -> tuple[str, str]:
    exchange, symbol = instrument.exchange.translate(_ESCAPES), instrument.symbol.translate(_ESCAPES)
    return f"{ROOT}.{exchange}.{symbol}", f"{exchange}/{instrument.market}/{symbol}"


def _kind(feed: Feed) -> str:
    return f"{feed.data_type}.{feed.interval}" if feed.interval else str(feed.data_type)


def _span(gap: Gap) -> str:
    if gap.from_sequence is None or gap.to_sequence is None:
        return f"{gap.from_ms}ms-{gap.to_ms}ms"
    return f"{gap.from_sequence}-{gap.to_sequence}"


def _state(record: Trade | BookSnapshot | BookDelta | Ticker | FundingRate | OpenInterest | KlineRecord) -> str:
    match record:
        case Trade():
            return str(record.sequence)
        case BookSnapshot() | BookDelta():
            return f"{record.epoch}-{record.sequence}"
        case FundingRate(is_final=True):
            return f"{record.funding_ms}-final"
        case KlineRecord(is_final=True):
            return f"{record.open_ms}-final"
        case FundingRate():
            return f"{record.funding_ms}-{_hash(record.rate, record.timestamp_ms)}"
        case KlineRecord():
            prices = (record.open, record.high, record.low, record.close)
            return f"{record.open_ms}-{_hash(*prices, record.volume, record.timestamp_ms)}"
        case OpenInterest():
            return f"{record.timestamp_ms}-{_hash(record.amount, record.quantity)}"
        case Ticker():
            fields = (getattr(record, name) for name in _TICKER_STATE)
            return f"{record.timestamp_ms}-{_hash(*fields)}"


_TICKER_STATE: Final = tuple(
    name for name in Ticker.__struct_fields__ if name not in {"instrument", "timestamp_ms", "received_ms"}
)


def _hash(*fields: str | int | None) -> str:
    return xxh3_64_hexdigest(repr(fields).encode())
