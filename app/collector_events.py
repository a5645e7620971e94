"""What is worth noticing about the collector, as facts; like those of app/events.py, which has the others."""

import logging
from dataclasses import dataclass
from typing import Final, Self

from app.domain.records import Gap
from app.events import Event
from app.metric import Counter


@dataclass(frozen=True, slots=True)
class GapAnnounced(Event):
    """What cannot be proven contiguous was announced on the stream: it is `open`, `closed` or `confirmed` as lost."""

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


COLLECTOR_EVENTS: Final = tuple(
    kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
)
"""Every class of events of this module."""
