"""Metrics that are read when they are scraped: of pages, tails, queues, files, weight and freshness."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from app.holding import close_lag
from app.http import direct
from app.metric import IS_WRITER, Counter, Gauge, Histogram, Merge, Metric
from app.node.parts import Parts
from app.ports.exchange import Priority

_NUMBERS: Final[tuple[tuple[Counter | Gauge, Callable[[Parts], float]], ...]] = (
    (Counter("klinenode_page_cache_hits", "Klines answers from the page cache."), lambda node: node.pages.hits),
    (
        Counter("klinenode_pages_read_ahead", "Pages of history that were read before they were asked for."),
        lambda node: node.gatherer.read_ahead.taken,
    ),
    (Counter("klinenode_page_cache_misses", "Klines answers that were rendered."), lambda node: node.pages.misses),
    (Counter("klinenode_page_cache_not_modified", "Hits answered with 304."), lambda node: node.pages.not_modified),
    (Gauge("klinenode_page_cache_bytes", "Bytes of rendered answers."), lambda node: node.pages.bytes),
    (Gauge("klinenode_page_cache_entries", "Rendered answers kept."), lambda node: node.pages.entries),
    (
        Counter("klinenode_shared_cache_hits", "Runs of klines that another node had read, from CACHE_URL."),
        lambda node: node.shared_rows.hits,
    ),
    (
        Counter("klinenode_shared_cache_misses", "Runs of klines that were not in CACHE_URL, or were outdated."),
        lambda node: node.shared_rows.misses,
    ),
    (
        Counter("klinenode_shared_cache_errors", "Commands and connections of CACHE_URL that failed."),
        lambda node: node.cache.errors,
    ),
    (Gauge("klinenode_shared_cache_usable", "1 while CACHE_URL answers."), lambda node: float(node.cache.is_usable)),
    (Counter("klinenode_market_pages_hits", "Market data answers from memory."), lambda node: node.market_pages.hits),
    (
        Counter("klinenode_market_pages_misses", "Market data answers that were fetched."),
        lambda node: node.market_pages.misses,
    ),
    (Gauge("klinenode_market_pages_bytes", "Bytes of market data answers."), lambda node: node.market_pages.bytes),
    (
        Gauge("klinenode_write_queue_depth", "Closed klines that wait to be written."),
        lambda node: node.role.write_queue_depth,
    ),
    (
        Gauge("klinenode_intake_queue_depth", "Socket events that wait to be taken in."),
        lambda node: node.role.intake_depth,
    ),
    (Gauge("klinenode_tail_rows", "Newest klines kept encoded in memory."), lambda node: node.tail.rows),
    (
        Gauge("klinenode_upstream_weight_booked", "REST weight booked this minute by us.", merge=Merge.LARGEST),
        lambda node: node.budget.used,
    ),
    (
        Gauge("klinenode_stand_down_until_seconds", "End of the last stand-down, Unix time.", merge=Merge.LARGEST),
        lambda node: node.guard.until_ms / 1000,
    ),
    (
        Gauge("klinenode_exchange_silent", "1 while only probes are sent.", merge=Merge.LARGEST),
        lambda node: float(node.budget.is_silent),
    ),
    (Gauge("klinenode_stream_clients", "Socket clients connected."), lambda node: len(node.stream_server.clients)),
    (
        Gauge("klinenode_stream_streams", "Different streams that socket clients want."),
        lambda node: node.stream_server.streams,
    ),
    (
        Gauge("klinenode_stream_subscribed", "Streams subscribed upstream, lingering ones too.", merge=Merge.WRITER),
        lambda node: node.hub.streams,
    ),
    (
        Gauge("klinenode_stream_waiting_bytes", "Bytes that wait for slow socket clients."),
        lambda node: node.stream_server.waiting_bytes,
    ),
    (
        Counter("klinenode_stream_frames_sent", "Events sent to socket clients."),
        lambda node: node.stream_server.frames_out,
    ),
    (
        Counter("klinenode_stream_frames_conflated", "Events replaced by newer ones unsent."),
        lambda node: node.stream_server.conflated,
    ),
    (
        Counter("klinenode_stream_clients_cut", "Socket clients cut for being too slow."),
        lambda node: node.stream_server.cut_total,
    ),
    (Gauge("klinenode_connections", "HTTP connections open."), lambda node: len(node.connections)),
    (
        Counter("klinenode_connections_made_way", "Idle connections closed for newer ones."),
        lambda node: node.connections.made_way,
    ),
    (
        Counter("klinenode_connections_overdue", "Connections ended for being too slow."),
        lambda node: node.connections.overdue,
    ),
    (
        Gauge("klinenode_ready", "1 while /v1/ready answers 200.", merge=Merge.SMALLEST),
        lambda node: float(node.health.ready()[0]),
    ),
    (
        Gauge("klinenode_store_failing", "1 while the database takes no writes.", merge=Merge.LARGEST),
        lambda node: float(node.store_state.error is not None),
    ),
    (
        Gauge("klinenode_exports_running", "Files that are being made for /v1/export."),
        lambda node: node.exports.running,
    ),
    (Gauge("klinenode_export_series", "Series of the export under way."), lambda node: node.exports.series),
    (Gauge("klinenode_export_rows_due", "Rows asked of the export under way."), lambda node: node.exports.rows_due),
    (
        Gauge("klinenode_export_rows_written", "Rows that the export under way has written."),
        lambda node: node.exports.rows_written,
    ),
    (IS_WRITER, lambda node: float(node.role.is_writer)),
)

_Lines = Iterable[tuple[dict[str, str], float]]

_LABELLED: Final[tuple[tuple[Counter | Gauge, Callable[[Parts], _Lines]], ...]] = (
    (
        Gauge("klinenode_database_bytes", "Size of the database file, if it is one.", merge=Merge.LARGEST),
        lambda node: _of_file(node, _size_bytes),
    ),
    (
        Gauge(
            "klinenode_wal_bytes",
            "Size of the database file's write-ahead log; it grows while a reader keeps a transaction open.",
            merge=Merge.LARGEST,
        ),
        lambda node: _of_file(node, lambda file: _size_bytes(file.with_name(f"{file.name}-wal"))),
    ),
    (
        Gauge("klinenode_disk_free_bytes", "Free disk where the database file lies.", merge=Merge.SMALLEST),
        lambda node: [] if (free_bytes := node.disk_free_bytes()) is None else [({}, free_bytes)],
    ),
    (
        Gauge("klinenode_upstream_weight_ceiling", "Weight a minute up to which requests leave.", merge=Merge.LARGEST),
        lambda node: _by_priority(node.budget.ceiling),
    ),
    (
        Gauge("klinenode_upstream_waiting", "Requests that wait for weight."),
        lambda node: _by_priority(node.budget.waiting),
    ),
    (
        Counter("klinenode_requests_refused", "Requests refused before any route saw them."),
        lambda node: [({"status": str(each)}, n) for each, n in sorted(node.connections.refused_total.items())],
    ),
    (
        Counter("klinenode_api_key_requests_total", "Requests and handshakes that were admitted, by API key."),
        lambda node: [] if node.gate is None else node.gate.samples(),
    ),
    (
        Counter("klinenode_api_key_refusals_total", "Requests and handshakes refused for their API key, by reason."),
        lambda node: [] if node.gate is None else node.gate.refusals(),
    ),
    (
        Gauge(
            "klinenode_tail_lag_seconds",
            "Age of the newest held kline, worst symbol, by interval.",
            merge=Merge.LARGEST,
        ),
        lambda node: node.coverage.tail_lags(),
    ),
    (
        Gauge(
            "klinenode_gathered_age_seconds",
            "Age of the newest held row of the symbols, by kind of metrics and share of the symbols.",
            merge=Merge.LARGEST,
        ),
        lambda node: node.coverage.gathered_ages(),
    ),
)

_Histograms = Iterable[tuple[dict[str, str], Sequence[int], float]]

_HISTOGRAMS: Final[tuple[tuple[Histogram, Callable[[Parts], _Histograms]], ...]] = (
    (
        Histogram(
            "klinenode_klines_answer_seconds",
            "Time to answer klines requests that no page was there for.",
            bounds=direct.BOUNDS_S,
        ),
        lambda node: [({}, node.timings.counts, node.timings.total_s)],
    ),
    (
        Histogram(
            "klinenode_close_lag_seconds",
            "From a kline's close at the exchange until it can be served, by interval, whatever brought it.",
            bounds=close_lag.BOUNDS_S,
        ),
        lambda node: node.close_lag.histograms(),
    ),
)

METRICS: Final[tuple[Metric, ...]] = tuple(declared for declared, _ in (*_NUMBERS, *_LABELLED, *_HISTOGRAMS))
"""All declared metrics of this module."""


def sample_metrics(node: Parts) -> None:
    """Register METRICS with the node's telemetry, to be read at each scrape."""
    for declared, number in _NUMBERS:
        node.telemetry.sample(declared, partial(_line, number, node))
    for declared, lines in _LABELLED:
        node.telemetry.sample(declared, partial(lines, node))
    for histogram, read in _HISTOGRAMS:
        node.telemetry.sample_histogram(histogram, partial(read, node))


def _line(read: Callable[[Parts], float], node: Parts) -> _Lines:
    return [({}, read(node))]


def _of_file(node: Parts, size: Callable[[Path], int]) -> _Lines:
    return [] if node.database is None else [({}, size(node.database))]


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # no file yet, or not readable; health reports it


def _by_priority(read: Callable[[Priority], int]) -> _Lines:
    return [({"priority": priority.name.lower()}, read(priority)) for priority in Priority]
