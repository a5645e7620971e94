"""The facts on a node's state, a label and a text each, in the order in which they get room on a terminal."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from rich.console import RenderableType
from rich.progress_bar import ProgressBar

from app.filling.amounts import of_bytes, of_seconds
from app.status.job import RUNNING, Job
from app.status.snapshot import COLLECTOR, Json, Lag, Slow, Snapshot
from app.status.trend import Rates

BAR_CELLS: Final = 25  # fits beside the labels on a terminal of 40 columns
JOBS_FIRST: Final = 2
"""Jobs that get room before the details do: 80 × 24 has room for them beside a collector of three exchanges."""
_UNFINISHED: Final = (RUNNING, "waiting", "failed")

Fact = tuple[str, RenderableType]


def facts(snapshot: Snapshot, rates: Rates) -> Iterator[Fact]:
    """Everything that is known, the most important first."""
    if snapshot.role == COLLECTOR:
        yield "messages", _messages(snapshot)
        yield from _collector(snapshot)
        yield "process", f"{of_bytes(snapshot.numbers.get('memory_bytes', 0))} of memory"
        yield from _listed("wrong", snapshot.reasons)
        return
    unfinished = [_job(job, rates) for job in snapshot.jobs if job.state in _UNFINISHED]
    finished = [_job(job, rates) for job in snapshot.jobs if job.state not in _UNFINISHED]
    yield from _essential(snapshot, rates, unfinished[:JOBS_FIRST])
    yield from _details(snapshot, unfinished[JOBS_FIRST:] + finished)


def _essential(snapshot: Snapshot, rates: Rates, jobs: Iterable[str]) -> Iterator[Fact]:
    yield "exchange", _exchange(snapshot)
    yield "weight", _weight(snapshot)
    yield "frames", f"{snapshot.frames:,}" + ("" if rates.frames is None else f", {rates.frames:,.1f} a second")
    yield "close lag", _of_lag("1m", snapshot.lags["1m"]) if "1m" in snapshot.lags else "no minute has closed yet"
    yield from _klines(snapshot, rates)
    yield from _listed("jobs", jobs)
    yield from _listed("paused", () if snapshot.paused is None else (snapshot.paused,))
    yield "process", _process(snapshot)
    yield "clients", _clients(snapshot)
    yield "cache", _cache(snapshot)
    yield "storage", _storage(snapshot)
    yield from _listed("slow", map(_slow_path, snapshot.slow[:1]))
    yield from _collector(snapshot)


def _details(snapshot: Snapshot, jobs: Iterable[str]) -> Iterator[Fact]:
    yield from _listed("wrong", snapshot.reasons)
    yield from _listed("failed", () if snapshot.fetch_error is None else (f"a fetch: {snapshot.fetch_error}",))
    yield from _listed("stopped", (f"task {name}" for name in snapshot.tasks_down))
    yield from _listed("more jobs", jobs)
    yield from _listed("note", snapshot.notes)
    yield from _listed("rows", _rows(snapshot))
    yield from _listed("tails", (f"{code}: {tail}" for code, tail in snapshot.tails.items()))
    yield from _listed("lags", (_of_lag(code, lag) for code, lag in snapshot.lags.items()))
    yield from _listed("slow", map(_slow, snapshot.slow))


def _listed(label: str, texts: Iterable[str]) -> Iterator[Fact]:
    """Facts of one kind; the label stands beside the first."""
    yield from ((label if not number else "", text) for number, text in enumerate(texts))


def _exchange(snapshot: Snapshot) -> str:
    exchange = snapshot.exchange
    if exchange.is_silent:
        state = "no answer, only probes are sent"
    elif exchange.complaints:
        state = exchange.complaints[0]
    else:
        state = "reachable" if snapshot.sockets else "no sockets are open"
    off = f"; its clock is {-snapshot.clock_offset_ms:+,} ms from ours" if snapshot.clock_offset_ms else ""
    sockets = f"{_counted(snapshot.sockets, 'socket')} with {_counted(snapshot.streams, 'stream')}"
    return f"{state}; {_counted(snapshot.symbols, 'symbol')}, {sockets}{off}"


def _weight(snapshot: Snapshot) -> str:
    exchange = snapshot.exchange
    if exchange.weight_used is None:
        return "not known yet"
    limit = "" if exchange.weight_limit is None else f" of {exchange.weight_limit:,}"
    waiting = f"; for more wait {_counted(exchange.waiting, 'request')}" if exchange.waiting else ""
    return f"{exchange.weight_used:,}{limit} used this minute{waiting}"


def _of_lag(code: str, lag: Lag) -> str:
    half, most = ("longer" if bound is None else f"{bound:g} s" for bound in (lag.half_s, lag.most_s))
    return f"{code}: half within {half}, 99 % within {most}, of {lag.klines:,} klines"


def _klines(snapshot: Snapshot, rates: Rates) -> Iterator[Fact]:
    missing, wished = snapshot.missing, snapshot.numbers.get("klines_wished")
    if wished is None or missing is None:
        yield "klines", "not counted yet"
        return
    held = wished - missing
    share = 100 * held // wished if wished else 100
    yield "klines", f"{held:,} of {wished:,} held or proven absent ({share} %), {missing:,} missing"
    if wished:
        yield "", ProgressBar(wished, held, width=BAR_CELLS)
    if rates.klines is not None and rates.left_s is not None:
        yield "history", f"{of_seconds(rates.left_s)} to go, at {rates.klines:,.0f} klines a second"


def _job(job: Job, rates: Rates) -> str:
    share = f" ({100 * job.done // job.total} %)" if job.total else ""
    progress = f"{job.done:,} of {job.total:,}{share}" if job.total else f"{job.done:,}"
    left_s = rates.jobs_left_s.get(job.name)
    end = f", {of_seconds(left_s)} to go" if left_s is not None else "" if job.state == RUNNING else f", {job.state}"
    return f"{job.name}: {progress}{end}" + (f": {job.error}" if job.error else "")


def _process(snapshot: Snapshot) -> str:
    numbers = snapshot.numbers
    role = "the writer" if snapshot.role == "writer" else f"a {snapshot.role}"
    of = f"{role} of {snapshot.workers} workers" if snapshot.workers > 1 else role
    writes = "" if snapshot.role == "writer" or snapshot.writers else ", and no process writes"
    queue = f"{numbers.get('write_queue', 0):,} rows wait to be written"
    return f"{of}{writes}; {queue}; {of_bytes(numbers.get('memory_bytes', 0))} of memory"


def _clients(snapshot: Snapshot) -> str:
    numbers = snapshot.numbers
    requests = numbers.get("requests", 0) + numbers.get("page_hits", 0)
    asked = f"; {requests:,} requests since the start" if requests else ""
    connections = _counted(numbers.get("connections", 0), "connection")
    return f"{connections}, {numbers.get('stream_clients', 0):,} on sockets{asked}"


def _cache(snapshot: Snapshot) -> str:
    words = {"page": "klines", "market": "market data", "shared": "CACHE_URL"}
    shares = [f"{text} {share}" for name, text in words.items() if (share := _share(snapshot, name)) is not None]
    return "; ".join(shares) or "nothing was asked for yet"


def _share(snapshot: Snapshot, cache: str) -> str | None:
    hits, misses = (snapshot.numbers.get(f"{cache}_{each}", 0) for each in ("hits", "misses"))
    return f"{100 * hits // (hits + misses)} % of {hits + misses:,}" if hits + misses else None


def _storage(snapshot: Snapshot) -> str:
    size, free = snapshot.numbers.get("database_bytes"), snapshot.numbers.get("disk_free_bytes")
    held = "on a server" if size is None else of_bytes(size)
    return held if free is None else f"{held}, {of_bytes(free)} free on the disk"


def _rows(snapshot: Snapshot) -> Iterator[str]:
    written, revised = (snapshot.numbers.get(name, 0) for name in ("rows_written", "rows_revised"))
    disputes = snapshot.numbers.get("disputed", 0) + snapshot.numbers.get("disagreements", 0)
    yield f"{written:,} written since the start, {revised:,} revised, {disputes:,} disputes"


def _slow(slow: Slow) -> str:
    return _slow_path(slow) + (f"?{slow.query}" if slow.query else "")


def _slow_path(slow: Slow) -> str:
    time = datetime.fromtimestamp(slow.at_ms / 1000, UTC).strftime("%H:%M:%S")
    return f"{slow.elapsed_ms:,} ms at {time}, status {slow.status}: {slow.path}"


def _messages(snapshot: Snapshot) -> str:
    numbers = snapshot.numbers
    received, published, errors = (
        numbers.get(name, 0) for name in ("messages", "messages_published", "message_errors")
    )
    return f"{received:,} received, {published:,} published, {_counted(errors, 'error')}"


def _collector(snapshot: Snapshot) -> Iterator[Fact]:
    if snapshot.collector is None:
        return
    exchanges = snapshot.collector.get("exchanges", {}).items()
    yield from _listed("collector", (f"{name} {each['state']}: {_counts(each)}" for name, each in exchanges))
    waiting, spilled = snapshot.collector.get("waiting", 0), snapshot.collector.get("spilled_bytes", 0)
    yield "", f"{waiting:,} records wait for NATS, {of_bytes(spilled)} of them on disk"


def _counts(stats: Json) -> str:
    books = f", {stats['books_valid']} of {stats['books_followed']} books valid" if stats["books_followed"] else ""
    counts = (("sockets", "socket"), ("feeds", "feed"), ("gaps_open", "gap"))
    return ", ".join(_counted(stats[name], word) for name, word in counts) + books


def _counted(number: int, word: str) -> str:
    """For example 1 gap, 12,000 gaps."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"
