"""Everything worth noticing, as facts. Code observes; logs, metrics and tests subscribe (infra/telemetry.py).

What happens thousands of times a second is not an event each: frames are reported in batches, cache hits are counters
read on scrape.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from app.domain.ledger import Source
from app.domain.span import Span
from app.metric import Counter, Gauge, Histogram, Merge, Metric

GAPS_MOVED_SHARE: Final = 20
"""Gaps are worth a line when they moved by a twentieth (5 %) of the wish; the metrics have every count."""


@dataclass(frozen=True, slots=True)
class Event:
    """A fact. Its class says at which level it is logged and what of it is measured."""

    LEVEL: ClassVar[int] = logging.INFO
    METRICS: ClassVar[tuple[Metric, ...]] = ()


@dataclass(frozen=True, slots=True)
class SymbolsSynced(Event):
    """The set of wished symbols was read from the exchange."""

    total: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SymbolsUnlisted(Event):
    """The settings name symbols that the exchange does not list."""

    LEVEL = logging.WARNING

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relisted(Event):
    """A name belongs to another coin since `since_ms`; what was held of it is kept apart (tables former_…)."""

    LEVEL = logging.WARNING

    name: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Reprinted(Event):
    """The exchange prints a name's numbers with other decimals than what is held; all of it is fetched again."""

    LEVEL = logging.WARNING

    name: str


@dataclass(frozen=True, slots=True)
class RelistingRefuted(Event):
    """The exchange has klines of a name from before `since_ms` after all: they are fetched."""

    LEVEL = logging.WARNING

    name: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class RequestDone(Event):
    """An upstream REST or archive request ended; `status` is 0 when no answer came. `used_weight` is the exchange's."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter("klinenode_upstream_requests_total", "Upstream requests by status.", labels={"status": "status"}),
        Histogram("klinenode_upstream_request_seconds", "Upstream answer times.", "elapsed_s"),
        Gauge(
            "klinenode_upstream_weight_used",
            "REST weight used this minute, as the exchange counts it.",
            "used_weight",
            merge=Merge.WRITER,
        ),
    )

    path: str
    status: int
    weight: int
    used_weight: int | None
    elapsed_s: float
    host: str = ""


@dataclass(frozen=True, slots=True)
class StandDownBegan(Event):
    """The exchange told us to stay away: no request leaves before `until_ms`."""

    LEVEL = logging.WARNING

    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExchangeSilent(Event):
    """Several requests in a row got no answer: only probes are sent until one does."""

    LEVEL = logging.WARNING

    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExchangeAnswers(Event):
    """The exchange has answered again; requests go on as before."""


@dataclass(frozen=True, slots=True)
class SharedCacheLost(Event):
    """The cache of CACHE_URL cannot be used; everything goes on without it, and connecting is tried again."""

    LEVEL = logging.WARNING

    reason: str


@dataclass(frozen=True, slots=True)
class SharedCacheAnswers(Event):
    """The cache of CACHE_URL is used again."""


@dataclass(frozen=True, slots=True)
class TracesBegan(Event):
    """Spans of requests and work go to the collector of OTEL_…, as OpenTelemetry's variables say."""

    endpoint: str


@dataclass(frozen=True, slots=True)
class TracesFailed(Event):
    """The variables OTEL_… ask for traces and none can be sent; the node runs on without them."""

    LEVEL = logging.WARNING

    reason: str


@dataclass(frozen=True, slots=True)
class TracesLost(Event):
    """Spans do not reach their collector and are dropped; see that it runs and takes OTLP over HTTP at this address."""

    LEVEL = logging.WARNING

    reason: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class TracesResumed(Event):
    """Spans reach their collector again; so many were lost."""

    spans: int


@dataclass(frozen=True, slots=True)
class SpansLost(Event):
    """Spans did not reach their collector, or found the queue for it full."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter("klinenode_spans_lost_total", "Spans of traces that did not reach their collector.", value="spans"),
    )

    spans: int


@dataclass(frozen=True, slots=True)
class RateStateNotShared(Event):
    """The file by which processes share their weight was damaged, or cannot be used; `reason` says what follows."""

    LEVEL = logging.WARNING

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SocketOpened(Event):
    """A market socket is connected and its streams are acknowledged."""

    name: str
    streams: int


@dataclass(frozen=True, slots=True)
class SocketLost(Event):
    """A market socket ended or fell silent; it is replaced."""

    LEVEL = logging.WARNING
    METRICS = (Counter("klinenode_sockets_lost_total", "Sockets that ended or fell silent."),)

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SocketHandedOver(Event):
    """A market socket that still delivers is being replaced: a new one delivers first, then it is closed."""

    METRICS = (Counter("klinenode_socket_handovers_total", "Sockets replaced while they delivered."),)

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FramesReceived(Event):
    """Socket frames taken in since the last such event, and how many of them were closed klines."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter("klinenode_frames_total", "Socket frames received.", "frames"),
        Counter("klinenode_closed_frames_total", "Socket frames that closed a kline.", "final"),
    )

    frames: int
    final: int
    queue_depth: int


@dataclass(frozen=True, slots=True)
class GarbageDropped(Event):
    """The exchange gave something unusable; it was dropped and will be asked for again."""

    LEVEL = logging.WARNING
    METRICS = (Counter("klinenode_garbage_total", "Unusable upstream data, dropped.", labels={"where": "what"}),)

    where: str
    reason: str

    @property
    def what(self) -> str:
        """The first word of `where`: of a bounded number of words, as labels must be."""
        return self.where.split(" ", 1)[0]


@dataclass(frozen=True, slots=True)
class KlineClosed(Event):
    """A closed 1m kline became servable; `lag_ms` is the time since it closed at the exchange."""

    LEVEL = logging.DEBUG

    symbol: str
    lag_ms: int


@dataclass(frozen=True, slots=True)
class KlineDisputed(Event):
    """A final 1m kline came that differs from the one held (or served and not yet held: None); REST will be asked."""

    LEVEL = logging.WARNING
    METRICS = (Counter("klinenode_klines_disputed_total", "Closed klines that a later closing frame contradicted."),)

    symbol: str
    open_ms: int
    held: Source | None


@dataclass(frozen=True, slots=True)
class DisputeSettled(Event):
    """REST's row of a disputed minute was committed."""

    METRICS = (Counter("klinenode_disputes_settled_total", "Disputed klines that REST confirmed."),)

    symbol: str
    open_ms: int


@dataclass(frozen=True, slots=True)
class RowsCommitted(Event):
    """Rows and their ledger span were committed."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter(
            "klinenode_rows_written_total",
            "Rows committed, by source.",
            "rows",
            labels={"source": "source", "interval": "interval"},
        ),
        Counter("klinenode_rows_revised_total", "Committed rows that changed a held one.", "revised"),
    )

    symbol: str
    interval: str
    source: Source
    rows: int
    span: Span
    revised: int


@dataclass(frozen=True, slots=True)
class RowsSealed(Event):
    """Old rows of a series are kept as one compressed block."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter("klinenode_rows_sealed_total", "Rows that became part of a compressed block.", "rows"),
        Counter("klinenode_sealed_bytes_total", "Bytes of the blocks that these rows became.", "body_bytes"),
    )

    symbol: str
    interval: str
    rows: int
    body_bytes: int


@dataclass(frozen=True, slots=True)
class SealingProgress(Event):
    """How far a pass that seals old rows is: series that are done, of all, and rows so far."""

    LEVEL = logging.INFO

    series: int
    of: int
    rows: int


@dataclass(frozen=True, slots=True)
class BlocksChecked(Event):
    """Sealed blocks were compared with their SHA-256."""

    LEVEL = logging.DEBUG
    METRICS = (Counter("klinenode_blocks_checked_total", "Sealed blocks compared with their SHA-256.", "blocks"),)

    blocks: int


@dataclass(frozen=True, slots=True)
class BlockGivenUp(Event):
    """A sealed block is not what was written: it was deleted, and its rows are fetched again."""

    LEVEL = logging.ERROR
    METRICS = (Counter("klinenode_blocks_damaged_total", "Sealed blocks that were damaged and are fetched again."),)

    symbol: str
    interval: str
    span: Span
    reason: str


@dataclass(frozen=True, slots=True)
class CommitFailed(Event):
    """A batch could not be written; it is kept and tried again."""

    LEVEL = logging.ERROR
    METRICS = (Counter("klinenode_commits_failed_total", "Batches that could not be written."),)

    rows: int
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The database does not take what it is given, for this reason; told once for each reason, not for each try."""

    LEVEL = logging.ERROR

    reason: str


@dataclass(frozen=True, slots=True)
class StoreRecovered(Event):
    """The database takes what it is given again; what it lacks is filled in."""

    LEVEL = logging.WARNING  # whoever read the error wants to read its end


@dataclass(frozen=True, slots=True)
class ArchiveRejected(Event):
    """An archive file is missing, damaged or not whole.

    `check` is what it did not pass: published, reachable, size, checksum, zip, name, columns, rows, order, time or
    whole; `reason` says what was found, `then` what happens next.
    """

    METRICS = (
        Counter(
            "klinenode_archive_rejected_total",
            "Archive files that were not used, by the check that they did not pass.",
            labels={"check": "check"},
        ),
    )

    name: str
    check: str
    reason: str
    then: str


@dataclass(frozen=True, slots=True)
class ArchiveJoined(Event):
    """Values of rows that archive and REST both have were compared; those of mismatches are different ones."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter(
            "klinenode_join_pairs_total",
            "Values of metrics that were compared between archive and REST.",
            "pairs",
            labels={"kind": "kind"},
        ),
        Counter(
            "klinenode_join_mismatches_total",
            "Values of metrics of which archive and REST state different ones.",
            "mismatches",
            labels={"kind": "kind"},
        ),
    )

    symbol: str
    kind: str
    pairs: int
    mismatches: int


@dataclass(frozen=True, slots=True)
class RestFormChanged(Event):
    """REST prints a column otherwise than before, or its values are no longer the archive's (`after` is empty then)."""

    LEVEL = logging.WARNING

    symbol: str
    column: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MetricsFilesRead(Event):
    """Files of metrics of neighbouring days were read.

    `missing` five minutes have no line; `duplicates` lines are equal to another one and `conflicts` differ from one of
    the same time; `unknown` values are blank, or zeros that stand for it; `misplaced` lines are out of order, outside
    the file's day, or have a date without time.
    """

    LEVEL = logging.DEBUG
    METRICS = (
        Counter("klinenode_metrics_files_total", "Archive files of metrics that were read.", "files"),
        Counter(
            "klinenode_metrics_conflicts_total", "Lines in them that differ from one of the same time.", "conflicts"
        ),
        Counter("klinenode_metrics_duplicates_total", "Lines in them that are equal to another one.", "duplicates"),
    )

    symbol: str
    files: int
    failed: int
    lines: int
    missing: int
    duplicates: int
    conflicts: int
    unknown: int
    misplaced: int


@dataclass(frozen=True, slots=True)
class MetricsFilesProgress(Event):
    """How far the reading of the archive's files of metrics is: months of symbols that are done, and of how many."""

    LEVEL = logging.INFO

    done: int
    of: int
    symbol: str
    month_ms: int


@dataclass(frozen=True, slots=True)
class UnpackerLost(Event):
    """A process that unpacked an archive file ended, or none could be started; the file is tried once more."""

    LEVEL = logging.WARNING

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class KlinesVerified(Event):
    """Days of a series (klines, of intervals longer than a day) are now known to be the exchange's own."""

    LEVEL = logging.DEBUG
    METRICS = (
        Counter(
            "klinenode_verified_total",
            "Days of series compared with the exchange's klines and found, or made, equal.",
            "compared",
            labels={"interval": "interval"},
        ),
    )

    symbol: str
    interval: str
    compared: int


@dataclass(frozen=True, slots=True)
class KlinesMended(Event):
    """Held klines differed from the exchange's and were replaced; the old rows are kept as revisions."""

    LEVEL = logging.WARNING
    METRICS = (
        Counter(
            "klinenode_rows_mended_total",
            "Held rows that verification replaced by the exchange's.",
            "rows",
            labels={"interval": "interval"},
        ),
    )

    symbol: str
    interval: str
    rows: int


@dataclass(frozen=True, slots=True)
class IntervalsDisagree(Event):
    """The exchange contradicts itself: its klines of `interval` do not add up to its `other` one at `open_ms`."""

    LEVEL = logging.WARNING
    METRICS = (Counter("klinenode_exchange_disagreements_total", "Klines of which the exchange contradicts itself."),)

    symbol: str
    interval: str
    other: str
    open_ms: int


@dataclass(frozen=True, slots=True)
class GapsCounted(Event):
    """The reconciler compared wish and ledger: klines still missing, and the spans they lie in."""

    METRICS = (
        Gauge(
            "klinenode_klines_missing",
            "Klines wished and not held.",
            "missing_klines",
            merge=Merge.WRITER,
            is_known_at_start=False,
        ),
        Gauge(
            "klinenode_klines_wished", "Klines wished.", "wished_klines", merge=Merge.WRITER, is_known_at_start=False
        ),
        Gauge("klinenode_gaps", "Spans between wish and ledger.", "spans", merge=Merge.WRITER, is_known_at_start=False),
    )

    missing_klines: int
    spans: int
    wished_klines: int

    def has_moved(self, logged: "GapsCounted | None") -> bool:
        """Whether it is worth a line at its level, after the last that was; if not, it is one for DEBUG."""
        if logged is None or self.missing_klines == 0 != logged.missing_klines:
            return True
        moved = abs(self.missing_klines - logged.missing_klines)
        return moved > 0 and moved * GAPS_MOVED_SHARE >= self.wished_klines


@dataclass(frozen=True, slots=True)
class BackfillPaused(Event):
    """History is not being filled (disk nearly full); live ingest goes on."""

    LEVEL = logging.WARNING

    reason: str


@dataclass(frozen=True, slots=True)
class BackfillResumed(Event):
    """History is being filled again."""


@dataclass(frozen=True, slots=True)
class TaskEnded(Event):
    """A supervised task ended although it should run for ever; it starts again after `delay_s`."""

    LEVEL = logging.ERROR
    METRICS = (Counter("klinenode_task_restarts_total", "Restarts of background tasks.", labels={"task": "name"}),)

    name: str
    reason: str
    delay_s: float
    restarts: int
    crash: Exception | None = None


@dataclass(frozen=True, slots=True)
class WishEstimated(Event):
    """What the wish amounts to, beside what the machine has; said once at start. Bytes and seconds are estimates."""

    series: int
    klines: int
    missing_klines: int
    requests: int
    weight: int
    download_bytes: int
    disk_bytes: int
    disk_free_bytes: int | None
    """None when the database is a server's, whose disk cannot be seen."""
    expected_s: int
    summary: str
    """The same for people."""
    shortage: str | None
    """Why history is not begun, and which settings to change; None when all of it fits on the disk."""


@dataclass(frozen=True, slots=True)
class SymbolsReplaced(Event):
    """SYMBOLS was set, and the exchange's list took its place."""

    LEVEL = logging.WARNING

    symbols: tuple[str, ...]
    followed: int
    advice: str


@dataclass(frozen=True, slots=True)
class LeaseChanged(Event):
    """The process became the writer, or found another one at work."""

    is_writer: bool
    holder: str


@dataclass(frozen=True, slots=True)
class LineFailed(Event):
    """The writer cannot be asked by other processes: admin requests have to meet it by chance."""

    LEVEL = logging.WARNING

    reason: str


@dataclass(frozen=True, slots=True)
class RequestsRefused(Event):
    """So many requests were no HTTP, too large, too slow or too many; reported once a minute at most."""

    by_status: dict[int, int]


@dataclass(frozen=True, slots=True)
class ApiKeysRead(Event):
    """API_KEYS_FILE was read: so many keys are known from now on."""

    keys: int


@dataclass(frozen=True, slots=True)
class ApiKeysRefused(Event):
    """API_KEYS_FILE cannot be used for this reason; the keys that were known before stay."""

    LEVEL = logging.ERROR

    reason: str


@dataclass(frozen=True, slots=True)
class QuotasNotShared(Event):
    """The file in which the processes count each key's requests cannot be used: each process grants the whole quota."""

    LEVEL = logging.WARNING

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaAway(Event):
    """The replica of DB_READ_URL cannot be read; rows are read from DB_URL until it can."""

    LEVEL = logging.WARNING

    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaUsed(Event):
    """Rows are read from the replica of DB_READ_URL, where it has what this process promises."""


@dataclass(frozen=True, slots=True)
class ExportEnded(Event):
    """A request for /v1/export has its file, or will not get it.

    `result`: done, missing (rows that the client did not allow to be missing), slow (not made in time), cancelled (the
    client disconnected, or the deadline of its answer passed), failed.
    """

    METRICS = (
        Counter(
            "klinenode_exports_total", "Files of /v1/export, by how making them ended.", labels={"result": "result"}
        ),
        Counter("klinenode_export_rows_total", "Rows of the files that /v1/export has made.", "rows"),
        Counter("klinenode_export_bytes_total", "Bytes of the files that /v1/export has made.", "bytes"),
        Histogram(
            "klinenode_export_seconds",
            "Time to make a file of /v1/export, or to give it up.",
            "elapsed_s",
            bounds=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0),
        ),
    )

    result: str
    rows: int
    bytes: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class StoreLinked(Event):
    """The library by which the process accesses the database, and its version."""

    library: str
    version: str


@dataclass(frozen=True, slots=True)
class StoreLibraryFaulty(Event):
    """The library has a known fault; the note says what must not be done. `/v1/health` has the same note."""

    LEVEL = logging.WARNING

    note: str


@dataclass(frozen=True, slots=True)
class NodeStarted(Event):
    """The node answers requests."""

    url: str
    database: str
    upstream: str


@dataclass(frozen=True, slots=True)
class NodeReady(Event):
    """The tail of every wished series is held and fresh for the first time, `after_s` seconds after the start."""

    url: str
    after_s: int


@dataclass(frozen=True, slots=True)
class NodeStopped(Event):
    """The node has flushed and released everything."""

    reason: str


EVENTS: Final = tuple(
    kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
)
"""Every class of events there is."""

Observe = Callable[[Event], None]
