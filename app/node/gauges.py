"""Metrics that are read when they are scraped: of pages, tails, queues, files, weight and freshness."""

from collections.abc import Callable
from pathlib import Path

from app.holding.close_lag import BOUNDS_S
from app.http import direct
from app.node.parts import Parts
from app.ports.exchange import Priority
from infra.telemetry import Sample


def sample_metrics(node: Parts) -> None:
    """Add them to the node's telemetry."""

    def gauge(name: str, documentation: str, read: Callable[[], float]) -> None:
        node.telemetry.sample(name, documentation, lambda: [({}, read())])

    gauge("klinenode_page_cache_hits", "Klines answers from the page cache.", lambda: node.pages.hits)
    gauge(
        "klinenode_pages_read_ahead",
        "Pages of history that were read before they were asked for.",
        lambda: node.query.read_ahead.taken,
    )
    gauge("klinenode_page_cache_misses", "Klines answers that were rendered.", lambda: node.pages.misses)
    gauge("klinenode_page_cache_not_modified", "Hits answered with 304.", lambda: node.pages.not_modified)
    gauge("klinenode_page_cache_bytes", "Bytes of rendered answers.", lambda: node.pages.bytes)
    gauge("klinenode_page_cache_entries", "Rendered answers kept.", lambda: node.pages.entries)
    gauge("klinenode_market_pages_hits", "Market data answers from memory.", lambda: node.market_pages.hits)
    gauge("klinenode_market_pages_misses", "Market data answers that were fetched.", lambda: node.market_pages.misses)
    gauge("klinenode_market_pages_bytes", "Bytes of market data answers.", lambda: node.market_pages.bytes)
    gauge("klinenode_write_queue_depth", "Closed klines that wait to be written.", lambda: node.role.write_queue_depth)
    gauge(
        "klinenode_intake_queue_depth",
        "Socket events that wait to be taken in.",
        lambda: node.role.intake_depth,
    )
    gauge("klinenode_database_bytes", "Size of the database file.", lambda: _size_bytes(node.database))
    gauge(
        "klinenode_wal_bytes",
        "Size of the database's write-ahead log; it grows while a reader keeps a transaction open.",
        lambda: _size_bytes(node.database.with_name(f"{node.database.name}-wal")),
    )
    gauge("klinenode_disk_free_bytes", "Free disk where the database lies.", node.disk_free_bytes)
    gauge("klinenode_tail_rows", "Newest klines kept encoded in memory.", lambda: node.tail.rows)
    gauge("klinenode_upstream_weight_booked", "REST weight booked this minute by us.", lambda: node.budget.used)
    gauge(
        "klinenode_stand_down_until_seconds",
        "End of the last stand-down, Unix time.",
        lambda: node.guard.until_ms / 1000,
    )
    gauge("klinenode_exchange_silent", "1 while only probes are sent.", lambda: float(node.budget.is_silent))
    for name, documentation, read in (
        ("klinenode_upstream_weight_ceiling", "Weight a minute up to which requests leave.", node.budget.ceiling),
        ("klinenode_upstream_waiting", "Requests that wait for weight.", node.budget.waiting),
    ):
        node.telemetry.sample(name, documentation, _by_priority(read))
    served = node.stream_server
    gauge("klinenode_stream_clients", "Socket clients connected.", lambda: len(served.clients))
    gauge("klinenode_stream_streams", "Different streams that socket clients want.", lambda: served.streams)
    gauge("klinenode_stream_subscribed", "Streams subscribed upstream, lingering ones too.", lambda: node.hub.streams)
    gauge("klinenode_stream_waiting_bytes", "Bytes that wait for slow socket clients.", lambda: served.waiting_bytes)
    gauge("klinenode_stream_frames_sent", "Events sent to socket clients.", lambda: served.frames_out)
    gauge("klinenode_stream_frames_conflated", "Events replaced by newer ones unsent.", lambda: served.conflated)
    gauge("klinenode_stream_clients_cut", "Socket clients cut for being too slow.", lambda: served.cut_total)
    connections = node.connections
    gauge("klinenode_connections", "HTTP connections open.", lambda: len(connections))
    gauge("klinenode_connections_made_way", "Idle connections closed for newer ones.", lambda: connections.made_way)
    gauge("klinenode_connections_overdue", "Connections ended for being too slow.", lambda: connections.overdue)
    node.telemetry.sample(
        "klinenode_requests_refused",
        "Requests refused before any route saw them.",
        lambda: [({"status": str(status)}, count) for status, count in sorted(connections.refused_total.items())],
    )
    gauge("klinenode_is_writer", "1 in the process that ingests.", lambda: float(node.role.is_writer))
    node.telemetry.sample_histogram(
        "klinenode_klines_answer_seconds",
        "Time to answer klines requests that no page was there for.",
        direct.BOUNDS_S,
        lambda: [({}, node.timings.counts, node.timings.total_s)],
    )
    node.telemetry.sample_histogram(
        "klinenode_close_lag_seconds",
        "From a kline's close at the exchange until it can be served, by interval, whatever brought it.",
        BOUNDS_S,
        node.close_lag.histograms,
    )
    node.telemetry.sample(
        "klinenode_tail_lag_seconds",
        "Age of the newest held kline, worst symbol, by interval.",
        node.coverage.tail_lags,
    )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # none yet, or no longer readable; health says so


def _by_priority(read: Callable[[Priority], int]) -> Sample:
    return lambda: [({"priority": priority.name.lower()}, read(priority)) for priority in Priority]
