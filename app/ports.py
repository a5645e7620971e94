"""The interfaces between services and adapters: the clock, the store and the exchange.

Each has two implementations: one that touches the world and one that a test or the simulation owns.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

from app.binance.archive_csv import ArchiveFile
from app.binance.families import TRADES, parted
from app.binance.stream_event import KlineEvent
from app.domain.columns import Columns
from app.domain.interval import Grid, Interval
from app.domain.kline import Kline, Precision
from app.domain.ledger import Ledger, Source
from app.domain.listing import Listing
from app.domain.reason import Reason
from app.domain.span import Span, Spans
from app.domain.verification import Verification


class Clock(Protocol):
    """Wall time and waiting. Nothing else in klinenode may read a clock or sleep."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds of this clock's time."""
        ...


class MachineClock(Clock, Protocol):
    """The clock of this machine, which somebody may set, and beside it one that nobody can."""

    def steady_ms(self) -> int:
        """Milliseconds since some moment; it only goes forward, also while the machine is suspended."""
        ...

    def boot(self) -> str:
        """Which start of the machine `steady_ms` counts from; "" where another process may count from another one."""
        ...


class Series(NamedTuple):
    """A symbol and an interval: the unit of wish and ledger."""

    symbol: str
    interval: Interval

    @property
    def listed(self) -> str:
        """The name by which the exchange lists whose klines these are."""
        return parted(self.symbol)[0]

    @property
    def is_of_trades(self) -> bool:
        """Whether the klines are of trades: longer ones add up, and sockets and archive have them too."""
        return parted(self.symbol)[1] is TRADES


# --- the store ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Batch:
    """What one source says of one series: `rows` (ascending, all opening inside `spans`) and the spans it answers for.

    Every grid time in `spans` has its row in `rows`; with source ABSENT there are no rows: the spans are proven empty.
    Of a roll-up, `as_of` is the Committer's epoch from before its parts were read: what changed later voids it. One
    that is committed together with its parts, in a batch of `made_of`, counts only where nothing was known of those:
    otherwise the store may keep other parts than these. `withdraws`: what was recorded absent in `spans` is unknown
    again, because the exchange has klines there after all.
    """

    series: Series
    source: Source
    spans: Spans
    rows: Sequence[Kline]
    as_of: int | None = None
    made_of: Series | None = None
    withdraws: bool = False


class Invalidated(NamedTuple):
    """Rolled-up klines whose parts have changed: no longer held, to be made anew. The ledger is the one afterwards."""

    series: Series
    ledger: Ledger
    spans: Spans


class Committed(NamedTuple):
    """What became of a batch: the ledger afterwards, the spans this source was granted, and what it changed.

    `changed` are the open times of held rows that became others or vanished, and those that were recorded absent and
    are not any longer; `unheld` what was made of the klines of these times.
    """

    ledger: Ledger
    granted: Spans
    revised: int
    changed: Spans = Spans()
    unheld: tuple[Invalidated, ...] = ()


class Disagreement(NamedTuple):
    """The exchange's own intervals contradict each other: klines of `series` do not add up to its `other` one.

    `ours` is what they add up to, `theirs` the exchange's own row of `other` that opens at `open_ms`; both as JSON.
    """

    series: Series
    open_ms: int
    other: Interval
    ours: str
    theirs: str
    seen_ms: int


class Snapshot(NamedTuple):
    """Rows and ledger of a series, read in one transaction."""

    rows: list[Kline]
    ledger: Ledger


class Change(NamedTuple):
    """What became of a series: the span of open times that may have changed, and its ledger afterwards."""

    span: Span
    ledger: Ledger


class Changes(NamedTuple):
    """What was committed since a change number, `last` being the newest one.

    Not `is_whole`: more has happened than is remembered, or it is another database; everything is to be read anew.
    """

    last: int
    is_whole: bool
    series: Mapping[Series, Change]


class Relisting(NamedTuple):
    """A name that another listing has taken over.

    `firsts`: of each symbol of series that belongs to the name, where the first kline of `listing` opens. Rows from
    there on are `listing`'s own; unless `keeps_newer` they are to be fetched anew, as they were taken in by the other's
    precision.
    """

    former: Listing
    listing: Listing
    firsts: Mapping[str, int]
    keeps_newer: bool


EVERYTHING: Final = Span(0, 1 << 53)
"""The change of a series of which nobody can tell which open times it concerns."""


NO_WRITER: Final = "this process does not hold the writer lease; ask the one that does"


class StoreUnavailable(Exception):
    """The database cannot be read or written right now (locked, full, gone); the message says what to do."""

    def __init__(self, message: str, cause: Reason = Reason.DATABASE) -> None:
        super().__init__(message)
        self.cause = cause


class StoreReader(Protocol):
    """Reads of the store. Any number at once; they never wait for the writer."""

    async def read(self, series: Series, window: Span, limit: int, *, newest: bool = False) -> Snapshot:
        """At most `limit` rows that open in `window`, ascending: the oldest ones, or the newest; and the ledger."""
        ...

    async def read_encoded(
        self, series: Series, window: Span, limit: int, *, newest: bool = False
    ) -> tuple[int, bytes]:
        """What `read` reads, as REST prints it: how many rows, and the body of an answer made of them."""
        ...

    async def ledgers(self) -> dict[Series, Ledger]:
        """The whole ledger."""
        ...

    async def changes(self, after: int | None) -> Changes:
        """What was committed after the change number `after`; by None one learns the newest number."""
        ...

    async def read_spans(self, wanted: Mapping[Series, Span]) -> dict[Series, list[Kline]]:
        """The rows that open in a span of each of many series, ascending; series without any are left out."""
        ...

    async def stand_down(self) -> tuple[int, str] | None:
        """The stored stand-down as (until_ms, reason), if one was ever recorded."""
        ...

    async def document(self, name: str) -> tuple[bytes, int] | None:
        """A stored document (exchangeInfo as the exchange sent it) and when it was stored (ms)."""
        ...

    async def anchors(self) -> dict[str, int]:
        """By symbol: the open time of one 3d kline of the exchange, which fixes the symbol's 3d grid."""
        ...

    async def extra_wishes(self) -> dict[Series, Span]:
        """Spans that an operator asked for beyond BACKFILL_DAYS."""
        ...

    async def listings(self) -> dict[str, Listing]:
        """By symbol: the listing whose klines are held under that name."""
        ...

    async def verifications(self) -> dict[Series, Verification]:
        """What was compared with the exchange, and when."""
        ...

    async def disagreements(self) -> list[Disagreement]:
        """Where the exchange contradicts itself."""
        ...

    async def revisions(self) -> dict[Series, int]:
        """By series: how many rows were replaced since the database was made."""
        ...


class StoreWriter(StoreReader, Protocol):
    """Writes of the store; only the holder of the writer lease has one."""

    async def commit(self, batches: Sequence[Batch]) -> list[Committed]:
        """Write rows and ledger spans of all `batches` in one transaction. Raises StoreUnavailable: nothing is written.

        A source never overwrites what a source of higher rank has said; rows that change what was held leave the old
        row in the revisions.
        """
        ...

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Remember that no request may leave before `until_ms`."""
        ...

    async def save_document(self, name: str, body: bytes, stored_ms: int) -> None:
        """Keep a document."""
        ...

    async def save_listings(self, listings: Sequence[Listing]) -> None:
        """Remember whose klines are held."""
        ...

    async def relist(self, relisting: Relisting) -> dict[Series, Ledger]:
        """Keep what is held from before each first kline apart, as the former listing's; returns the ledgers now."""
        ...

    async def unlist(self, listing: Listing, since_ms: int) -> dict[Series, Ledger]:
        """Take back that a name begins at `since_ms`: what lies before is unknown again; the ledgers that change."""
        ...

    async def save_anchor(self, symbol: str, open_ms: int) -> None:
        """Remember one open time of the symbol's 3d grid."""
        ...

    async def save_verified(self, series: Series, spans: Spans, at_ms: int) -> Verification:
        """Remember that `spans` were compared, beginning at `at_ms`; returns all checks of the series.

        What was changed at that time or later is left out: it is not what was compared.
        """
        ...

    async def save_disagreement(self, disagreement: Disagreement) -> None:
        """Remember where the exchange contradicts itself; a later one of the same kline takes the place."""
        ...

    async def save_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Remember spans that an operator asked for; a series' earlier one is widened."""
        ...

    async def withdraw_extra_wishes(self, wishes: Mapping[Series, Span]) -> None:
        """Forget spans that an operator asked for. One out of the middle of a longer one cannot be: that one stays."""
        ...


# --- the writer, asked by others ----------------------------------------------------------------------------------


class LineDown(Exception):
    """The process that writes cannot be asked at the moment; the message says what to do."""


class Asked(NamedTuple):
    """A request that only the writer can answer, as it came in; `client` is the address of who asked."""

    method: str
    path: str
    query: str
    client: str
    headers: list[tuple[str, str]]
    body: bytes


class Told(NamedTuple):
    """The writer's answer."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


# --- the exchange --------------------------------------------------------------------------------------------------


class Priority(IntEnum):
    """Who goes first when weight is short; a smaller number goes first and may use more of the budget."""

    USER = 0
    TAIL = 1
    BACKFILL = 2
    VERIFY = 3


class UpstreamError(Exception):
    """Why an upstream request gave no data. What the caller can do depends on the kind:

    UpstreamError
     ├── StandDown            nothing leaves before `until_ms`; wait, serve what is held
     ├── UpstreamUnavailable  no answer, 5xx, timeout after retries; try again later
     │    ├── UpstreamAway    refused here: the exchange has not answered for a while; it is probed meanwhile
     │    └── BucketFull      refused here: as much was asked of this kind as the exchange grants in its time
     ├── UpstreamRejected     the exchange says this request is wrong (`error` has its code); asking again is pointless
     ├── UpstreamGarbage      an answer that cannot be used; count it and ask again later
     │    └── FileRejected    an archive file that did not pass a check
     └── NotPublished         the archive does not have this file (404)
    """

    cause = Reason.EXCHANGE


class StandDown(UpstreamError):
    """No request may leave before `until_ms`."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(f"standing down until {until_ms}: {reason}")
        self.cause = Reason.STAND_DOWN
        self.until_ms = until_ms
        self.reason = reason


class UpstreamUnavailable(UpstreamError):
    """No usable answer came, after retries; or none was asked for, and `cause` says why."""

    def __init__(self, message: str, cause: Reason = Reason.EXCHANGE) -> None:
        super().__init__(message)
        self.cause = cause


class UpstreamAway(UpstreamUnavailable):
    """The exchange has not answered for a while; asking before `until_ms` is pointless."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(reason)
        self.until_ms = until_ms


class BucketFull(UpstreamUnavailable):
    """The requests that the exchange grants of a kind are used up; there is room again at `until_ms`."""

    def __init__(self, until_ms: int, reason: str) -> None:
        super().__init__(reason, Reason.WEIGHT)
        self.until_ms = until_ms


class UpstreamRejected(UpstreamError):
    """The exchange refused the request with one of its error codes."""

    def __init__(self, status: int, code: int, msg: str) -> None:
        super().__init__(f"{status} {code} {msg}")
        self.status = status
        self.code = code
        self.msg = msg


class UpstreamGarbage(UpstreamError):
    """The answer is not what it should be."""

    def __init__(self, message: str, cause: Reason = Reason.EXCHANGE) -> None:
        super().__init__(message)
        self.cause = cause


class FileRejected(UpstreamGarbage):
    """An archive file did not pass a check: size, checksum, zip, name, columns, rows, order or time."""

    def __init__(self, check: str, message: str) -> None:
        super().__init__(message)
        self.check = check


class NotPublished(UpstreamError):
    """The archive does not have the file."""


class RestApi(Protocol):
    """Binance's REST API, within the weight budget. Every call raises UpstreamError."""

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> list[Kline]:
        """The oldest `limit` klines that open in `window`; without a window the newest there are, the live one last.

        `newest`: the last `limit` before the window's end, which must begin at 0.
        """
        ...

    async def exchange_info(self, priority: Priority) -> bytes:
        """The body of exchangeInfo."""
        ...

    async def server_time_ms(self, priority: Priority) -> int:
        """The exchange's clock."""
        ...


class Bucket(IntEnum):
    """Requests that the exchange counts apart, whatever their weight: so many in five minutes (binance-facts 1.1)."""

    FUNDING = 0
    DATA = 1


class RawAnswer(NamedTuple):
    """An answer of the exchange as it came: 200, or its refusal of the request in its own words."""

    status: int
    body: bytes


class RawRest(Protocol):
    """Any question to Binance's REST API, within the weight budget."""

    async def ask(
        self, path: str, params: Mapping[str, str], weight: int, bucket: Bucket | None, priority: Priority
    ) -> RawAnswer:
        """The exchange's answer. Raises UpstreamError, but not UpstreamRejected."""
        ...


class FileKlines(NamedTuple):
    """What an archive file holds, and the longer klines that could be made of its whole UTC days."""

    rows: Columns
    longer: Mapping[Interval, Columns]


class Archive(Protocol):
    """data.binance.vision. Every call raises UpstreamError."""

    async def fetch(
        self, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
    ) -> FileKlines:
        """The rows of a file in REST's form, ascending, after its checksum was verified. Rows may be missing.

        `longer`: what to make of minutes meanwhile (app.domain.rollup_columns).
        """
        ...

    async def has(self, file: ArchiveFile) -> bool:
        """Whether the archive has a file."""
        ...


class MarketSockets(Protocol):
    """Kline streams. Runs until cancelled; reconnects by itself."""

    def want(self, streams: Collection[Series]) -> None:
        """Set which series are streamed; takes effect without a restart."""
        ...

    def events(self) -> AsyncIterator[KlineEvent]:
        """Kline events as they arrive, for ever."""
        ...

    async def run(self) -> None:
        """Keep the sockets that the wanted streams need, for ever."""
        ...

    def heard_ms(self, series: Series) -> int | None:
        """The event time of the newest frame on a socket whose stream of `series` is alive; None when there is none.

        A symbol without trades sends nothing between its closing frames, so the socket speaks for its streams, unless
        a stream has missed whole minutes, or is so busy that its own silence means something.
        """
        ...

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`: one that kept silent is sick, not quiet."""
        ...

    def status(self) -> dict[str, object]:
        """Per socket: streams, age of the newest frame in ms, connects; for health."""
        ...


# --- streams of any kind ------------------------------------------------------------------------------------------

Listener = Callable[[str, bytes], None]
"""Takes the name of a stream and an event as the exchange wrote it ("data" of the combined form). Never waits."""


class StreamsFull(Exception):
    """As many different streams are subscribed as may be; the message says what to do."""


class StreamHub(Protocol):
    """Every market stream of the exchange, subscribed once however many listen. Names are Binance's, lower case."""

    def join(self, stream: str, listener: Listener) -> None:
        """Hear a stream from now on; the first listener has it subscribed. Raises StreamsFull.

        A name that no stream has stays silent, as at the exchange.
        """
        ...

    def leave(self, stream: str, listener: Listener) -> None:
        """Hear it no more; without listeners it is released after a while. Unknown ones are fine."""
        ...

    def heard_ms(self, stream: str) -> int | None:
        """When the newest frame of the stream came.

        None when there was none since it was subscribed (again), or when it is silent for longer than its kind ever
        is: what came before says nothing about now. Between two frames of a stream that is alive nothing happened.
        """
        ...


class StreamSource(Protocol):
    """Where a hub gets its frames from: the exchange, or the process that has them from there."""

    def add(self, streams: Iterable[str]) -> None:
        """Deliver these too; takes effect without a restart."""
        ...

    def remove(self, streams: Iterable[str]) -> None:
        """Deliver these no more."""
        ...

    def heard_ms(self, stream: str) -> int | None:
        """See StreamHub."""
        ...
