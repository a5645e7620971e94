"""The screen of `klinenode status`: one sentence on the state, then as many facts as the terminal has room for."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from math import isinf
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.filling.amounts import of_bytes, of_seconds
from app.status.snapshot import COLLECTOR, Job, Snapshot
from app.status.trend import Rates

BAR_CELLS: Final = 30
LIVE_LINE: Final = 1  # of the terminal, where the cursor stands
MARGIN: Final = 2

Fact = tuple[str, RenderableType]
"""A word, and what is to be said about it."""


def sentence(snapshot: Snapshot, rates: Rates) -> str:
    """The state in one sentence, whole: what is wrong comes first."""
    if snapshot.stand_down_until_ms is not None and snapshot.stand_down_until_ms > snapshot.taken_ms:
        left_s = (snapshot.stand_down_until_ms - snapshot.taken_ms) // 1000
        return f"Standing down for {of_seconds(left_s)}: the exchange asked for it; what is held is served."
    if snapshot.role == COLLECTOR:
        wrong = f", but something is wrong: {snapshot.reasons[0]}{_more(snapshot)}" if snapshot.reasons else ""
        return f"Collecting{wrong or ', and nothing is wrong'}."
    if not snapshot.is_ready:
        why = snapshot.reasons[0] if snapshot.reasons else "it has just started"
        return f"Not ready yet: {why}{_more(snapshot)}."
    if snapshot.reasons:
        return f"Ready, but something is wrong: {snapshot.reasons[0]}{_more(snapshot)}."
    if snapshot.missing:
        left = "" if rates.left_s is None else f", {of_seconds(rates.left_s)} to go"
        return f"Ready: every series is fresh; {snapshot.missing:,} older klines are still to come{left}."
    return "Ready: every series is fresh, and nothing is missing."


def screen(console: Console, url: str, snapshot: Snapshot, rates: Rates) -> RenderableType:
    """The screen for a console of its size: facts that do not fit are left out, details before the others."""
    colour = "green" if snapshot.is_ready and not snapshot.reasons else "yellow" if snapshot.is_ready else "red"
    time = datetime.fromtimestamp(snapshot.taken_ms / 1000, UTC).strftime("%H:%M:%S")
    parts: list[RenderableType] = [
        Text(f"klinenode status · {url} · {time} UTC · up {of_seconds(snapshot.uptime_s)}", style="dim"),
        Text(sentence(snapshot, rates), style=f"bold {colour}"),
        Text(),
    ]
    room = console.size.height - LIVE_LINE - sum(_height(console, part) for part in parts)
    facts: list[Fact] = []
    for fact in (*_facts(snapshot, rates), *_details(snapshot)):
        if _height(console, _table([*facts, fact])) <= room:
            facts.append(fact)
    return Group(*parts, _table(facts))


def no_node(url: str, reason: str) -> str:
    """The state when no node answers."""
    return f"No node answers at {url} ({reason}); start one with `klinenode serve`, or name another with --url."


def _facts(snapshot: Snapshot, rates: Rates) -> Iterator[Fact]:
    """What always has room on 80 × 24: a line each."""
    if snapshot.role != COLLECTOR:
        yield from _of_klines(snapshot, rates)
    yield "process", _process(snapshot)
    yield from _collector(snapshot)


def _of_klines(snapshot: Snapshot, rates: Rates) -> Iterator[Fact]:
    yield "exchange", _exchange(snapshot)
    yield "weight", _weight(snapshot)
    yield "frames", f"{snapshot.frames:,}" + ("" if rates.frames is None else f", {rates.frames:,.1f} a second")
    yield "close lag", _lag(snapshot)
    yield "klines", _klines(snapshot)
    if snapshot.wished:
        yield "", ProgressBar(snapshot.wished, snapshot.wished - (snapshot.missing or 0), width=BAR_CELLS)
    if rates.klines is not None and rates.left_s is not None:
        yield "history", f"{of_seconds(rates.left_s)} to go, at {rates.klines:,.0f} klines a second"
    for job in snapshot.jobs:
        yield "job", _job(job)
    yield "clients", _clients(snapshot)
    yield "storage", _storage(snapshot)


def _details(snapshot: Snapshot) -> Iterator[Fact]:
    yield from _listed("wrong", snapshot.reasons)
    yield from _listed("note", snapshot.notes)
    yield from _listed("tails", (f"{code}: {tail}" for code, tail in snapshot.tails.items()))
    yield from _listed("lags", (f"{code}: {_of_lag(lags)}" for code, lags in snapshot.lags_s.items()))


def _listed(word: str, texts: Iterable[str]) -> Iterator[Fact]:
    yield from ((word, text) for text in texts)


def _more(snapshot: Snapshot) -> str:
    others = len(snapshot.reasons) - 1
    return f" (and {others} more)" if others > 0 else ""


def _exchange(snapshot: Snapshot) -> str:
    off = f"; its clock is {-snapshot.clock_offset_ms:+,} ms from ours" if snapshot.clock_offset_ms else ""
    return f"{snapshot.symbols:,} symbols, {snapshot.sockets} sockets with {snapshot.streams:,} streams{off}"


def _weight(snapshot: Snapshot) -> str:
    used = "not known yet" if snapshot.weight_used is None else f"{snapshot.weight_used:,} used this minute"
    return used if snapshot.weight_ceiling is None else f"{used}, up to {snapshot.weight_ceiling:,} are taken"


def _lag(snapshot: Snapshot) -> str:
    lags = snapshot.lags_s.get("1m")
    return "no minute has closed yet" if lags is None else f"1m: {_of_lag(lags)}"


def _of_lag(lags: tuple[float, ...]) -> str:
    half, most = ("longer" if isinf(lag) else f"{lag:g} s" for lag in lags)
    return f"half within {half}, 95 % within {most}"


def _klines(snapshot: Snapshot) -> str:
    if snapshot.wished is None or snapshot.missing is None:
        return "not counted yet"
    held = snapshot.wished - snapshot.missing
    share = 100 * held // snapshot.wished if snapshot.wished else 100
    return f"{held:,} of {snapshot.wished:,} held or proven absent ({share} %), {snapshot.missing:,} missing"


def _job(job: Job) -> str:
    return f"{job.name}: {job.done:,}" + (f" of {job.total:,} ({100 * job.done // job.total} %)" if job.total else "")


def _process(snapshot: Snapshot) -> str:
    memory = f"{of_bytes(snapshot.memory_bytes)} of memory"
    if snapshot.role == "writer":
        return f"the writer; {snapshot.queue:,} rows wait to be written; {memory}"
    return f"a {snapshot.role}; {memory}"


def _clients(snapshot: Snapshot) -> str:
    answers = snapshot.hits + snapshot.misses
    cached = f"; {100 * snapshot.hits // answers} % of {answers:,} klines answers from cache" if answers else ""
    return f"{snapshot.connections:,} connections, {snapshot.stream_clients:,} on sockets{cached}"


def _storage(snapshot: Snapshot) -> str:
    size = "on a server" if snapshot.database_bytes is None else of_bytes(snapshot.database_bytes)
    return (
        size if snapshot.disk_free_bytes is None else f"{size}, {of_bytes(snapshot.disk_free_bytes)} free on the disk"
    )


def _collector(snapshot: Snapshot) -> Iterator[Fact]:
    if snapshot.collector is None:
        return
    for name, each in snapshot.collector.get("exchanges", {}).items():
        books = f", {each['books_valid']} of {each['books_followed']} books valid" if each["books_followed"] else ""
        counts = f"{each['sockets']} sockets, {each['feeds']} feeds, {each['gaps_open']} gaps{books}"
        yield "collector", f"{name} {each['state']}: {counts}"
    waiting, spilled = snapshot.collector.get("waiting", 0), snapshot.collector.get("spilled_bytes", 0)
    yield "", f"{waiting:,} records wait for NATS, {of_bytes(spilled)} of them on disk"


def _table(facts: list[Fact]) -> Table:
    table = Table.grid(padding=(0, MARGIN, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for word, said in facts:
        table.add_row(word, said)
    return table


def _height(console: Console, part: RenderableType) -> int:
    return len(console.render_lines(part))
