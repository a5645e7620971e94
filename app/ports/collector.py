"""The running collector as its routes, its metrics and its wish need it: what it may follow, and how it is."""

from collections.abc import Collection
from typing import Final, Protocol

import msgspec

from app.domain.instrument import Instrument
from app.domain.records import Feed

LAG_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0)
"""Bounds of the lag histograms: records are stored within tens of ms, and minutes late after an outage."""


class TypeStats(msgspec.Struct, frozen=True):
    """Of one exchange and one type of data (`trade`, `kline.1m`, …); the counts are since the start of the process."""

    feeds: int = 0
    """Feeds followed now."""
    processed: int = 0
    """Records made of the exchange's messages and answers."""
    published: int = 0
    """Records that the stream has acknowledged; those that wait or were spilled are not among them."""
    errors: int = 0
    """Messages that could not be read, refused subscriptions, records that were dropped."""
    gaps_open: int = 0


class Lag(msgspec.Struct, frozen=True):
    """How long after the exchange's own time records were stored; empty `counts`: none was."""

    counts: tuple[int, ...] = ()
    """Of records between the bounds of LAG_BOUNDS_S, the last one beyond all of them."""
    total_s: float = 0.0
    p50_ms: int | None = None
    """Of the newest records."""
    p99_ms: int | None = None


class ExchangeStats(msgspec.Struct, frozen=True):
    """The state of one exchange."""

    state: str
    """`following`; `connecting`: something that is followed has no socket yet; `away`: no socket at all; `idle`."""
    sockets_active: int
    types: dict[str, TypeStats]
    books_followed: int = 0
    books_valid: int = 0
    lag: Lag = msgspec.field(default_factory=Lag)
    faults: tuple[str, ...] = ()
    """What is wrong at the moment, one sentence each, the newest first; a past fault is not among them."""
    levels_compared: int = 0
    """Levels of books that were compared with a fresh snapshot, each book's newest comparison counted."""
    levels_equal: int = 0


class OutboxStats(msgspec.Struct, frozen=True):
    """What waits to be stored by the stream."""

    waiting: int = 0
    """Records in memory."""
    spilled_bytes: int = 0
    """Bytes of records that wait on disk."""
    spill_used: float = 0.0
    """The share of its bytes that the fuller one of the spills holds; at 1 it refuses records."""
    fault: str | None = None
    """What is wrong with the stream, and what to do about it."""


class CollectorStatus(msgspec.Struct, frozen=True):
    """The state of the collector."""

    started_ms: int
    exchanges: dict[str, ExchangeStats]
    outbox: OutboxStats


class CollectorControl(Protocol):
    """A running collector. An exchange that is none of `exchanges` raises LookupError."""

    def exchanges(self) -> tuple[str, ...]:
        """The names of the exchanges that it follows."""
        ...

    def instruments(self, exchange: str) -> Collection[Instrument]:
        """What the exchange lists and can be followed; the same object until it is read again, empty before."""
        ...

    def offers(self, feed: Feed) -> bool:
        """Whether the exchange has such a feed, by a channel or by requests."""
        ...

    def follow(self, exchange: str, feeds: frozenset[Feed]) -> None:
        """Follow exactly these feeds of the exchange from now on; those that it followed before go on as they are."""
        ...

    def followed(self, exchange: str) -> frozenset[Feed]:
        """The feeds that are followed now."""
        ...

    def status(self) -> CollectorStatus:
        """How everything is. Cheap: it is asked for every second."""
        ...

    def stats(self, exchange: str) -> ExchangeStats:
        """How one exchange is."""
        ...
