"""A snapshot of a node, read out of what it answers at /v1/health, /v1/ready, /v1/verification and /metrics."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

Json = Mapping[str, Any]

_LINE: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LAG: Final = "klinenode_close_lag_seconds_bucket"
COLLECTOR: Final = "collector"
"""The role of a process that only collects, which says nothing of klines."""
QUANTILES: Final = (0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Job:
    """Work with an end: what it is, and how far (`total` of 0: not known)."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a node is at one moment. Counts are since its start, over all its workers; None: it does not say."""

    taken_ms: int
    is_ready: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    role: str
    uptime_s: int
    symbols: int
    sockets: int
    streams: int
    fresh: int
    series: int
    stand_down_until_ms: int | None
    clock_offset_ms: int
    queue: int
    weight_used: int | None
    weight_ceiling: int | None
    frames: int
    missing: int | None
    wished: int | None
    lags_s: Mapping[str, tuple[float, ...]]
    """By interval: the delays of QUANTILES from a close to when it can be served; inf: beyond the last bound."""
    tails: Mapping[str, str]
    """By interval: the series whose newest kline is oldest, its state and age."""
    hits: int
    misses: int
    connections: int
    stream_clients: int
    memory_bytes: int
    database_bytes: int | None
    disk_free_bytes: int | None
    jobs: tuple[Job, ...]
    collector: Json | None


def snapshot_of(taken_ms: int, health: Json, ready: Json, verification: Json, exposition: str) -> Snapshot:
    """Read the answers; what a node of another version does not say is 0, empty or None. Raises ValueError."""
    metrics = _Metrics(exposition)
    collector = _mapping(health.get("collector"))
    only_collects = bool(collector) and "role" not in health
    shards = _mapping(_mapping(health.get("sockets")).get("sockets"))
    counts = {str(state): int(count) for state, count in _mapping(ready.get("series")).items()}
    ceilings = metrics.values("klinenode_upstream_weight_ceiling")
    return Snapshot(
        taken_ms=taken_ms,
        is_ready=bool(ready.get("ready", only_collects)),
        reasons=tuple(map(str, health.get("reasons", ()))),
        notes=tuple(map(str, health.get("notes", ()))),
        role=COLLECTOR if only_collects else str(health.get("role", "unknown")),
        uptime_s=int(health.get("uptime_s", collector.get("uptime_s", 0))),
        symbols=int(health.get("symbols", 0)),
        sockets=len(shards),
        streams=sum(int(_mapping(shard).get("streams", 0)) for shard in shards.values()),
        fresh=counts.get("fresh", 0),
        series=sum(counts.values()),
        stand_down_until_ms=health.get("stand_down_until_ms"),
        clock_offset_ms=int(health.get("clock_offset_ms", 0)),
        queue=int(health.get("queue_depth", 0)),
        weight_used=metrics.number("klinenode_upstream_weight_used"),
        weight_ceiling=int(max(ceilings)) if ceilings else None,
        frames=metrics.total("klinenode_frames_total"),
        missing=metrics.number("klinenode_klines_missing"),
        wished=metrics.number("klinenode_klines_wished"),
        lags_s=metrics.quantiles(_LAG, "interval"),
        tails={code: _tail(_mapping(each)) for code, each in _mapping(health.get("tails")).items()},
        hits=metrics.total("klinenode_page_cache_hits"),
        misses=metrics.total("klinenode_page_cache_misses"),
        connections=metrics.total("klinenode_connections"),
        stream_clients=metrics.total("klinenode_stream_clients"),
        memory_bytes=metrics.total("process_resident_memory_bytes"),
        database_bytes=metrics.number("klinenode_database_bytes"),
        disk_free_bytes=metrics.number("klinenode_disk_free_bytes"),
        jobs=tuple(_audit(each) for each in verification.get("audits", ()) if each.get("ended") is None),
        collector=collector or None,
    )


def _audit(audit: Json) -> Job:
    return Job(
        f"verification {audit.get('audit', '')}".rstrip(), int(audit.get("compared", 0)), int(audit.get("total", 0))
    )


def _tail(tail: Json) -> str:
    age_ms = tail.get("age_ms")
    age = "no kline yet" if age_ms is None else f"newest kline closed {int(age_ms) // 1000} s ago"
    return f"{tail.get('symbol', '')} {tail.get('state', '')}, {age}"


def _mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


class _Metrics:
    """The samples of an exposition in Prometheus' text format."""

    def __init__(self, exposition: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for line in exposition.splitlines():
            if not line.startswith("#") and (found := _LINE.match(line)) is not None:
                name, labels, value = found.groups()
                self._samples.setdefault(name, []).append((dict(_LABEL.findall(labels or "")), float(value)))

    def values(self, name: str) -> list[float]:
        return [value for _, value in self._samples.get(name, ())]

    def total(self, name: str) -> int:
        return int(sum(self.values(name)))

    def number(self, name: str) -> int | None:
        return self.total(name) if name in self._samples else None

    def quantiles(self, name: str, label: str) -> dict[str, tuple[float, ...]]:
        """By value of `label`: the upper bounds of the buckets in which QUANTILES of a histogram lie."""
        buckets: dict[str, list[tuple[float, float]]] = {}
        for labels, count in self._samples.get(name, ()):
            buckets.setdefault(labels.get(label, ""), []).append((float(labels["le"]), count))
        found = {}
        for value, bounds in buckets.items():
            total = max(count for _, count in bounds)
            if total:
                found[value] = tuple(
                    next((bound for bound, count in sorted(bounds) if count >= share * total), inf)
                    for share in QUANTILES
                )
        return found
