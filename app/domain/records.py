"""The records of the collector's stream: what happened on an exchange, in its own digits (times in ms since the epoch).

`timestamp_ms` is the exchange's time, `received_ms` ours. Prices, quantities and rates are decimal text. `quantity` and
`volume` are base coins; `amount` is what the exchange printed, in units of `instrument.unit`.
"""

from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import msgspec

from app.domain.followed import DataType as DataType
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument, Market


class Feed(NamedTuple):
    """One followed stream of records; `interval` is "" for all but klines."""

    instrument: Instrument
    data_type: DataType
    interval: str = ""

    @property
    def is_possible(self) -> bool:
        """Whether its kind of market has such data: funding is paid on swaps alone, and a spot market is never open."""
        market = self.instrument.market
        if self.data_type is DataType.FUNDING_RATE:
            return market is Market.SWAP
        return self.data_type is not DataType.OPEN_INTEREST or market is not Market.SPOT


class Level(NamedTuple):
    """A price and the amount that stands there, both as the exchange printed them; an amount of zero: none stands.

    Books have plain pairs of the same order, which are made in a fourth of the time.
    """

    price: str
    amount: str


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade. `sequence` counts the instrument's trades without a hole; it is what proves completeness."""

    instrument: Instrument
    sequence: int
    trade_id: str
    price: str
    quantity: str
    amount: str
    timestamp_ms: int
    received_ms: int
    is_buyer_maker: bool


class BookSnapshot(msgspec.Struct, frozen=True, gc=False):
    """A whole book, to the depth that is known; it replaces whatever a reader held.

    `sequence` is the collector's own: it grows by one with each record of the book within an `epoch`.
    Bids are descending, asks ascending.
    """

    instrument: Instrument
    epoch: int
    sequence: int
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    native_sequence: int
    timestamp_ms: int
    received_ms: int


class BookDelta(msgspec.Struct, frozen=True, gc=False):
    """Exactly what changed in the held book since the record with `sequence` − 1; an amount "0" deletes a level."""

    instrument: Instrument
    epoch: int
    sequence: int
    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]
    native_sequence: int
    timestamp_ms: int
    received_ms: int


class Ticker(msgspec.Struct, frozen=True, gc=False):
    """The state of a market; a field the exchange does not give is None. Volume is of 24 h, in base coins."""

    instrument: Instrument
    timestamp_ms: int
    received_ms: int
    last_price: str | None = None
    best_bid_price: str | None = None
    best_bid_quantity: str | None = None
    best_ask_price: str | None = None
    best_ask_quantity: str | None = None
    high_price: str | None = None
    low_price: str | None = None
    volume: str | None = None
    mark_price: str | None = None
    index_price: str | None = None


class FundingRate(msgspec.Struct, frozen=True, gc=False):
    """A funding rate; `is_final` once it was paid at `funding_ms`, until then it is the exchange's forecast."""

    instrument: Instrument
    rate: str
    funding_ms: int
    timestamp_ms: int
    received_ms: int
    is_final: bool


class OpenInterest(msgspec.Struct, frozen=True, gc=False):
    """The contracts that are open, in coins and in the exchange's own unit."""

    instrument: Instrument
    quantity: str
    amount: str
    timestamp_ms: int
    received_ms: int


class KlineRecord(msgspec.Struct, frozen=True, gc=False):
    """A kline of the exchange's own making; `volume` in base coins. Fields it does not give are None."""

    instrument: Instrument
    interval: str
    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    is_final: bool
    timestamp_ms: int
    received_ms: int
    quote_volume: str | None = None
    trades: int | None = None


class GapState(StrEnum):
    """What is known of a gap: it exists; it was filled; what is missing is lost; nobody fetches it at present.

    An abandoned gap is that of a feed which is followed no longer. Followed again, it is open again, and is fetched.
    """

    OPEN = "open"
    CLOSED = "closed"
    CONFIRMED = "confirmed"
    ABANDONED = "abandoned"


class Gap(msgspec.Struct, frozen=True, gc=False):
    """What cannot be proven contiguous: half-open spans of sequence (where the feed has one) and of time.

    Sequences: of trades the exchange's, of klines the open time divided by the interval, of books the collector's own.
    """

    feed: Feed
    state: GapState
    reason: GapReason
    from_ms: int
    to_ms: int
    received_ms: int
    from_sequence: int | None = None
    to_sequence: int | None = None


Record: TypeAlias = Trade | BookSnapshot | BookDelta | Ticker | FundingRate | OpenInterest | KlineRecord | Gap

_TYPES: Final[dict[type, DataType]] = {
    Trade: DataType.TRADE,
    BookSnapshot: DataType.ORDERBOOK,
    BookDelta: DataType.ORDERBOOK,
    Ticker: DataType.TICKER,
    FundingRate: DataType.FUNDING_RATE,
    OpenInterest: DataType.OPEN_INTEREST,
}


def feed_of(record: Record) -> Feed:
    """The feed that a record belongs to; of a gap, the feed that has it."""
    if isinstance(record, Gap):
        return record.feed
    if isinstance(record, KlineRecord):
        return Feed(record.instrument, DataType.KLINE, record.interval)
    return Feed(record.instrument, _TYPES[type(record)])
