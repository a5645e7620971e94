"""Metrics of the collector, read when they are scraped; five have the names that monitoring of collectors expects."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

from app.collecting.collector import Collector
from app.metric import Counter, Gauge, Histogram, Metric
from app.ports.collector import LAG_BOUNDS_S, ExchangeStats

CollectorOf = Callable[[], Collector | None]
_Lines = Iterable[tuple[dict[str, str], float]]
_Histograms = Iterable[tuple[dict[str, str], Sequence[int], float]]


class Sampler(Protocol):
    """Where metrics are registered that are read when they are scraped."""

    def sample(self, declared: Counter | Gauge, sample: Callable[[], _Lines]) -> None:
        """Add a metric."""
        ...

    def sample_histogram(self, declared: Histogram, sample: Callable[[], _Histograms]) -> None:
        """Add a histogram."""
        ...


_BY_TYPE: Final[tuple[tuple[Counter | Gauge, str], ...]] = (
    (
        Counter("messages_processed_total", "Records made of the exchanges' messages, by exchange and type."),
        "processed",
    ),
    (Counter("messages_published_total", "Records that NATS has acknowledged, by exchange and type."), "published"),
    (Counter("errors_total", "Unreadable messages, refusals and dropped records, by exchange and type."), "errors"),
    (Gauge("klinenode_collect_feeds", "Feeds followed, by exchange and type."), "feeds"),
    (Gauge("klinenode_collect_gaps_open", "Gaps announced and not closed, by exchange and type."), "gaps_open"),
)
_BY_EXCHANGE: Final[tuple[tuple[Gauge, str], ...]] = (
    (Gauge("exchange_connections_active", "Sockets open, by exchange."), "sockets_active"),
    (Gauge("klinenode_collect_books", "Order books followed, by exchange."), "books_followed"),
    (Gauge("klinenode_collect_books_valid", "Order books proven contiguous, by exchange."), "books_valid"),
)
_LEVELS_EQUAL: Final = Gauge(
    "klinenode_collect_book_levels_equal",
    "Share of the levels of held books that equalled a fresh snapshot when each was last compared, by exchange.",
)
_UPTIME: Final = Gauge("uptime_seconds", "Since the start of the collector.")
_OUTBOX: Final[tuple[tuple[Gauge, str], ...]] = (
    (Gauge("klinenode_collect_waiting", "Records in memory that wait for NATS."), "waiting"),
    (Gauge("klinenode_collect_spilled_bytes", "Bytes of records on disk that wait for NATS."), "spilled_bytes"),
    (
        Gauge("klinenode_collect_spill_used", "Share of its half of SPILL_BYTES_MAX that the fuller spill holds."),
        "spill_used",
    ),
)
_LAG: Final = Histogram(
    "klinenode_collect_lag_seconds", "From the exchange's own time until NATS has stored a record.", bounds=LAG_BOUNDS_S
)

METRICS: Final[tuple[Metric, ...]] = (
    *(declared for declared, _ in _BY_TYPE),
    *(declared for declared, _ in _BY_EXCHANGE),
    *(declared for declared, _ in _OUTBOX),
    _LEVELS_EQUAL,
    _UPTIME,
    _LAG,
)
"""All declared metrics of this module."""


def sample_collector(sampler: Sampler, collector: CollectorOf) -> None:
    """Register METRICS; they have no lines while the process has no collector."""
    for declared, field in _BY_TYPE:
        sampler.sample(declared, partial(_by_type, collector, field))
    for of_exchange, field in _BY_EXCHANGE:
        sampler.sample(of_exchange, partial(_by_exchange, collector, field))
    for of_outbox, field in _OUTBOX:
        sampler.sample(of_outbox, partial(_of_outbox, collector, field))
    sampler.sample(_LEVELS_EQUAL, partial(_levels_equal, collector))
    sampler.sample(_UPTIME, partial(_uptime, collector))
    sampler.sample_histogram(_LAG, partial(_lags, collector))


def _exchanges(collector: CollectorOf) -> Iterable[tuple[str, ExchangeStats]]:
    return () if (found := collector()) is None else found.control.status().exchanges.items()


def _by_type(collector: CollectorOf, field: str) -> _Lines:
    for exchange, stats in _exchanges(collector):
        for name, of_type in stats.types.items():
            yield {"exchange": exchange, "type": name}, getattr(of_type, field)


def _by_exchange(collector: CollectorOf, field: str) -> _Lines:
    for exchange, stats in _exchanges(collector):
        yield {"exchange": exchange}, getattr(stats, field)


def _levels_equal(collector: CollectorOf) -> _Lines:
    for exchange, stats in _exchanges(collector):
        if stats.levels_compared:
            yield {"exchange": exchange}, stats.levels_equal / stats.levels_compared


def _of_outbox(collector: CollectorOf, field: str) -> _Lines:
    return [] if (found := collector()) is None else [({}, getattr(found.control.status().outbox, field))]


def _uptime(collector: CollectorOf) -> _Lines:
    return [] if (found := collector()) is None else [({}, found.health.uptime_s(found.control.status()))]


def _lags(collector: CollectorOf) -> _Histograms:
    for exchange, stats in _exchanges(collector):
        if stats.lag.counts:
            yield {"exchange": exchange}, stats.lag.counts, stats.lag.total_s
