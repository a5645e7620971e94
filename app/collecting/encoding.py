"""The bodies of messages: JSON of one record, or of a batch of trades, with numbers as the exchange printed them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from app.collecting.naming import batch_id, headers, message_id, subject
from app.domain.instrument import Instrument
from app.domain.records import (
    BookDelta,
    BookSnapshot,
    FundingRate,
    Gap,
    KlineRecord,
    OpenInterest,
    Record,
    Ticker,
    Trade,
    feed_of,
)
from app.ports.publishing import Message

VERSION: Final = 1
"""The version of every body's form; it grows when a field changes its meaning or goes."""
BATCH_SCHEMA: Final = f"trades/{VERSION}"
TRADE_COLUMNS: Final = (
    "sequence",
    "trade_id",
    "price",
    "quantity",
    "amount",
    "timestamp_ms",
    "received_ms",
    "is_buyer_maker",
)
"""What the elements of a row in a batch are, in their order."""
SECONDS_KEPT: Final = 1_024
"""Printed seconds kept in memory: records of one moment share it, and printing takes longer than all the rest."""

_SCHEMAS: Final = {
    Trade: f"trade/{VERSION}",
    BookSnapshot: f"orderbook_snapshot/{VERSION}",
    BookDelta: f"orderbook_delta/{VERSION}",
    Ticker: f"ticker/{VERSION}",
    FundingRate: f"funding_rate/{VERSION}",
    OpenInterest: f"open_interest/{VERSION}",
    KlineRecord: f"kline/{VERSION}",
    Gap: f"gap/{VERSION}",
}
_SECOND: Final = "%Y-%m-%dT%H:%M:%S"
_encode: Final = msgspec.json.Encoder().encode


def iso(time_ms: int) -> str:
    """A time (ms since the epoch) in ISO 8601, UTC; with milliseconds when it has some."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z" if ms else f"{_second(seconds)}Z"


@lru_cache(SECONDS_KEPT)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(_SECOND)


def message(record: Record) -> Message:
    """The message that holds `record` alone."""
    instrument = feed_of(record).instrument
    time_ms = record.to_ms if isinstance(record, Gap) else record.timestamp_ms
    schema = _SCHEMAS[type(record)]
    body = _encode(_common(instrument) | _fields(record))
    return Message(subject(record), body, message_id(record), headers(schema, instrument, time_ms))


def batch_message(trades: Sequence[Trade]) -> Message:
    """The message that holds `trades` of one instrument, ascending and without a hole in their sequences."""
    instrument = trades[0].instrument
    rows = [
        (
            each.sequence,
            each.trade_id,
            each.price,
            each.quantity,
            each.amount,
            each.timestamp_ms,
            each.received_ms,
            each.is_buyer_maker,
        )
        for each in trades
    ]
    fields = {"schema": BATCH_SCHEMA, **_common(instrument), "amount_unit": instrument.unit, "trades": rows}
    sent = headers(BATCH_SCHEMA, instrument, trades[-1].timestamp_ms)
    return Message(subject(trades[0]), _encode(fields), batch_id(trades), sent)


def _common(instrument: Instrument) -> dict[str, object]:
    return {
        "exchange_name": instrument.exchange,
        "symbol_name": instrument.native,
        "symbol": instrument.symbol,
        "market": instrument.market,
    }


def _fields(record: Record) -> dict[str, object]:
    match record:
        case Trade():
            return _trade(record)
        case BookSnapshot() | BookDelta():
            return _book(record)
        case KlineRecord():
            return _kline(record)
        case Ticker():
            return _rest(record) | _times(record.timestamp_ms, record.received_ms)
        case FundingRate():
            times = _times(record.timestamp_ms, record.received_ms)
            return {"rate": record.rate, "funding_time": iso(record.funding_ms), "is_final": record.is_final} | times
        case OpenInterest():
            unit = record.instrument.unit
            return _rest(record) | {"amount_unit": unit} | _times(record.timestamp_ms, record.received_ms)
        case Gap():
            return _gap(record)


def _times(timestamp_ms: int, received_ms: int) -> dict[str, object]:
    return {"timestamp": iso(timestamp_ms), "received": iso(received_ms)}


def _trade(trade: Trade) -> dict[str, object]:
    return {
        "trade_id": trade.trade_id,
        "price": trade.price,
        "quantity": trade.quantity,
        "timestamp": iso(trade.timestamp_ms),
        "is_buyer_maker": trade.is_buyer_maker,
        "sequence": trade.sequence,
        "amount": trade.amount,
        "amount_unit": trade.instrument.unit,
        "received": iso(trade.received_ms),
    }


def _book(book: BookSnapshot | BookDelta) -> dict[str, object]:
    return {
        "timestamp": iso(book.timestamp_ms),
        "bids": _levels(book.instrument, book.bids),
        "asks": _levels(book.instrument, book.asks),
        "is_snapshot": isinstance(book, BookSnapshot),
        "epoch": book.epoch,
        "sequence": book.sequence,
        "native_sequence": book.native_sequence,
        "amount_unit": book.instrument.unit,
        "received": iso(book.received_ms),
    }


def _levels(instrument: Instrument, levels: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    quantity = instrument.quantity
    return [{"price": price, "quantity": quantity(amount, price), "amount": amount} for price, amount in levels]


def _kline(kline: KlineRecord) -> dict[str, object]:
    fields = _rest(kline)
    return fields | {"open_time": iso(kline.open_ms)} | _times(kline.timestamp_ms, kline.received_ms)


_LEFT_OUT: Final = {"instrument", "timestamp_ms", "received_ms", "open_ms"}


def _rest(record: Ticker | OpenInterest | KlineRecord) -> dict[str, object]:
    names = (name for name in record.__struct_fields__ if name not in _LEFT_OUT)
    return {name: value for name in names if (value := getattr(record, name)) is not None}


def _gap(gap: Gap) -> dict[str, object]:
    sequences = {"from_sequence": gap.from_sequence, "to_sequence": gap.to_sequence}
    return {
        "data_type": gap.feed.data_type,
        **({"interval": gap.feed.interval} if gap.feed.interval else {}),
        "state": gap.state,
        "reason": gap.reason,
        "from": iso(gap.from_ms),
        "to": iso(gap.to_ms),
        **{name: value for name, value in sequences.items() if value is not None},
        "received": iso(gap.received_ms),
    }
