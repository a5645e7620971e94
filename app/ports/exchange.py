"""The exchange: its REST API and its archive."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from app.binance.archive_csv import ArchiveFile
from app.binance.metrics_csv import MetricsDay, Report
from app.domain.columns import Columns
from app.domain.interval import Grid, Interval
from app.domain.kind import Bucket
from app.domain.kline import Precision
from app.domain.series import Series
from app.domain.span import Span
from app.ports.errors import UpstreamError


class Priority(IntEnum):
    """The order in which requests get weight; a smaller number goes first and may use more of the budget."""

    USER = 0
    TAIL = 1
    BACKFILL = 2
    VERIFY = 3


class RowPages(Protocol):
    """The rows of series by REST, limited by the weight budget. May raise UpstreamError."""

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        """Request klines, ascending: the oldest `limit` that open in `window`.

        Without a window: the newest `limit`, of which the last is in progress. With `newest`: the newest `limit` before
        the window's end; the window must begin at 0.
        """
        ...


class RestApi(RowPages, Protocol):
    """Binance's REST API, limited by the weight budget. Every method may raise UpstreamError."""

    async def exchange_info(self, priority: Priority) -> bytes:
        """The body of exchangeInfo."""
        ...

    async def server_time_ms(self, priority: Priority) -> int:
        """The exchange's clock in ms since the epoch (`/fapi/v1/time`)."""
        ...


class RawAnswer(NamedTuple):
    """An unchanged answer of the exchange: 200, or an error status with the exchange's error body."""

    status: int
    body: bytes


class RawRest(Protocol):
    """Any GET request to Binance's REST API, limited by the weight budget."""

    async def ask(
        self, path: str, params: Mapping[str, str], weight: int, bucket: Bucket | None, priority: Priority
    ) -> RawAnswer:
        """Send a request that costs `weight`, or one of `bucket`. Raises UpstreamError, but not UpstreamRejected."""
        ...


class FileKlines(NamedTuple):
    """The rows of an archive file, and the longer klines rolled up from its whole UTC days."""

    rows: Columns
    longer: Mapping[Interval, Columns]


class DayRead(NamedTuple):
    """A file of metrics that was read."""

    sha256: str
    """Of the ZIP, as its `.CHECKSUM` states it, in lower-case hex."""
    report: Report


class FileMetrics(NamedTuple):
    """The rows of some days of one symbol, by the name of their kind (app.kinds.metrics), each ascending.

    Numbers are as the archive prints them. Where two lines or two files have different rows of one time, the later line
    and the file of the later day count, and the other row is in `replaced`.
    """

    rows: Mapping[str, Columns]
    """Also those that open next to the days, at most five minutes outside."""
    replaced: Mapping[str, Columns]
    """Rows that another one of the same time replaced, ascending; of several of one time only the last."""
    read: Mapping[MetricsDay, DayRead]
    failed: Mapping[MetricsDay, UpstreamError]
    """The files that could not be read, and why: NotPublished, FileRejected, UpstreamUnavailable."""


class Archive(Protocol):
    """data.binance.vision. Every method may raise UpstreamError."""

    async def fetch(
        self, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
    ) -> FileKlines:
        """Download a file, verify its checksum, and return its rows in REST's form, ascending. Rows may be missing.

        `longer`: the intervals to roll up from the file's minutes (app.domain.rollup_columns).
        """
        ...

    async def has(self, file: ArchiveFile) -> bool:
        """Whether the archive has published `file`."""
        ...

    async def metrics(self, files: Sequence[MetricsDay]) -> FileMetrics:
        """Download files of one symbol, ascending days, verify their checksums, and return their rows.

        A file that cannot be read does not keep the others from being read, and raises nothing.
        """
        ...

    async def metrics_sha256(self, file: MetricsDay) -> str:
        """The SHA-256 that the file's `.CHECKSUM` states. Raises NotPublished when there is none."""
        ...


class Exchange(NamedTuple):
    """Where history comes from."""

    rest: RestApi
    archive: Archive
