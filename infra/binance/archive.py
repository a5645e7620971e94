"""Kline files of data.binance.vision: downloaded, verified against their checksum and read with suspicion."""

import asyncio
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final

import httpx

from app.domain.columns import Columns
from app.domain.interval import Grid
from app.domain.kline import BadKline, Kline, Precision
from app.events import ArchiveRejected, Observe
from app.ports import Clock, NotPublished, UpstreamGarbage, UpstreamUnavailable
from app.wire.archive_bulk import parse_all
from app.wire.archive_csv import ArchiveFile, checksum_of, parse
from infra.binance.http import HttpClient, NoAnswer, Retries

DOWNLOADS_MAX: Final = 4  # at once; the host publishes no limit, and unpacking is the bottleneck beyond
ZIP_BYTES_MAX: Final = 64 * 1024 * 1024  # a month of 1m has 2 MB
CSV_BYTES_MAX: Final = 64 * 1024 * 1024  # a month of 1m has 6 MB; what grows beyond is a bomb
CHECKSUM_BYTES_MAX: Final = 4_096
MEMORY_BYTES_MAX: Final = 8 * 1024 * 1024  # of one download; larger ones go to a nameless file in the folder
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


class BinanceArchive:
    """`/data/futures/um` of `base_url`. Downloads never have a name on disk, so none is left behind or in the way."""

    def __init__(
        self,
        base_url: str,
        clock: Clock,
        observe: Observe,
        *,
        folder: Path | None = None,
        seed: int = 0,
        proxy: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._observe = observe
        self._folder = folder
        self._retries = Retries(clock, seed)
        self._http = HttpClient(base_url, clock, observe, proxy=proxy, transport=transport)
        self._slots = asyncio.Semaphore(DOWNLOADS_MAX)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def fetch(self, file: ArchiveFile, grid: Grid, precision: Precision) -> Columns:
        """The rows of a file in REST's form, ascending, after its checksum was verified. Rows may be missing.

        Raises NotPublished, UpstreamUnavailable, and UpstreamGarbage for a file that is damaged or contradicts itself.
        """
        async with self._slots:
            with SpooledTemporaryFile(MEMORY_BYTES_MAX, dir=str(self._folder) if self._folder else None) as download:
                try:
                    await self._download_verified(file, download)
                    return await asyncio.to_thread(read_rows, download, file, grid, precision)
                except (BadKline, UpstreamGarbage) as error:
                    self._observe(ArchiveRejected(file.name, str(error)))
                    raise UpstreamGarbage(f"{file.name}: {error}") from error

    async def _download_verified(self, file: ArchiveFile, download: IO[bytes]) -> None:
        """Fill `download` with the ZIP. Raises BadKline when it differs from its checksum twice.

        The second time both are fetched anew: files are republished, and the pair may have been caught in between.
        """
        expected = actual = ""
        for _ in range(2):
            expected = await self._checksum(file)
            actual = await self._download(file, download)
            if actual == expected:
                return
        raise BadKline(f"SHA-256 is {actual}, the checksum file says {expected}")

    async def _checksum(self, file: ArchiveFile) -> str:
        body = _Body(BytesIO())
        await self._get(f"{file.path}.CHECKSUM", body, CHECKSUM_BYTES_MAX)
        return checksum_of(body.content(), f"{file.name}.zip")

    async def _download(self, file: ArchiveFile, download: IO[bytes]) -> str:
        body = _Body(download)
        await self._get(file.path, body, ZIP_BYTES_MAX)
        return body.sha256.hexdigest()

    async def _get(self, path: str, body: "_Body", bytes_max: int) -> None:
        async def attempt() -> None:
            body.restart()
            answer = await self._http.get(path, bytes_max=bytes_max, sink=body.take)
            if answer.status == 404:
                raise NotPublished(path)
            if answer.is_transient:
                raise NoAnswer(f"{path}: HTTP {answer.status}")
            if answer.status != 200:
                raise UpstreamUnavailable(f"{path}: HTTP {answer.status}")

        await self._retries.run(attempt)


class _Body:
    """A body as it comes in, with its digest; begins anew with every try."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.sha256 = hashlib.sha256()

    def take(self, piece: bytes) -> None:
        self._file.write(piece)
        self.sha256.update(piece)

    def content(self) -> bytes:
        self._file.seek(0)
        return self._file.read()


def read_rows(download: IO[bytes], file: ArchiveFile, grid: Grid, precision: Precision) -> Columns:
    """The rows of a downloaded ZIP. Raises BadKline for everything that is wrong with it."""
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
        return parsed.rows
    return Columns.of(_ascending(parse(text, grid, precision), file))


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
