"""The overview of a process that does not give /v1/overview: made of what it answers everybody, in the same form."""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final

from app.status.snapshot import Json

_LINE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LAG: Final = "klinenode_close_lag_seconds_bucket"
NUMBERS: Final = {
    "frames": "klinenode_frames_total",
    "klines_wished": "klinenode_klines_wished",
    "klines_missing": "klinenode_klines_missing",
    "page_hits": "klinenode_page_cache_hits",
    "page_misses": "klinenode_page_cache_misses",
    "market_hits": "klinenode_market_pages_hits",
    "market_misses": "klinenode_market_pages_misses",
    "connections": "klinenode_connections",
    "stream_clients": "klinenode_stream_clients",
    "database_bytes": "klinenode_database_bytes",
    "disk_free_bytes": "klinenode_disk_free_bytes",
    "memory_bytes": "process_resident_memory_bytes",
    "writers": "klinenode_is_writer",
}
"""By name in the overview: the metric, whose lines are added up."""
COLLECTED: Final = {
    "messages": "messages_processed_total",
    "messages_published": "messages_published_total",
    "message_errors": "errors_total",
}
"""The same of a collector."""
QUANTILES: Final = {"p50_s": 0.5, "p99_s": 0.99}


def overview_of(now_ms: int, health: Json, ready: Json, verification: Json, exposition: str) -> dict[str, Any]:
    """An overview, as far as /v1/health, /v1/ready, /v1/verification and /metrics have it. Raises ValueError."""
    samples = Samples(exposition)
    metrics = (NUMBERS | COLLECTED).items()
    numbers = {name: samples.total(metric) for name, metric in metrics if samples.has(metric)}
    numbers.setdefault("write_queue", int(health.get("queue_depth", 0)))
    until_ms = health.get("stand_down_until_ms")
    stands = until_ms is not None and until_ms > now_ms
    return {
        "as_of": int(health.get("serverTime", now_ms)),
        "health": health,
        "ready": ready,
        "exchange": {
            "stand_down": {"until": until_ms, "reason": "the exchange asked for it"} if stands else None,
            "weight_used": samples.number("klinenode_upstream_weight_used"),
        },
        "numbers": numbers,
        "close_lag": samples.lags(),
        "jobs": [_audit(each) for each in verification.get("audits", ()) if each.get("ended") is None],
    }


def _audit(audit: Json) -> dict[str, Any]:
    return {
        "job": "verify",
        "named": [],
        "series": audit["series"],
        "start": audit["start"],
        "end": audit["end"],
        "state": audit["state"],
        "total": audit["total"],
        "done": audit["compared"],
    }


class Samples:
    """The samples of an exposition in Prometheus' text format."""

    def __init__(self, exposition: str) -> None:
        """Raises ValueError where a line's number is none."""
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for name, labels, value in _lines(exposition):
            self._samples.setdefault(name, []).append((labels, value))

    def has(self, name: str) -> bool:
        """Whether the metric has a line."""
        return name in self._samples

    def total(self, name: str) -> int:
        """The sum over the metric's labels."""
        return int(sum(value for _, value in self._samples.get(name, ())))

    def number(self, name: str) -> int | None:
        """As `total`; None without a line."""
        return self.total(name) if self.has(name) else None

    def lags(self) -> dict[str, dict[str, object]]:
        """By interval: the close lag as /v1/overview has it."""
        buckets: dict[str, list[tuple[float, int]]] = {}
        for labels, count in self._samples.get(_LAG, ()):
            buckets.setdefault(labels.get("interval", ""), []).append((float(labels["le"]), int(count)))
        return {code: _lag(sorted(found)) for code, found in buckets.items()}


def _lag(buckets: Sequence[tuple[float, int]]) -> dict[str, object]:
    total = buckets[-1][1]
    found: dict[str, object] = {"klines": total}
    for name, share in QUANTILES.items():
        bound_s = next(bound_s for bound_s, count in buckets if count >= share * total)
        found[name] = None if bound_s == inf else bound_s
    return found


def _lines(exposition: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    for line in exposition.splitlines():
        if not line.startswith("#") and (found := _LINE.match(line)) is not None:
            name, labels, value = found.groups()
            yield name, dict(_LABEL.findall(labels or "")), float(value)
