"""What is worth noticing about the collector, as facts; like those of app/events.py, which has the others."""

import logging
from dataclasses import dataclass
from typing import Final, Self

from app.domain.records import Gap
from app.events import Event
from app.metric import Counter


@dataclass(frozen=True, slots=True)
class GapAnnounced(Event):
    """What cannot be proven contiguous was announced on the stream: `open`, `closed`, `confirmed` or `abandoned`."""

    LEVEL = logging.WARNING
    METRICS = (
        Counter(
            "klinenode_collect_gaps_total",
            "Gaps announced on the stream, by exchange, type and state.",
            labels={"exchange": "exchange", "type": "type", "state": "state"},
        ),
    )

    exchange: str
    symbol: str
    market: str
    type: str
    state: str
    reason: str
    from_ms: int
    to_ms: int
    from_sequence: int | None
    to_sequence: int | None

    @classmethod
    def of(cls, gap: Gap) -> Self:
        """The event of a record that announces a gap."""
        instrument, data_type, interval = gap.feed
        return cls(
            instrument.exchange,
            instrument.symbol,
            instrument.market,
            f"{data_type}.{interval}" if interval else data_type,
            gap.state,
            gap.reason,
            gap.from_ms,
            gap.to_ms,
            gap.from_sequence,
            gap.to_sequence,
        )


@dataclass(frozen=True, slots=True)
class VenueSocketLost(Event):
    """A socket of an exchange was lost, or could not be opened; another is opened after a pause."""

    LEVEL = logging.WARNING

    exchange: str
    route: str
    reason: str
    """What the library or the exchange said."""


@dataclass(frozen=True, slots=True)
class BookUnequal(Event):
    """A held book differed from a fresh snapshot of the exchange: it begins again, and a gap says since when."""

    LEVEL = logging.ERROR
    METRICS = (
        Counter(
            "klinenode_collect_books_unequal_total",
            "Held books that differed from a fresh snapshot, by exchange.",
            labels={"exchange": "exchange"},
        ),
    )

    exchange: str
    symbol: str
    market: str
    levels: int
    """Levels compared."""
    equal: int


@dataclass(frozen=True, slots=True)
class FeedsChanged(Event):
    """Feeds of an exchange are followed, or no longer, from now on; of long lists the first are named."""

    exchange: str
    symbol: str
    """The symbols concerned, parted by commas."""
    added: tuple[str, ...]
    removed: tuple[str, ...]
    followed: int


@dataclass(frozen=True, slots=True)
class CollectorFaultBegan(Event):
    """Something is wrong with the collector or one exchange; `/v1/health` has the same sentence while it lasts."""

    LEVEL = logging.WARNING
    METRICS = (
        Counter(
            "klinenode_collect_faults_total",
            "Faults of the collector that began, by exchange (stream: of NATS).",
            labels={"exchange": "exchange"},
        ),
    )

    exchange: str
    fault: str


@dataclass(frozen=True, slots=True)
class CollectorFaultEnded(Event):
    """What was wrong with the collector is over."""

    exchange: str
    fault: str
    lasted_ms: int


@dataclass(frozen=True, slots=True)
class CollectConfigRead(Event):
    """What is to be collected was read again from `.env` and the file of COLLECT_CONFIG, and is in force.

    `feeds` counts what is named there, whether the exchanges list it or not.
    """

    exchanges: tuple[str, ...]
    feeds: int


@dataclass(frozen=True, slots=True)
class CollectConfigRefused(Event):
    """`.env` or the file of COLLECT_CONFIG cannot be used as it is now; everything stays as it was."""

    LEVEL = logging.ERROR

    reason: str


@dataclass(frozen=True, slots=True)
class RestartNeeded(Event):
    """These settings have changed and are taken over at a start only; until then the former values are in force."""

    LEVEL = logging.WARNING

    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SpillingBegan(Event):
    """The stream does not take records: what must be kept goes to the disk from now on."""

    LEVEL = logging.WARNING

    reason: str


@dataclass(frozen=True, slots=True)
class SpillingEnded(Event):
    """Everything that went to the disk is in the stream."""


@dataclass(frozen=True, slots=True)
class SpillDamaged(Event):
    """Bytes of the spill cannot be read; records that lay there are lost, and the sentence says which file."""

    LEVEL = logging.ERROR

    damage: str


@dataclass(frozen=True, slots=True)
class RecordsRefused(Event):
    """Records that must be kept could neither be stored nor spilled: they are missing, and are fetched again."""

    LEVEL = logging.ERROR

    records: int
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerNotWritten(Event):
    """The collector's ledger could not be written: after a restart more is fetched and published again."""

    LEVEL = logging.ERROR

    reason: str


COLLECTOR_EVENTS: Final = tuple(
    kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
)
"""Every class of events of this module."""
