"""Downloads kline files of data.binance.vision and verifies them against their checksums."""

import asyncio
import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final

import httpx

from app.binance.archive_csv import ArchiveFile, BadFile, checksum_of
from app.domain.interval import Grid, Interval
from app.domain.kline import BadKline, Precision
from app.outbound import Destination
from app.ports.errors import FileRejected, NotPublished, UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import FileKlines
from app.runtime import Runtime
from infra.binance.http import HttpClient, NoAnswer, Retries
from infra.binance.unpack import Collect, Gathered
from infra.binance.unpackers import Unpackers

DOWNLOADS_MAX: Final = 4  # at once; the host documents no limit, and with more of them unpacking is the bottleneck
ZIP_BYTES_MAX: Final = 64 * 1024 * 1024  # a month of 1m has 2 MB
CHECKSUM_BYTES_MAX: Final = 4_096
MEMORY_BYTES_MAX: Final = 8 * 1024 * 1024  # of one download; a larger one is written to an unnamed file in `folder`


class BinanceArchive:
    """The archive at `/data/futures/um` of `base_url`. Downloads are unnamed files, so none is left behind."""

    def __init__(
        self,
        at: Destination,
        runtime: Runtime,
        *,
        folder: Path | None = None,
        processes: int = 0,
        collect: Collect = Gathered,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._folder = folder
        self._retries = Retries(runtime.clock, runtime.seed)
        self._http = HttpClient(at.url, runtime.clock, runtime.observe, egress=at.egress, transport=transport)
        self._slots = asyncio.Semaphore(DOWNLOADS_MAX)
        self._unpackers = Unpackers(processes, runtime.observe, collect)
        self._fetching = 0

    async def aclose(self) -> None:
        """Close all connections and end the unpacker processes."""
        await self._http.aclose()
        await self._unpackers.aclose()

    async def fetch(
        self, file: ArchiveFile, grid: Grid, precision: Precision, longer: Sequence[Interval] = ()
    ) -> FileKlines:
        """Download a file, verify its checksum, and return its rows in REST's form, ascending. Rows may be missing.

        `longer`: the intervals to roll up from the file's minutes. Raises NotPublished, UpstreamUnavailable, and
        FileRejected for a file that failed a check.
        """
        async with self._slots:
            self._fetching += 1
            self._unpackers.prepare(self._fetching)
            try:
                with SpooledTemporaryFile(
                    MEMORY_BYTES_MAX, dir=str(self._folder) if self._folder else None
                ) as download:
                    await self._download_verified(file, download)
                    return await self._unpackers.read(download, file, grid, precision, longer)
            except UpstreamGarbage as error:
                raise FileRejected("size", str(error)) from error
            except BadKline as error:
                raise FileRejected(error.check if isinstance(error, BadFile) else "rows", str(error)) from error
            finally:
                self._fetching -= 1

    async def has(self, file: ArchiveFile) -> bool:
        """Whether the archive has `file`, found by requesting its `.CHECKSUM`. Raises UpstreamUnavailable."""
        try:
            await self._get(f"{file.path}.CHECKSUM", _Body(BytesIO()), CHECKSUM_BYTES_MAX)
        except NotPublished:
            return False
        return True

    async def _download_verified(self, file: ArchiveFile, download: IO[bytes]) -> None:
        """Fill `download` with the ZIP. Raises BadFile if it differs from its checksum twice.

        Both are fetched again once: files are republished, and the two may be from before and after that.
        """
        expected = actual = ""
        for _ in range(2):
            expected = await self._checksum(file)
            actual = await self._download(file, download)
            if actual == expected:
                return
        raise BadFile("checksum", f"SHA-256 is {actual}, the checksum file says {expected}")

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
    """A body being received, and its SHA-256; `restart` before each try."""

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
