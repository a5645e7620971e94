"""Everything worth noticing, as facts. Code observes; logs, metrics and tests subscribe (infra/telemetry.py).

What happens thousands of times a second is not an event each: frames are reported in batches, cache hits are counters
read on scrape.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.ledger import Source
from app.domain.span import Span


@dataclass(frozen=True, slots=True)
class SymbolsSynced:
    """The set of wished symbols was read from the exchange."""

    total: int
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SymbolsUnlisted:
    """The settings name symbols that the exchange does not list."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relisted:
    """A name belongs to another coin since `since_ms`; what was held of it is kept apart (tables former_…)."""

    name: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class RelistingRefuted:
    """The exchange has klines of a name from before `since_ms` after all: they are fetched."""

    name: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class RequestDone:
    """An upstream REST or archive request ended; `status` is 0 when no answer came. `used_weight` is the exchange's."""

    path: str
    status: int
    weight: int
    used_weight: int | None
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class StandDownBegan:
    """The exchange told us to stay away: no request leaves before `until_ms`."""

    until_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExchangeSilent:
    """Several requests in a row got no answer: only probes are sent until one does."""

    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class ExchangeAnswers:
    """The exchange has answered again; requests go on as before."""


@dataclass(frozen=True, slots=True)
class StandingNotShared:
    """The file by which processes share their weight was damaged, or cannot be used; `reason` says what follows."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class SocketOpened:
    """A market socket is connected and its streams are acknowledged."""

    name: str
    streams: int


@dataclass(frozen=True, slots=True)
class SocketLost:
    """A market socket ended or fell silent; it is replaced."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SocketHandedOver:
    """A market socket that still delivers is being replaced: a new one delivers first, then it is closed."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FramesReceived:
    """Socket frames taken in since the last such event, and how many of them were closed klines."""

    frames: int
    final: int
    queue_depth: int


@dataclass(frozen=True, slots=True)
class GarbageDropped:
    """The exchange gave something unusable; it was dropped and will be asked for again."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class KlineClosed:
    """A closed 1m kline became servable; `lag_ms` is the time since it closed at the exchange."""

    symbol: str
    lag_ms: int


@dataclass(frozen=True, slots=True)
class KlineDisputed:
    """A final 1m kline came that differs from the one held (or served and not yet held: None); REST will be asked."""

    symbol: str
    open_ms: int
    held: Source | None


@dataclass(frozen=True, slots=True)
class DisputeSettled:
    """REST's row of a disputed minute was committed."""

    symbol: str
    open_ms: int


@dataclass(frozen=True, slots=True)
class RowsCommitted:
    """Rows and their ledger span were committed."""

    symbol: str
    interval: str
    source: Source
    rows: int
    span: Span
    revised: int


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """A batch could not be written; it is kept and tried again."""

    rows: int
    reason: str


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The database does not take what it is given, for this reason; told once for each reason, not for each try."""

    reason: str


@dataclass(frozen=True, slots=True)
class StoreRecovered:
    """The database takes what it is given again; what it lacks is filled in."""


@dataclass(frozen=True, slots=True)
class ArchiveRejected:
    """An archive file is missing, damaged or not whole.

    `check` is what it did not pass: published, reachable, size, checksum, zip, name, columns, rows, order, time or
    whole; `reason` says what was found, `then` what happens next.
    """

    name: str
    check: str
    reason: str
    then: str


@dataclass(frozen=True, slots=True)
class UnpackerLost:
    """A process that unpacked an archive file ended, or none could be started; the file is tried once more."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class KlinesVerified:
    """Days of a series (klines, of intervals longer than a day) are now known to be the exchange's own."""

    symbol: str
    interval: str
    compared: int


@dataclass(frozen=True, slots=True)
class KlinesMended:
    """Held klines differed from the exchange's and were replaced; the old rows are kept as revisions."""

    symbol: str
    interval: str
    rows: int


@dataclass(frozen=True, slots=True)
class IntervalsDisagree:
    """The exchange contradicts itself: its klines of `interval` do not add up to its `other` one at `open_ms`."""

    symbol: str
    interval: str
    other: str
    open_ms: int


@dataclass(frozen=True, slots=True)
class GapsCounted:
    """The reconciler compared wish and ledger: klines still missing, and the spans they lie in."""

    missing_klines: int
    spans: int
    wished_klines: int


@dataclass(frozen=True, slots=True)
class BackfillPaused:
    """History is not being filled (disk nearly full); live ingest goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class BackfillResumed:
    """History is being filled again."""


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A supervised task ended although it should run for ever; it starts again after `delay_s`."""

    name: str
    reason: str
    delay_s: float
    restarts: int
    crash: Exception | None = None


@dataclass(frozen=True, slots=True)
class WishEstimated:
    """What the wish amounts to, beside what the machine has; said once at start. Bytes and seconds are estimates."""

    series: int
    klines: int
    missing_klines: int
    requests: int
    weight: int
    download_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    expected_s: int
    summary: str
    """The same for people."""
    shortage: str | None
    """Why history is not begun, and which settings to change; None when all of it fits on the disk."""


@dataclass(frozen=True, slots=True)
class SymbolsReplaced:
    """SYMBOLS was set, and the exchange's list took its place."""

    symbols: tuple[str, ...]
    followed: int
    advice: str


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """The process became the writer, or found another one at work."""

    is_writer: bool
    holder: str


@dataclass(frozen=True, slots=True)
class LineFailed:
    """The writer cannot be asked by other processes: admin requests have to meet it by chance."""

    reason: str


@dataclass(frozen=True, slots=True)
class RequestsRefused:
    """So many requests were no HTTP, too large, too slow or too many; reported once a minute at most."""

    by_status: dict[int, int]


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """The node answers requests."""

    url: str
    database: str
    upstream: str


@dataclass(frozen=True, slots=True)
class NodeStopped:
    """The node has flushed and released everything."""

    reason: str


Event = (
    SymbolsSynced
    | SymbolsUnlisted
    | Relisted
    | RelistingRefuted
    | RequestDone
    | StandDownBegan
    | ExchangeSilent
    | ExchangeAnswers
    | StandingNotShared
    | SocketOpened
    | SocketLost
    | SocketHandedOver
    | FramesReceived
    | GarbageDropped
    | KlineClosed
    | KlineDisputed
    | DisputeSettled
    | RowsCommitted
    | CommitFailed
    | StoreFailed
    | StoreRecovered
    | ArchiveRejected
    | UnpackerLost
    | KlinesVerified
    | KlinesMended
    | IntervalsDisagree
    | GapsCounted
    | BackfillPaused
    | BackfillResumed
    | TaskEnded
    | WishEstimated
    | SymbolsReplaced
    | LeaseChanged
    | LineFailed
    | RequestsRefused
    | NodeStarted
    | NodeStopped
)

Observe = Callable[[Event], None]
