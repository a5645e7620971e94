"""Unpacks and checks a downloaded ZIP of the archive."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final, Protocol

from app.binance.archive_bulk import Unusual, parse_parts
from app.binance.archive_csv import ArchiveFile, BadFile, parse
from app.domain.columns import Columns
from app.domain.interval import Grid, Interval
from app.domain.kind import Kind
from app.domain.kline import BadKline, Kline, Precision
from app.domain.rollup_columns import DayByDay
from app.kinds.klines import KLINES
from app.ports.exchange import FileKlines

CSV_BYTES_MAX: Final = 64 * 1024 * 1024  # a month of 1m has 6 MB; a larger one may be a ZIP bomb
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_DIRECTORY_ENTRY: Final = b"PK\x01\x02"
_ENTRIES_MAX: Final = 16  # one is right; the same bytes may also occur in compressed data, though very rarely
_PIECE_BYTES: Final = 1024 * 1024
_UNPACKABLE: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, UnicodeDecodeError, NotImplementedError,
    RuntimeError, ValueError, OverflowError,  # invalid versions, passwords and offsets
)  # fmt: skip
"""The documented exceptions of the standard library for damaged ZIPs, and those that the fuzzer found."""


class Collector(Protocol):
    """Collects the rows of a series, part by part."""

    def take(self, rows: Columns) -> None:
        """Add rows, which must open after all those added before."""
        ...

    def found(self) -> Columns:
        """All added rows. Nothing can be added afterwards."""
        ...


Collect = Callable[[Kind, Interval], Collector]
"""Creates a Collector for a series; pickled for other processes, so it must be a module's global."""


class Gathered:
    """A Collector that returns plain Columns."""

    def __init__(self, kind: Kind, interval: Interval) -> None:
        del kind, interval  # their rows are collected like any others
        self._parts: list[Columns] = []

    def take(self, rows: Columns) -> None:
        """Add rows, which must open after all those added before."""
        self._parts.append(rows)

    def found(self) -> Columns:
        """All added rows."""
        return Columns.joined(self._parts)


def read_file(
    download: IO[bytes],
    file: ArchiveFile,
    grid: Grid,
    precision: Precision,
    longer: Sequence[Interval] = (),
    collect: Collect = Gathered,
) -> FileKlines:
    """The klines of a downloaded ZIP, and those rolled up from them. Raises BadKline for any fault of the file."""
    try:
        text = unpack(download, file.name, CSV_BYTES_MAX).decode("ascii")
    except UnicodeDecodeError as error:
        raise BadFile("zip", f"no text: {error}") from error
    with suppress(Unusual):
        return _by_parts(text, file, grid, precision, longer, collect)
    collector = collect(KLINES, file.interval)
    collector.take(Columns.of(_ascending(parse(text, grid, precision), file)))
    return FileKlines(collector.found(), {})  # the reconciler rolls them up later


def _by_parts(
    text: str, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval], collect: Collect
) -> FileKlines:
    """All rows and their roll-ups. Raises Unusual."""
    collectors = {interval: collect(KLINES, interval) for interval in (file.interval, *longer)}
    days = DayByDay(precision, longer)
    for rows, is_uniform in parse_parts(text, grid, precision):
        if rows.opens_ms[0] < file.span.start_ms or rows.opens_ms[-1] >= file.span.end_ms:
            raise Unusual
        collectors[file.interval].take(rows)
        if longer:
            _take_all(collectors, days.take(rows, is_uniform=is_uniform))
    if longer:
        _take_all(collectors, days.rest())
    made = {interval: rows for interval, collector in collectors.items() if (rows := collector.found())}
    return FileKlines(made.pop(file.interval), made)


def _take_all(collectors: Mapping[Interval, Collector], made: Mapping[Interval, Columns]) -> None:
    for interval, rows in made.items():
        collectors[interval].take(rows)


def unpack(download: IO[bytes], name: str, bytes_max: int) -> bytes:
    """The content of `<name>.csv`, the only file of a downloaded ZIP. Raises BadFile, also above `bytes_max`."""
    try:
        return _unpacked(download, f"{name}.csv", bytes_max)
    except BadKline:
        raise
    except _UNPACKABLE as error:
        raise BadFile("zip", f"no ZIP that can be read: {error}") from error


def _unpacked(download: IO[bytes], expected: str, bytes_max: int) -> bytes:
    _check_directory(download)
    download.seek(0)
    with zipfile.ZipFile(download) as archive:
        names = archive.namelist()
        if names not in ([expected], [expected.encode().decode("cp437")]):  # how a name without the UTF-8 flag reads
            raise BadFile("name", f"holds {names!r:.200} instead of {expected}")
        member = archive.infolist()[0]
        if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
            raise BadFile("zip", f"packed in an unknown way ({member.compress_type})")
        with archive.open(member) as stream:
            content = stream.read(bytes_max + 1)  # the size in the directory may be wrong
        if len(content) > bytes_max:
            raise BadFile("zip", f"unpacks to more than {bytes_max} bytes")
        return content


def _check_directory(download: IO[bytes]) -> None:
    """Raise BadFile for a ZIP of many files, for each of which zipfile would allocate a kilobyte."""
    download.seek(0)
    entries, kept = 0, b""
    while piece := download.read(_PIECE_BYTES):
        entries += (kept + piece).count(_DIRECTORY_ENTRY)
        kept = piece[1 - len(_DIRECTORY_ENTRY) :]
    if entries > _ENTRIES_MAX:
        raise BadFile("zip", f"holds {entries} files instead of one")


def _ascending(klines: Iterable[Kline], file: ArchiveFile) -> list[Kline]:
    """The rows without exact repetitions, which occur in the archive (binance-facts section 6.3). Raises BadFile."""
    rows: list[Kline] = []
    for kline in klines:
        if not file.span.start_ms <= kline.open_ms < file.span.end_ms:
            raise BadFile("time", f"row {kline.open_ms} lies outside the file's time")
        if rows and kline.open_ms <= rows[-1].open_ms:
            if kline == rows[-1]:
                continue
            raise BadFile("order", f"row {kline.open_ms} contradicts or precedes the one before it")
        rows.append(kline)
    if not rows:
        raise BadFile("rows", "holds no rows")
    return rows
