"""The exchange: its REST API and its archive."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

from app.binance.archive_csv import ArchiveFile
from app.domain.columns import Columns
from app.domain.interval import Grid, Interval
from app.domain.kind import Bucket
from app.domain.kline import Precision
from app.domain.series import Series
from app.domain.span import Span


class Priority(IntEnum):
    """Who goes first when weight is short; a smaller number goes first and may use more of the budget."""

    USER = 0
    TAIL = 1
    BACKFILL = 2
    VERIFY = 3


class RestApi(Protocol):
    """Binance's REST API, within the weight budget. Every call raises UpstreamError."""

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
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


class Exchange(NamedTuple):
    """Where history comes from."""

    rest: RestApi
    archive: Archive
