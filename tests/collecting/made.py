"""Trades, klines, frames and answers by hand, for tests of one feed's rules."""

from random import Random
from typing import Final

import msgspec

from app.collecting.effects import Effect, Emit
from app.collecting.feed_rules import FeedRules
from app.collecting.outlet import Outlet
from app.domain.market_events import BookUpdate, Trades
from app.domain.records import DataType, Feed, Gap, Level, Record, Trade
from app.domain.venue import Request
from tests.collecting.model_venue import INSTRUMENTS, ModelVenue

BTC: Final = INSTRUMENTS[0]
SECOND: Final = 1_000


def venue(*, is_streamed: bool = False, has_final_flag: bool = True) -> ModelVenue:
    made = ModelVenue(is_streamed, has_final_flag)
    made.learn(INSTRUMENTS)
    return made


def feed(data_type: DataType) -> Feed:
    return Feed(BTC, data_type, "1m" if data_type is DataType.KLINE else "")


def chance() -> Random:
    return Random(1)


def trade(sequence: int, time_ms: int | None = None) -> Trade:
    time_ms = sequence * 100 if time_ms is None else time_ms
    return Trade(BTC, sequence, str(sequence), "10.5", "1", "1", time_ms, time_ms, False)


def trades(*sequences: int) -> Trades:
    return Trades(BTC, [trade(sequence) for sequence in sequences])


def trades_body(*sequences: int) -> bytes:
    rows = [[each, str(each), "10.5", "1", each * 100] for each in sequences]
    return msgspec.json.encode({"kind": "trades", "rows": rows})


def update(last: int, previous: int | None, bids: str = "", asks: str = "", *, is_snapshot: bool = False) -> BookUpdate:
    """A frame of a book; levels as "price:amount price:amount"."""
    return BookUpdate(
        BTC, is_snapshot, (previous or last) + 1, last, previous, levels(bids), levels(asks), last * 10, last * 10
    )


def levels(text: str) -> list[Level]:
    return [Level(*level.split(":")) for level in text.split()]


def snapshot_body(last: int, bids: str, asks: str) -> bytes:
    value = {"kind": "book", "native": BTC.native, "snapshot": True, "first": last, "last": last, "previous": None}
    return msgspec.json.encode(value | {"bids": levels(bids), "asks": levels(asks), "t": last * 10})


def records(outlet: Outlet) -> list[Record]:
    return emitted(outlet.take())


def emitted(effects: list[Effect]) -> list[Record]:
    return [effect.record for effect in effects if isinstance(effect, Emit)]


def shown(some: list[Record]) -> list[object]:
    """Records in short: sequences of trades, and state, reason and sequences of gaps."""
    return [
        (record.state.value, record.reason, record.from_sequence, record.to_sequence)
        if isinstance(record, Gap)
        else record.sequence
        if isinstance(record, Trade)
        else record
        for record in some
    ]


def ask(rules: FeedRules, now_ms: int) -> Request:
    """Let the feed send what it wants, which must be something."""
    rules.tick(now_ms)
    request = rules.wanted(now_ms)
    assert request is not None, f"nothing is wanted at {now_ms}"
    rules.sent(now_ms)
    return request
