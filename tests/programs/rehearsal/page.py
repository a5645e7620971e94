"""The page of a rehearsal's results: its figures, each with the floor that it has to meet."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from app.settings import Settings
from infra.sqlite.connections import READER_CACHE_KIB, WRITER_CACHE_KIB
from infra.sqlite.sqlite_store import READ_CONNECTIONS_MAX
from tests.programs.bench.figures import Figure
from tests.programs.rehearsal.crowd import Failure, Result, quantiles
from tests.programs.rehearsal.exchange import BURST_MS
from tests.programs.rehearsal.stage import WEIGHT, Kill, Stage
from tests.programs.rehearsal.watch import Seen
from tests.programs.soak.trend import quantile_s

KEPT: Final = "kept"  # figures that must be perfect under any load: frames, answers, klines
IN_FLIGHT_S: Final = (
    5.0  # after the kill, in which a cut connection counts as the dead worker's: readers on a busy machine notice late
)
BUDGET_MB: Final = 512.0  # for one worker: the memory limit of the systemd unit
MB: Final = float(1 << 20)
MINUTE_MS: Final = 60_000
NEVER_MS: Final = 1e9  # the lag of a kline that was never seen


@dataclass
class Notes:
    """Everything that a rehearsal has recorded."""

    stage: Stage
    kill: Kill
    read: Result
    seen: Sequence[Seen]
    sent: float
    counted: float
    first_half_s: float
    node_cores: float
    exchange_cores: float
    missing: int
    """Klines that the node lacks at the end."""
    whole_s: float
    """Seconds until the node lacked so few."""
    weight: int


@dataclass
class Journal:
    """What the exchange has recorded."""

    sent_ms: dict[tuple[str, int], int]
    """By symbol and minute: when the closing frame was first sent."""
    late_ms: list[int]
    """The delay of each tick."""
    bursts: list[float]
    """Frames a second after each close."""
    listeners: int
    """The most subscribers that one stream had."""

    @classmethod
    def of(cls, file: Path) -> "Journal":
        """Read the journal in `file`."""
        sent_ms: dict[tuple[str, int], int] = {}
        late_ms: list[int] = []
        listeners = 0
        bursts: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for line in file.read_text().splitlines():
            kind, *rest = line.split()
            if kind == "closed":
                sent_ms.setdefault((rest[0], int(rest[1])), int(rest[2]))
            else:
                now_ms, late, frames, now_listening = map(int, rest)
                late_ms.append(late)
                listeners = max(listeners, now_listening)
                if now_ms % MINUTE_MS < BURST_MS:
                    bursts[now_ms // MINUTE_MS].append((now_ms, frames))
        rates = [sum(frames for _, frames in ticks) / BURST_MS * 1000 for ticks in bursts.values()]
        return cls(sent_ms, late_ms, rates, listeners)

    def lags(self, seen: Sequence[Seen]) -> dict[str, dict[int, list[float]]]:
        """Milliseconds from the sending of a closing frame until each role served it, by role and minute."""
        found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for each in seen:
            at_ms = self.sent_ms.get((each.symbol, each.minute_ms))
            if at_ms is not None:  # None: the writer had died and nobody was subscribed
                found[each.role][each.minute_ms].append(each.seen_ms - at_ms if each.seen_ms else NEVER_MS)
        return found


def figures_of(notes: Notes) -> list[Figure]:
    """The figures of the page."""
    journal = Journal.of(notes.stage.place.programs.folder / "exchange.log")
    return [*_kept(notes, journal), *_ingest(notes, journal), *_readers(notes), *_resources(notes)]


def _kept(notes: Notes, journal: Journal) -> list[Figure]:
    failures = [each for each in notes.read.failures if not was_in_flight(each, notes.kill)]
    cut = len(notes.read.failures) - len(failures)
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(each.kind for each in failures).items())
    first = f"{kinds}; first: {failures[0].what[:160]}" if failures else ""
    answers = sum(notes.read.statuses.values())
    handovers = notes.stage.scrapes[-1].values["klinenode_socket_handovers_total"]
    return [
        Figure(KEPT, "frames dropped", "count", notes.sent - notes.counted, floor=0, is_cost=True,
               note=f"{notes.sent:,.0f} sent until the kill, {notes.counted:,.0f} taken in"),
        Figure(KEPT, "reads that failed", "count", len(failures), floor=0, is_cost=True,
               note=f"of {answers:,} answers; {cut} more were in flight at the killed worker. {first}"),
        Figure(KEPT, "5xx", "count", sum(n for code, n in notes.read.statuses.items() if code[0] == "5"), floor=0,
               is_cost=True),
        Figure(KEPT, "klines missing in the end", "count", notes.missing, floor=0, is_cost=True,
               note=f"{notes.whole_s:.1f} s after the last reader had gone"),
        Figure(KEPT, "writers at a time", "count", journal.listeners, floor=1, is_cost=True,
               note=f"listeners of one stream; the new writer opened {notes.kill.connects} sockets, "
               f"{handovers:.0f} were handed over"),
    ]  # fmt: skip


def _ingest(notes: Notes, journal: Journal) -> list[Figure]:
    part, lags = "ingest", journal.lags(notes.seen)
    late = quantiles(journal.late_ms)
    lost = notes.stage.scrapes[-1].values
    burst = max(journal.bursts, default=0.0)
    found = [
        Figure(part, "frames in", "frames/s", notes.counted / notes.first_half_s,
               note=f"at most {burst:,.0f} a second in the {BURST_MS / 1000:g} s after a close"),
        Figure(part, "sockets lost, garbage", "count",
               lost["klinenode_sockets_lost_total"] + lost["klinenode_garbage_total"], note="also at the kill"),
    ]  # fmt: skip
    for role, name, floor in (("writer", "writer", 250.0), ("reader", "follower", 1000.0)):
        minutes = lags[role]
        times = quantiles([lag for each in minutes.values() for lag in each])
        note = f"{sum(map(len, minutes.values()))} klines seen from outside; from the exchange's sending"
        found.append(Figure(part, f"closed → servable, {name}, p50", "ms", times["p50"], note=note))
        slowest = f"slowest of each close {', '.join(f'{max(minutes[each]):,.0f}' for each in sorted(minutes))} ms"
        found.append(
            Figure(part, f"closed → servable, {name}, p99", "ms", times["p99"], floor=floor, is_cost=True, note=slowest)
        )
    lag = notes.stage.scrapes[-1].lag.get("1m", {})
    of_node = f"p50 {quantile_s(lag, 0.5):.2f} s, the exchange's own 0.2–2 s included"
    found.append(Figure(part, "close lag by the node, p99", "s", quantile_s(lag, 0.99), note=of_node))
    note = f"{notes.exchange_cores:.2f} cores; slowest {late['p100']:.0f} ms: what it sends late is not the node's"
    found.append(Figure(part, "lateness of the exchange, p99", "ms", late["p99"], note=note))
    return found


def _readers(notes: Notes) -> list[Figure]:
    part, read = "readers", notes.read
    found = []
    if read.herds:
        totals = ", ".join(f"{herd.seconds:.2f}" for herd in read.herds)
        size = read.herds[0]
        note = f"each s: {totals}; {size.answers} answers, {size.bytes / 1e6:.0f} MB, from 0.3 s after the close on"
        found = [
            Figure(part, "herd, until the last answer", "s", median(herd.seconds for herd in read.herds), note=note),
            Figure(part, "herd p99", "ms", median(herd.p99_ms for herd in read.herds),
                   note=f"p50 {median(herd.p50_ms for herd in read.herds):.0f} ms"),
        ]  # fmt: skip
    modified, same = read.statuses.get("200", 0), read.statuses.get("304", 0)
    return [
        *found,
        Figure(part, "pollers p99", "ms", read.polls_ms["p99"], note=f"{same:,} of {modified + same:,} were 304"),
        Figure(part, "pagers", "rows/s", read.rows_paged / read.seconds,
               note=f"{read.pages:,} pages; {read.rows_paged / max(read.paging_s, 1e-9):,.0f} rows/s while they wait"),
        Figure(part, "pagers p99", "ms", read.pages_ms["p99"], note=f"p50 {read.pages_ms['p50']:.1f} ms a page"),
    ]  # fmt: skip


def _resources(notes: Notes) -> list[Figure]:
    part, stage = "resources", notes.stage
    settings = Settings.model_fields
    tails, pages = settings["tail_bytes_max"].default / MB, settings["cache_bytes_max"].default / MB
    sqlite = (READ_CONNECTIONS_MAX * READER_CACHE_KIB + WRITER_CACHE_KIB) / 1024
    values = [each.values for each in stage.scrapes]
    budgets = f"tails ≤ {tails:.0f}, pages ≤ {pages:.0f}, SQLite's page caches ≤ {sqlite:.0f} MB, the rest Python"
    per_worker = ", ".join(f"{role} {mb:.0f}" for role, mb in sorted(stage.last_mb.items()))
    rows = [each["klinenode_rows_written_total"] for each in values]
    return [
        Figure(part, "resident, the largest worker ever", "MB", max(stage.peak_mb.values()), floor=BUDGET_MB,
               is_cost=True, note=f"{budgets}; in the end: {per_worker}"),
        Figure(part, "write-ahead log, largest", "MB", max(each["klinenode_wal_bytes"] for each in values) / MB),
        Figure(part, "weight of the worst minute", "weight", notes.weight, floor=WEIGHT, is_cost=True),
        Figure(part, "rows written", "count", rows[-1] - rows[0], note="backfill, closes and repair"),
        Figure(part, "node", "cores", notes.node_cores, note="all its processes, until the kill"),
        Figure(part, "take-over: lease", "s", notes.kill.lease_s, floor=3.0, is_cost=True, note="from the SIGKILL"),
        Figure(part, "take-over: first socket", "s", notes.kill.socket_s),
    ]  # fmt: skip


def was_in_flight(failure: Failure, kill: Kill) -> bool:
    return failure.kind == "cut" and 0 <= failure.at_s - kill.at_s <= IN_FLIGHT_S
