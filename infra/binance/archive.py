"""Downloads files of data.binance.vision and verifies them against their checksums."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Final, Protocol

from app.binance.archive_csv import ArchiveFile, BadFile, checksum_of
from app.binance.metrics_csv import MetricsDay
from app.domain.interval import Grid, Interval
from app.domain.kline import BadKline, Precision
from app.outbound import Destination
from app.ports.errors import FileRejected, NotPublished, UpstreamError, UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import DayRead, FileKlines, FileMetrics
from app.runtime import Runtime
from infra.binance.unpack import Collect, Gathered
from infra.binance.unpack_metrics import BYTES_MAX, Download
from infra.binance.unpackers import Unpackers
from infra.net.http import HttpClient, NoAnswer, Retries, Transport

DOWNLOADS_MAX: Final = 4  # at once; the host documents no limit, and with more of them unpacking is the bottleneck
ZIP_BYTES_MAX: Final = 64 * 1024 * 1024  # a month of 1m has 2 MB
CHECKSUM_BYTES_MAX: Final = 4_096
MEMORY_BYTES_MAX: Final = 8 * 1024 * 1024  # of one download; a larger one is written to an unnamed file in `folder`


class NamedFile(Protocol):
    """A file of the archive, of any sort."""

    @property
    def name(self) -> str:
        """The stem of the ZIP's name."""
        ...

    @property
    def path(self) -> str:
        """The ZIP's path on the host."""
        ...


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
        transport: Transport | None = None,
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
                with (
                    _rejections(),
                    SpooledTemporaryFile(MEMORY_BYTES_MAX, dir=str(self._folder) if self._folder else None) as download,
                ):
                    await self._download_verified(file, download, ZIP_BYTES_MAX)
                    return await self._unpackers.read(download, file, grid, precision, longer)
            finally:
                self._fetching -= 1

    async def metrics(self, files: Sequence[MetricsDay]) -> FileMetrics:
        """Download files of one symbol, ascending days, verify their checksums, and return their rows.

        A file that cannot be read does not keep the others from being read, and raises nothing.
        """
        assert all(one.symbol == other.symbol and one < other for one, other in pairwise(files)), "days of one symbol"
        found: dict[MetricsDay, Download | UpstreamError] = {}

        async def fetch(file: MetricsDay) -> None:
            found[file] = await self._metrics_file(file)

        self._fetching += 1
        self._unpackers.prepare(self._fetching)
        try:
            async with asyncio.TaskGroup() as tasks:
                for file in files:
                    tasks.create_task(fetch(file))
            return await self._read_metrics({file: found[file] for file in files})
        finally:
            self._fetching -= 1

    async def metrics_sha256(self, file: MetricsDay) -> str:
        """The SHA-256 that the file's `.CHECKSUM` states. Raises NotPublished, UpstreamUnavailable, FileRejected."""
        with _rejections():
            return await self._checksum(file)

    async def has(self, file: ArchiveFile) -> bool:
        """Whether the archive has `file`, found by requesting its `.CHECKSUM`. Raises UpstreamUnavailable."""
        try:
            await self._get(f"{file.path}.CHECKSUM", _Body(BytesIO()), CHECKSUM_BYTES_MAX)
        except NotPublished:
            return False
        return True

    async def _metrics_file(self, file: MetricsDay) -> Download | UpstreamError:
        """The ZIP of a day, or why there is none."""
        try:
            async with self._slots:
                with _rejections():
                    download = BytesIO()
                    sha256 = await self._download_verified(file, download, BYTES_MAX)
                    return Download(sha256, download.getvalue())
        except UpstreamError as error:
            return error

    async def _read_metrics(self, found: Mapping[MetricsDay, Download | UpstreamError]) -> FileMetrics:
        failed = {day: each for day, each in found.items() if isinstance(each, UpstreamError)}
        downloads = {day: each for day, each in found.items() if isinstance(each, Download)}
        if not downloads:
            return FileMetrics({}, {}, {}, failed)
        try:
            with _rejections():
                made = await self._unpackers.read_metrics({day: each.content for day, each in downloads.items()})
        except UpstreamError as error:
            return FileMetrics({}, {}, {}, failed | dict.fromkeys(downloads, error))
        read = {day: DayRead(downloads[day].sha256, report) for day, report in made.reports.items()}
        return FileMetrics(made.rows, made.replaced, read, failed | {day: _rejected(e) for day, e in made.bad.items()})

    async def _download_verified(self, file: NamedFile, download: IO[bytes], bytes_max: int) -> str:
        """Fill `download` with the ZIP and return its SHA-256. Raises BadFile if it differs from its checksum twice.

        Both are fetched again once: files are republished, and the two may be from before and after that.
        """
        expected = actual = ""
        for _ in range(2):
            expected = await self._checksum(file)
            actual = await self._download(file, download, bytes_max)
            if actual == expected:
                return actual
        raise BadFile("checksum", f"SHA-256 is {actual}, the checksum file says {expected}")

    async def _checksum(self, file: NamedFile) -> str:
        body = _Body(BytesIO())
        await self._get(f"{file.path}.CHECKSUM", body, CHECKSUM_BYTES_MAX)
        return checksum_of(body.content(), f"{file.name}.zip")

    async def _download(self, file: NamedFile, download: IO[bytes], bytes_max: int) -> str:
        body = _Body(download)
        await self._get(file.path, body, bytes_max)
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


@contextmanager
def _rejections() -> Iterator[None]:
    """Raise FileRejected for a file that is too large or wrong."""
    try:
        yield
    except UpstreamGarbage as error:
        raise FileRejected("size", str(error)) from error
    except BadKline as error:
        raise _rejected(error) from error


def _rejected(error: BadKline) -> FileRejected:
    return FileRejected(error.check if isinstance(error, BadFile) else "rows", str(error))


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
