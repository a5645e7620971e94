"""What is inside a downloaded ZIP of the archive: unpacked, checked and read with suspicion."""

import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import IO, Final

from app.domain.columns import Columns
from app.domain.interval import Grid, Interval
from app.domain.kline import BadKline, Kline, Precision
from app.domain.rollup_columns import roll_up_days
from app.ports import FileKlines
from app.wire.archive_bulk import parse_all
from app.wire.archive_csv import ArchiveFile, parse

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


def read_file(
    download: IO[bytes], file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
) -> FileKlines:
    """What a downloaded ZIP holds and what is made of it. Raises BadKline for everything that is wrong with it."""
    try:
        text = _unpack(download, f"{file.name}.csv")
    except BadKline:
        raise
    except _UNPACKABLE as error:
        raise BadKline(f"no ZIP that can be read: {error}") from error
    parsed = parse_all(text, grid, precision)
    if (
        parsed is not None
        and file.span.start_ms <= parsed.rows.opens_ms[0] <= parsed.rows.opens_ms[-1] < file.span.end_ms
    ):
        made = roll_up_days(parsed.rows, precision, longer) if parsed.is_uniform and longer else {}
        return FileKlines(parsed.rows, made)
    return FileKlines(Columns.of(_ascending(parse(text, grid, precision), file)), {})  # roll-up is left to others


def _unpack(download: IO[bytes], expected: str) -> str:
    _check_directory(download)
    download.seek(0)
    with zipfile.ZipFile(download) as archive:
        names = archive.namelist()
        if names not in ([expected], [expected.encode().decode("cp437")]):  # as a ZIP without the UTF-8 flag reads
            raise BadKline(f"holds {names!r:.200} instead of {expected}")
        member = archive.infolist()[0]
        if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
            raise BadKline(f"packed in an unknown way ({member.compress_type})")
        with archive.open(member) as stream:
            content = stream.read(CSV_BYTES_MAX + 1)  # the stated size proves nothing
        if len(content) > CSV_BYTES_MAX:
            raise BadKline(f"unpacks to more than {CSV_BYTES_MAX} bytes")
        return content.decode("ascii")


def _check_directory(download: IO[bytes]) -> None:
    """Raise BadKline for a ZIP of many files: each would become an object of a kilobyte before its name is seen."""
    download.seek(0)
    entries, kept = 0, b""
    while piece := download.read(_PIECE_BYTES):
        entries += (kept + piece).count(_DIRECTORY_ENTRY)
        kept = piece[1 - len(_DIRECTORY_ENTRY) :]
    if entries > _ENTRIES_MAX:
        raise BadKline(f"holds {entries} files instead of one")


def _ascending(klines: Iterable[Kline], file: ArchiveFile) -> list[Kline]:
    """The rows without exact repetitions (which the archive is known for: binance-facts section 6.3)."""
    rows: list[Kline] = []
    for kline in klines:
        if not file.span.start_ms <= kline.open_ms < file.span.end_ms:
            raise BadKline(f"row {kline.open_ms} lies outside the file's time")
        if rows and kline.open_ms <= rows[-1].open_ms:
            if kline == rows[-1]:
                continue
            raise BadKline(f"row {kline.open_ms} contradicts or precedes the one before it")
        rows.append(kline)
    if not rows:
        raise BadKline("holds no rows")
    return rows
