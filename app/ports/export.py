"""Files of exported rows: what their columns are, and how they are written and read back."""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from app.domain.series import Series
from app.domain.span import Span


class ExportError(Exception):
    """An export, or a check of one, cannot be carried out; the message says what to do."""


class Format(StrEnum):
    """What files are written; the value is the word of the command's --format."""

    PARQUET = "parquet"
    ARROW = "arrow"
    CSV = "csv"
    SQLITE = "sqlite"
    MARKETSTORE = "marketstore"


class ColumnType(Enum):
    """What the values of a column are: int milliseconds, decimal text of a price or an amount, int, or text."""

    TIME_MS = "time_ms"
    PRICE = "price"
    AMOUNT = "amount"
    COUNT = "count"
    WORD = "word"


class Shape(NamedTuple):
    """The lines of a kind's rows: values joined by commas in the order of `columns`, each line but the last with LF.

    `ending` is what follows the last value in each line: constants that the exchange prints and no file has.
    """

    columns: tuple[tuple[str, ColumnType], ...]
    ending: bytes = b""

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [name for name, _ in self.columns]


class Lines(NamedTuple):
    """Some rows of a series as text in the form of `shape`, without a last line feed; `rows` is their number."""

    rows: int
    text: bytes
    shape: Shape


class RowsFile(Protocol):
    """A file that is being written. Its methods block: they are called in threads, one call at a time."""

    def write(self, series: Series, lines: Lines) -> None:
        """Append rows. Raises ExportError when a value does not fit the column, OSError."""
        ...

    def close(self) -> None:
        """Write what is left; the file is complete, but not yet on the disk. Raises OSError."""
        ...


class FileKind(NamedTuple):
    """What a file is: its format, and the shape of its lines (of the first ones, if it has a table for each kind).

    `is_float`: decimals become float64.
    """

    format: Format
    shape: Shape
    is_float: bool


OpenRows = Callable[[Path, FileKind], RowsFile]
"""Begins a file at a path that does not exist. Raises ExportError when a library is missing; OSError."""


READ_ROWS: Final = 1_000
"""Rows of one batch of a file that is read back, at most, and of a node's answer that it is compared with."""


class ReadBatch(NamedTuple):
    """At most READ_ROWS rows of a file, ascending, and the names of the columns that it has.

    Decimals are Decimal, text in CSV and SQLite, or float; unknown values are None.
    """

    names: Sequence[str]
    rows: Sequence[tuple[Any, ...]]


ReadRows = Callable[[Path, FileKind, Series, Span], Iterator[ReadBatch]]
"""The rows of a series in a file that open in a span, some at a time. Raises ExportError, OSError."""


TIMEFRAMES: Final = {
    "1m": "1Min",
    "3m": "3Min",
    "5m": "5Min",
    "15m": "15Min",
    "30m": "30Min",
    "1h": "1H",
    "2h": "2H",
    "4h": "4H",
    "6h": "6H",
    "8h": "8H",
    "12h": "12H",
    "1d": "1D",
    "1w": "1W",
}
"""MarketStore's names of intervals. It has no month, and counts 3 days from another day than the exchange."""


class ExportFolder(Protocol):
    """The folder of an export, which one process uses at a time. Its methods block. All raise OSError."""

    def begin(self, path: str) -> Path:
        """Where the file is written that `keep` will name `path` (relative, with slashes)."""
        ...

    def keep(self, path: str) -> tuple[int, str]:
        """Make a written file durable and give it its name; returns its size in bytes and its SHA-256."""
        ...

    def digest(self, path: str) -> tuple[int, str] | None:
        """The size and SHA-256 of a file; None when there is none."""
        ...

    def note(self, entry: bytes) -> None:
        """Add a line to the journal, which outlives a crash."""
        ...

    def notes(self) -> list[bytes]:
        """The whole lines of the journal."""
        ...

    def manifest(self) -> bytes | None:
        """The manifest; None when there is none yet."""
        ...

    def conclude(self, manifest: bytes) -> None:
        """Replace the manifest and delete the journal."""
        ...
