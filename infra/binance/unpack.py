"""What is inside a downloaded ZIP of the archive: unpacked, checked and read with suspicion."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from typing import IO, Final, Protocol

from app.binance.archive_bulk import Unusual, parse_parts
from app.binance.archive_csv import ArchiveFile, BadFile, parse
from app.domain.columns import Columns
from app.domain.interval import Grid, Interval
from app.domain.kline import BadKline, Kline, Precision
from app.domain.rollup_columns import DayByDay
from app.ports.exchange import FileKlines

CSV_BYTES_MAX: Final = 64 * 1024 * 1024  # a month of 1m has 6 MB; what grows beyond is a bomb
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_DIRECTORY_ENTRY: Final = b"PK\x01\x02"
_ENTRIES_MAX: Final = 16  # one is right; the bytes may also occur in packed data, though hardly ever
_PIECE_BYTES: Final = 1024 * 1024
_UNPACKABLE: Final = (
    zipfile.BadZipFile, zlib.error, EOFError, struct.error, UnicodeDecodeError,
    NotImplementedError, RuntimeError, ValueError, OverflowError,  # versions, passwords and offsets that make no sense
)  # fmt: skip
"""What the standard library is known to raise for damaged ZIPs, and what the fuzzer found beyond that."""


class Collector(Protocol):
    """Takes in what is found in a file, part by part."""

    def take(self, interval: Interval, rows: Columns) -> None:
        """Take in klines that open after all of the same interval that came before."""
        ...

    def found(self) -> FileKlines:
        """All of it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


Collect = Callable[[Interval], Collector]
"""Makes one for a file of the interval; to cross to another process, it has to have a name in some module."""


class Gathered:
    """A Collector of plain columns."""

    def __init__(self, interval: Interval) -> None:
        self._interval = interval
        self._parts: dict[Interval, list[Columns]] = {}

    def take(self, interval: Interval, rows: Columns) -> None:
        """See Collector."""
        self._parts.setdefault(interval, []).append(rows)

    def found(self) -> FileKlines:
        """See Collector."""
        joined = {interval: Columns.joined(parts) for interval, parts in self._parts.items()}
        return FileKlines(joined.pop(self._interval), joined)

    def close(self) -> None:
        """See Collector."""
        self._parts.clear()


def read_file(
    download: IO[bytes],
    file: ArchiveFile,
    grid: Grid,
    precision: Precision,
    longer: Sequence[Interval] = (),
    collect: Collect = Gathered,
) -> FileKlines:
    """What a downloaded ZIP holds and what is made of it. Raises BadKline for everything that is wrong with it."""
    try:
        text = _unpack(download, f"{file.name}.csv")
    except BadKline:
        raise
    except _UNPACKABLE as error:
        raise BadFile("zip", f"no ZIP that can be read: {error}") from error
    with suppress(Unusual), closing(collect(file.interval)) as collector:
        _take_apart(text, file, grid, precision, longer, collector)
        return collector.found()
    rows = Columns.of(_ascending(parse(text, grid, precision), file))  # roll-up is left to others
    with closing(collect(file.interval)) as collector:
        collector.take(file.interval, rows)
        return collector.found()


def _take_apart(
    text: str, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval], collector: Collector
) -> None:
    """Hand all rows to `collector`, and what they make. Raises Unusual, possibly after some were handed over."""
    days = DayByDay(precision, longer)
    for rows, is_uniform in parse_parts(text, grid, precision):
        if rows.opens_ms[0] < file.span.start_ms or rows.opens_ms[-1] >= file.span.end_ms:
            raise Unusual
        collector.take(file.interval, rows)
        if longer:
            _take_all(collector, days.take(rows, is_uniform=is_uniform))
    if longer:
        _take_all(collector, days.rest())


def _take_all(collector: Collector, made: Mapping[Interval, Columns]) -> None:
    for interval, rows in made.items():
        collector.take(interval, rows)


def _unpack(download: IO[bytes], expected: str) -> str:
    _check_directory(download)
    download.seek(0)
    with zipfile.ZipFile(download) as archive:
        names = archive.namelist()
        if names not in ([expected], [expected.encode().decode("cp437")]):  # as a ZIP without the UTF-8 flag reads
            raise BadFile("name", f"holds {names!r:.200} instead of {expected}")
        member = archive.infolist()[0]
        if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
            raise BadFile("zip", f"packed in an unknown way ({member.compress_type})")
        with archive.open(member) as stream:
            content = stream.read(CSV_BYTES_MAX + 1)  # the stated size proves nothing
        if len(content) > CSV_BYTES_MAX:
            raise BadFile("zip", f"unpacks to more than {CSV_BYTES_MAX} bytes")
        return content.decode("ascii")


def _check_directory(download: IO[bytes]) -> None:
    """Raise BadKline for a ZIP of many files: each would become an object of a kilobyte before its name is seen."""
    download.seek(0)
    entries, kept = 0, b""
    while piece := download.read(_PIECE_BYTES):
        entries += (kept + piece).count(_DIRECTORY_ENTRY)
        kept = piece[1 - len(_DIRECTORY_ENTRY) :]
    if entries > _ENTRIES_MAX:
        raise BadFile("zip", f"holds {entries} files instead of one")


def _ascending(klines: Iterable[Kline], file: ArchiveFile) -> list[Kline]:
    """The rows without exact repetitions (which the archive is known for: binance-facts section 6.3)."""
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
