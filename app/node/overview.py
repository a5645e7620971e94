"""The overview: what the dashboard's first page shows of a node, made at most once a second."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import groupby, islice
from math import inf
from typing import Final

from app.domain import letters
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.metric import Number
from app.node.parts import Parts
from app.ports.errors import StoreUnavailable
from app.ports.exchange import Priority

MADE_MS: Final = 1_000  # many may watch; what they see need not be newer
WISHES_MAX: Final = 20  # extra wishes listed, by their spans, the newest first
WISHED_SERIES_MAX: Final = 200  # of one wish, compared with the ledger: 10 µs each; its progress is that of these
NUMBERS: Final = {
    "frames": "klinenode_frames_total",
    "frames_closing": "klinenode_closed_frames_total",
    "frames_unusable": "klinenode_garbage_total",
    "rows_written": "klinenode_rows_written_total",
    "rows_revised": "klinenode_rows_revised_total",
    "klines_wished": "klinenode_klines_wished",
    "klines_missing": "klinenode_klines_missing",
    "gaps": "klinenode_gaps",
    "page_hits": "klinenode_page_cache_hits",
    "page_misses": "klinenode_page_cache_misses",
    "market_hits": "klinenode_market_pages_hits",
    "market_misses": "klinenode_market_pages_misses",
    "shared_hits": "klinenode_shared_cache_hits",
    "shared_misses": "klinenode_shared_cache_misses",
    "write_queue": "klinenode_write_queue_depth",
    "intake_queue": "klinenode_intake_queue_depth",
    "tail_rows": "klinenode_tail_rows",
    "connections": "klinenode_connections",
    "stream_clients": "klinenode_stream_clients",
    "database_bytes": "klinenode_database_bytes",
    "wal_bytes": "klinenode_wal_bytes",
    "disk_free_bytes": "klinenode_disk_free_bytes",
    "memory_bytes": "process_resident_memory_bytes",
    "writers": "klinenode_is_writer",
    "requests": "http_requests_total",
    "upstream_requests": "klinenode_upstream_requests_total",
    "answers": "klinenode_klines_answer_seconds_count",
    "disputed": "klinenode_klines_disputed_total",
    "disagreements": "klinenode_exchange_disagreements_total",
    "exports": "klinenode_exports_running",
    "export_series": "klinenode_export_series",
    "export_rows_due": "klinenode_export_rows_due",
    "export_rows_written": "klinenode_export_rows_written",
}
"""By name in the overview: the metric, added up over its labels. Counts are since the node's start."""
CLOSE_LAG: Final = "klinenode_close_lag_seconds_bucket"
NAMED_MAX: Final = 5  # series of a job by name; all are counted
QUANTILES: Final = {"p50_s": 0.5, "p99_s": 0.99}


class NodeOverview:
    """Makes the overview of a process: its own state, and the numbers of all workers together."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._made_ms = 0
        self._report: dict[str, object] = {}

    def report(self) -> dict[str, object]:
        """What GET /v1/overview answers, without slow requests; times in ms."""
        now_ms = self._parts.clock.now_ms()
        if not self._report or not is_fresh(self._made_ms, now_ms, MADE_MS):
            self._made_ms, self._report = now_ms, self._make(now_ms)
        return self._report

    def _make(self, now_ms: int) -> dict[str, object]:
        parts = self._parts
        numbers = parts.telemetry.numbers()
        sums = _sums(numbers)
        return {
            "as_of": now_ms,
            "version": version("klinenode"),
            "health": parts.health.report(),
            "ready": parts.health.ready()[1],
            "exchange": self._exchange(),
            "numbers": sums,
            "close_lag": _lags(numbers),
            "workers": parts.settings.workers,
            "paused": parts.role.paused,
            "fetch_error": parts.role.fetch_error,
            "jobs": [*self._wishes(), *self._audits(), *_exports(sums)],
        }

    def _exchange(self) -> dict[str, object]:
        parts = self._parts
        active = parts.guard.active()
        return {
            "stand_down": None if active is None else {"until": active.until_ms, "reason": active.reason},
            "is_silent": parts.budget.is_silent,
            "complaints": parts.budget.complaints(),
            "weight_used": parts.budget.used,
            "weight_limit": parts.budget.limit,
            "weight_ceilings": {letters.lower(each.name): parts.budget.ceiling(each) for each in Priority},
            "waiting": {letters.lower(each.name): parts.budget.waiting(each) for each in Priority},
        }

    def _wishes(self) -> list[dict[str, object]]:
        """The extra wishes, one for all series of the same span: how many klines there are, and are held or absent."""
        extra = sorted(self._parts.holdings.extra_wishes.items(), key=lambda wish: wish[1], reverse=True)
        by_span = islice(groupby(extra, key=lambda wish: wish[1]), WISHES_MAX)
        return [self._wish(span, [series for series, _ in wishes]) for span, wishes in by_span]

    def _wish(self, span: Span, series: Sequence[Series]) -> dict[str, object]:
        ledgers, now_ms = self._parts.holdings, self._parts.clock.now_ms()
        counted = series[:WISHED_SERIES_MAX]
        total = missing = 0
        for each in counted:
            grid = ledgers.grid(each)
            due = Span(grid.ceil(span.start_ms), min(grid.ceil(span.end_ms), grid.floor(now_ms)))
            if due:
                total += grid.count(*due)
                missing += sum(grid.count(*gap) for gap in ledgers.ledger(each).known.complement(due))
        state = "running" if missing else "done"
        return _job("backfill", series, span, state) | {"total": total, "done": total - missing, "error": None}

    def _audits(self) -> list[dict[str, object]]:
        try:
            audits = self._parts.verifier.audits()
        except StoreUnavailable:
            return []  # another process writes, and has them
        return [
            _job("verify", each.series, each.span, each.state)
            | {"total": each.total, "done": each.tally.compared, "error": each.error}
            for each in audits
        ]


def _exports(sums: Mapping[str, float]) -> list[dict[str, object]]:
    """The export that some worker makes for a request; its span and series are not known here (0 and none)."""
    if not sums.get("exports"):
        return []
    series, total, done = (int(sums.get(f"export_{name}", 0)) for name in ("series", "rows_due", "rows_written"))
    job = {"job": "export", "named": [], "series": series, "start": 0, "end": 0, "state": "running"}
    return [job | {"total": total, "done": done, "error": None}]


def _job(job: str, series: Sequence[Series], span: Span, state: str) -> dict[str, object]:
    named = [f"{each.name} {each.interval}" for each in series[:NAMED_MAX]]
    return {
        "job": job,
        "named": named,
        "series": len(series),
        "start": span.start_ms,
        "end": span.end_ms,
        "state": state,
    }


def _sums(numbers: Iterable[Number]) -> dict[str, float]:
    """By name of NUMBERS: the sum over the metric's labels; one that has no line yet is left out."""
    wanted = {metric: name for name, metric in NUMBERS.items()}
    sums: dict[str, float] = {}
    for number in numbers:
        if (name := wanted.get(number.name)) is not None:
            sums[name] = sums.get(name, 0.0) + number.value
    return sums


def _lags(numbers: Iterable[Number]) -> dict[str, dict[str, object]]:
    """By interval: how many klines were counted since the start, and below which bound (s) half and 99 % of them lie.

    None: beyond the last bound.
    """
    buckets: dict[str, list[tuple[float, int]]] = {}
    for number in numbers:
        if number.name == CLOSE_LAG:
            bound_s = float(number.labels["le"])
            buckets.setdefault(number.labels["interval"], []).append((bound_s, int(number.value)))
    return {code: _lag(sorted(found)) for code, found in buckets.items()}


def _lag(buckets: Sequence[tuple[float, int]]) -> dict[str, object]:
    total = buckets[-1][1]
    found: dict[str, object] = {"klines": total}
    for name, share in QUANTILES.items():
        bound_s = next((bound_s for bound_s, count in buckets if count >= share * total), inf)
        found[name] = None if bound_s == inf else bound_s
    return found
