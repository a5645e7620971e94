"""A snapshot of a node: what /v1/overview says of one moment, as the terminal shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.status.job import Job, job_of

Json = Mapping[str, Any]

COLLECTOR: Final = "collector"
"""The role of a process that only collects, which says nothing of klines."""
READY_STATE: Final = "fresh"


@dataclass(frozen=True, slots=True)
class Lag:
    """From a kline's close until it is served: how many were counted, and bounds in seconds (None: longer)."""

    klines: int
    half_s: float | None
    most_s: float | None


@dataclass(frozen=True, slots=True)
class Slow:
    """A request whose answer took long; `at_ms` is when it was ready."""

    path: str
    query: str
    elapsed_ms: int
    at_ms: int
    status: int


@dataclass(frozen=True, slots=True)
class Exchange:
    """How the exchange is asked; 0 where the node does not say it."""

    is_silent: bool
    complaints: tuple[str, ...]
    stand_down_until_ms: int | None
    stand_down_reason: str
    weight_used: int | None
    weight_limit: int | None
    waiting: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How a node is at one moment. Counts are since its start, over all its workers; None: it does not say."""

    taken_ms: int
    version: str
    is_ready: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    role: str
    workers: int
    writers: int | None
    uptime_s: int
    symbols: int
    sockets: int
    streams: int
    fresh: int
    series: int
    clock_offset_ms: int
    exchange: Exchange
    numbers: Mapping[str, int]
    """By the name in /v1/overview; a name without a number yet is missing."""
    lags: Mapping[str, Lag]
    tails: Mapping[str, str]
    """By interval: the series whose newest kline is oldest, its state and age."""
    paused: str | None
    fetch_error: str | None
    tasks_down: tuple[str, ...]
    jobs: tuple[Job, ...]
    slow: tuple[Slow, ...]
    collector: Json | None

    @property
    def missing(self) -> int | None:
        """Klines that are wished and neither held nor proven absent."""
        return self.numbers.get("klines_missing")

    @property
    def frames(self) -> int:
        """Socket frames since the start."""
        return self.numbers.get("frames", 0)


def snapshot_of(overview: Json) -> Snapshot:
    """Read an overview; what a node of another version does not say is 0, empty or None.

    Raises ValueError, TypeError, KeyError or AttributeError if it is no overview.
    """
    health, ready = overview["health"], mapping(overview.get("ready"))
    shards = mapping(mapping(health.get("sockets")).get("sockets"))
    counts = {str(state): int(count) for state, count in mapping(ready.get("series")).items()}
    numbers = {str(name): int(number) for name, number in mapping(overview.get("numbers")).items()}
    collector = mapping(health.get("collector"))
    only_collects = bool(collector) and "role" not in health
    return Snapshot(
        taken_ms=int(overview["as_of"]),
        version=str(overview.get("version", "")),
        is_ready=bool(ready.get("ready", only_collects)),
        reasons=tuple(map(str, health["reasons"])),
        notes=tuple(map(str, health.get("notes", ()))),
        role=COLLECTOR if only_collects else str(health["role"]),
        workers=int(overview.get("workers", 1)),
        writers=numbers.get("writers"),
        uptime_s=int(health.get("uptime_s", collector.get("uptime_s", 0))),
        symbols=int(health.get("symbols", 0)),
        sockets=len(shards),
        streams=sum(int(mapping(shard).get("streams", 0)) for shard in shards.values()),
        fresh=counts.get(READY_STATE, 0),
        series=sum(counts.values()),
        clock_offset_ms=int(health.get("clock_offset_ms", 0)),
        exchange=_exchange(mapping(overview.get("exchange")), shards),
        numbers=numbers,
        lags={code: _lag(each) for code, each in mapping(overview.get("close_lag")).items() if each["klines"]},
        tails={code: _tail(mapping(each)) for code, each in mapping(health.get("tails")).items()},
        paused=overview.get("paused"),
        fetch_error=overview.get("fetch_error"),
        tasks_down=tuple(name for name, each in mapping(health.get("tasks")).items() if not each["running"]),
        jobs=tuple(map(job_of, overview.get("jobs", ()))),
        slow=tuple(map(_slow, overview.get("slow", ()))),
        collector=collector or None,
    )


def mapping(value: object) -> Json:
    """The JSON object `value`; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def _exchange(exchange: Json, shards: Json) -> Exchange:
    stand_down = mapping(exchange.get("stand_down"))
    until_ms, used, limit = stand_down.get("until"), exchange.get("weight_used"), exchange.get("weight_limit")
    of_sockets = (mapping(shard).get("complaint") for shard in shards.values())
    return Exchange(
        is_silent=bool(exchange.get("is_silent", False)),
        complaints=(*map(str, exchange.get("complaints", ())), *(str(each) for each in of_sockets if each)),
        stand_down_until_ms=None if until_ms is None else int(until_ms),
        stand_down_reason=str(stand_down.get("reason", "")),
        weight_used=None if used is None else int(used),
        weight_limit=None if limit is None else int(limit),
        waiting=sum(map(int, mapping(exchange.get("waiting")).values())),
    )


def _lag(lag: Json) -> Lag:
    return Lag(int(lag["klines"]), lag["p50_s"], lag["p99_s"])


def _tail(tail: Json) -> str:
    age_ms = tail.get("age_ms")
    age = "no kline yet" if age_ms is None else f"newest kline closed {int(age_ms) // 1000} s ago"
    return f"{tail.get('symbol', '')} {tail.get('state', '')}, {age}"


def _slow(slow: Json) -> Slow:
    path, query = str(slow["path"]), str(slow.get("query", ""))
    return Slow(path, query, int(slow["elapsed_ms"]), int(slow["at_ms"]), int(slow["status"]))
