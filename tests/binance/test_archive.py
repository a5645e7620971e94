import asyncio
import hashlib
import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.binance.archive_csv import ArchiveFile
from app.domain.columns import Columns
from app.domain.interval import DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import Precision
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.klines import KLINES
from app.outbound import Egress, proxy_of
from app.ports.errors import FileRejected, NotPublished, UpstreamGarbage, UpstreamUnavailable
from app.ports.exchange import Priority
from infra.binance.archive import DOWNLOADS_MAX, MEMORY_BYTES_MAX, BinanceArchive
from infra.binance.rest import BinanceRest
from infra.binance.unpack import CSV_BYTES_MAX
from infra.net.http import TRIES_MAX
from infra.process.clock import SystemClock
from infra.sandbox.faults import Fault
from infra.sandbox.server import SandboxServer
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, HastyClock
from tests.net.loopback import Host, Reply, Witness, http_host, proxy, runtime, to
from tests.patience import PATIENCE_S

DAY = Span(START_MS // DAY_MS * DAY_MS, START_MS // DAY_MS * DAY_MS + DAY_MS)
FILE = ArchiveFile("BTCUSDT", M1, DAY, is_monthly=False)
PRECISION = Precision(2, 3)


def line(minute: int, price: str = "1.50") -> str:
    open_ms = DAY.start_ms + minute * MINUTE_MS
    return f"{open_ms},{price},{price},{price},{price},2.000,{open_ms + 59_999},3.00000,4,1.000,1.50000,0\n"


def text(*minutes: int) -> str:
    return "".join(map(line, minutes))


def packed(content: str | bytes, name: str = f"{FILE.name}.csv", *more: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (name, *more):
            archive.writestr(member, content)
    return buffer.getvalue()


def checksum(content: bytes, file: ArchiveFile = FILE) -> bytes:
    return f"{hashlib.sha256(content).hexdigest()}  {file.name}.zip\n".encode()


@dataclass
class Case:
    clock: HastyClock
    witness: Witness
    archive: BinanceArchive
    host: Host
    folder: Path

    async def fetch(self, file: ArchiveFile = FILE) -> Columns:
        return (await self.archive.fetch(file, file.interval.grid, PRECISION)).rows

    def leftovers(self) -> list[Path]:
        return list(self.folder.iterdir())

    async def garbage(self) -> str:
        """Fetch a bad file; return the failed check and its message. Asserts that no file is left behind."""
        with pytest.raises(FileRejected) as garbage:
            await self.fetch()
        assert self.leftovers() == []
        return f"{garbage.value.check}: {garbage.value}"


@asynccontextmanager
async def case(folder: Path, answer: Callable[[str], Reply]) -> AsyncIterator[Case]:
    clock, witness = HastyClock(), Witness()
    async with http_host(answer) as host:
        archive = BinanceArchive(to(host.url), runtime(clock, witness), folder=folder)
        try:
            yield Case(clock, witness, archive, host, folder)
        finally:
            await archive.aclose()


def shelf(content: bytes, stated: bytes | None = None) -> Callable[[str], Reply]:
    """Reply with a ZIP and its checksum, or with `stated` in place of the right checksum."""

    def answer(target: str) -> Reply:
        return Reply(body=(stated or checksum(content)) if target.endswith(".CHECKSUM") else content)

    return answer


async def test_a_file_of_the_sandbox_is_what_its_rest_says(tmp_path: Path) -> None:
    clock, witness = SystemClock(), Witness()
    start_ms = clock.now_ms() // DAY_MS * DAY_MS - 4 * DAY_MS
    window = Span(start_ms, start_ms + DAY_MS)

    async with SandboxServer(clock, seed=1, symbols=3) as sandbox:
        archive = BinanceArchive(to(sandbox.base_url), runtime(clock, witness), folder=tmp_path)
        rest = BinanceRest(to(sandbox.base_url), runtime(clock, witness), Upstream(clock, witness=witness).budget)
        rows = await rest.klines(Series(KLINES, "BTCUSDT", M1), M1.grid, window, 1_440, Priority.USER)
        decimals = [len(rows[0].open.partition(".")[2]), max(len(row.volume.partition(".")[2]) for row in rows)]
        file = ArchiveFile("BTCUSDT", M1, window, is_monthly=False)
        assert (await archive.fetch(file, M1.grid, Precision(*decimals))).rows == rows
        for kind in ("corrupt_zip", "wrong_checksum"):
            sandbox.faults.add(Fault(kind, symbol="BTCUSDT"), clock.now_ms())
            with pytest.raises(UpstreamGarbage):
                await archive.fetch(file, M1.grid, Precision(*decimals))
            sandbox.faults.clear()
        sandbox.faults.add(Fault("archive_missing_rows", symbol="BTCUSDT", rows=3), clock.now_ms())
        assert len((await archive.fetch(file, M1.grid, Precision(*decimals))).rows) == 1_437, (
            "holes are the caller's to see"
        )
        sandbox.faults.clear()
        today = ArchiveFile("BTCUSDT", M1, Span(start_ms + 4 * DAY_MS, start_ms + 5 * DAY_MS), is_monthly=False)
        with pytest.raises(NotPublished):
            await archive.fetch(today, M1.grid, PRECISION)
        await archive.aclose()
        await rest.aclose()


async def test_rows_come_in_rests_form_and_without_exact_repetitions(tmp_path: Path) -> None:
    header = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    header += "taker_buy_quote_volume,ignore\n"
    content = packed(header + line(0, "1.5") + text(1, 1) + line(3, "2"))
    async with case(tmp_path, shelf(content)) as run:
        klines = await run.fetch()
        assert [kline.open for kline in klines] == ["1.50", "1.50", "2.00"]
        assert [kline.open_ms - DAY.start_ms for kline in klines] == [0, MINUTE_MS, 3 * MINUTE_MS]
        assert run.leftovers() == []


async def test_months_and_symbols_beyond_ascii_are_found_by_their_names(tmp_path: Path) -> None:
    interval = INTERVALS["1M"]
    month = ArchiveFile("币安人生USDT", interval, Span(1_788_220_800_000, 1_790_812_800_000), is_monthly=True)
    open_ms, close_ms = month.span.start_ms, month.span.end_ms - 1
    content = packed(f"{open_ms},1,1,1,1,2,{close_ms},3,4,1,1,0\n", f"{month.name}.csv")
    async with case(tmp_path, shelf(content, checksum(content, month))) as run:
        assert len(await run.fetch(month)) == 1
        assert run.host.requests[-1] == (
            "/data/futures/um/monthly/klines/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT/1mo/"
            "%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT-1mo-2026-09.zip"
        )


async def test_a_wrong_checksum_is_checked_once_more_and_then_rejected(tmp_path: Path) -> None:
    good = packed(text(0, 1))
    async with case(tmp_path, shelf(good, checksum(b"other"))) as run:
        assert "checksum: SHA-256 is" in await run.garbage()
        assert len(run.host.requests) == 4
    bodies = iter([checksum(b"older"), good, checksum(good), good])
    async with case(tmp_path, lambda _: Reply(body=next(bodies))) as run:
        assert len(await run.fetch()) == 2, "the file was republished between the two requests"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"not a zip", "zip: no zip"),
        (packed(text(0))[:-30], "zip"),
        (packed(text(0)).replace(b"PK\x03\x04", b"PK\x03\x05", 1), ""),
        (packed(text(0), "other.csv"), "name: holds"),
        (packed(text(0), "../../etc/passwd"), "instead of"),
        (packed(text(0), f"{FILE.name}.csv", "more.csv"), "instead of"),
        (packed(b"\xff\xfe\x00"), "zip: "),
        (packed("a,b\nc,d\n"), "columns: line 2 has 2 columns"),
        (packed(line(0).replace("1.50,", "NaN,", 1)), "rows: not plain decimals"),
        (packed(line(0).replace("1.50,", "1" * 200_000 + ",", 1)), ""),
        (packed(line(1) + line(0)), "order: "),
        (packed(line(0) + line(0, "7.00")), "order: "),
        (packed(text(1_440)), "time: "),
        (packed(text(-1, 0)), "outside"),
        (packed(line(0).replace(f"{DAY.start_ms}", "9" * 30, 1)), ""),
        (packed("\x00" * 50), ""),
    ],
)
async def test_a_damaged_file_gives_nothing(tmp_path: Path, content: bytes, complaint: str) -> None:
    async with case(tmp_path, shelf(content)) as run:
        assert complaint in (await run.garbage()).lower()


def altered(at: bytes, offset: int, value: bytes) -> bytes:
    """A good ZIP with `value` written `offset` bytes after the last occurrence of `at`, a record's signature."""
    content = packed(text(0))
    place = content.rindex(at) + offset
    return content[:place] + value + content[place + len(value) :]


@pytest.mark.parametrize(
    "content",
    [
        altered(b"PK\x01\x02", 6, b"\x54\x00"),  # requires version 8.4 of the format: NotImplementedError
        altered(b"PK\x01\x02", 8, b"\x40\x00"),  # strong encryption: NotImplementedError
        altered(b"PK\x01\x02", 8, b"\x20\x00"),  # patched data: NotImplementedError
        altered(b"PK\x05\x06", 16, b"\xff\x00\x00\x00"),  # directory starts behind its end: ValueError, negative seek
        altered(b"PK\x01\x02", 42, b"\xff\xff\xff\x7f"),  # the file starts after the end of the archive
    ],
)
async def test_a_zip_whose_records_make_no_sense_is_garbage(tmp_path: Path, content: bytes) -> None:
    async with case(tmp_path, shelf(content)) as run:
        await run.garbage()


async def test_a_zip_of_many_files_is_refused_before_they_are_listed(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(20):
            archive.writestr(f"{number}.csv", b"")
    async with case(tmp_path, shelf(buffer.getvalue())) as run:
        assert "holds 20 files instead of one" in await run.garbage()


async def test_rows_beyond_the_files_time_are_refused_one_by_one(tmp_path: Path) -> None:
    """A file of 64 MB has room for half a million rows; only those of its day are kept in memory."""
    many = packed("".join(line(minute) for minute in range(1_439, 20_000)))
    async with case(tmp_path, shelf(many)) as run:
        assert "outside" in await run.garbage()


async def test_a_checksum_file_that_states_nothing_is_garbage(tmp_path: Path) -> None:
    async with case(tmp_path, shelf(packed(text(0)), b"<html>")) as run:
        assert "no checksum" in await run.garbage()


async def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    async with case(tmp_path, shelf(packed(b"0" * (CSV_BYTES_MAX + 1)))) as run:
        assert "unpacks to more than" in await run.garbage()


@pytest.mark.parametrize("missing", [".CHECKSUM", ".zip"])
async def test_what_is_not_there_is_not_published_and_asked_for_once(tmp_path: Path, missing: str) -> None:
    content = packed(text(0))
    answer = shelf(content)
    async with case(tmp_path, lambda target: Reply(404) if target.endswith(missing) else answer(target)) as run:
        with pytest.raises(NotPublished):
            await run.fetch()
        assert sum(target.endswith(missing) for target in run.host.requests) == 1


@pytest.mark.parametrize(("status", "tries"), [(429, 1), (403, 1), (503, TRIES_MAX), (500, TRIES_MAX)])
async def test_a_host_that_refuses_or_fails_is_unavailable(tmp_path: Path, status: int, tries: int) -> None:
    async with case(tmp_path, lambda _: Reply(status, b"<Error><Code>SlowDown</Code></Error>")) as run:
        with pytest.raises(UpstreamUnavailable):
            await run.fetch()
        assert len(run.host.requests) == tries


async def test_a_broken_download_leaves_nothing_behind_and_blocks_nothing(tmp_path: Path) -> None:
    content = packed(os.urandom(MEMORY_BYTES_MAX + 1_000_000))
    is_broken = True

    def answer(target: str) -> Reply:
        if target.endswith(".CHECKSUM"):
            return Reply(body=checksum(good))
        if is_broken:
            return Reply(body=content, missing_bytes=1_000_000)
        return Reply(body=good)

    good = packed(text(0, 1, 2))
    async with case(tmp_path, answer) as run:
        with pytest.raises(UpstreamUnavailable):
            await run.fetch()
        assert run.leftovers() == []
        assert len(run.host.requests) == 1 + TRIES_MAX
        is_broken = False
        assert len(await run.fetch()) == 3


async def test_downloads_at_once_are_bounded(tmp_path: Path) -> None:
    gate = asyncio.Event()
    answer = shelf(packed(text(0)))

    def held(target: str) -> Reply:
        return Reply(body=answer(target).body, hold=gate)

    async with case(tmp_path, held) as run, asyncio.TaskGroup() as tasks:
        fetches = [tasks.create_task(run.fetch()) for _ in range(3 * DOWNLOADS_MAX)]
        async with asyncio.timeout(PATIENCE_S):
            while len(run.host.requests) < DOWNLOADS_MAX:
                await run.clock.sleep(0)
            for _ in range(200):
                await run.clock.sleep(0)
        assert len(run.host.requests) == DOWNLOADS_MAX
        gate.set()
        assert [len(await fetch) for fetch in fetches] == [1] * len(fetches)


async def test_the_proxy_is_honoured(tmp_path: Path) -> None:
    async with case(tmp_path, shelf(packed(text(0)))) as run, proxy(run.host.port) as middle:
        archive = BinanceArchive(
            to("http://archive.test", Egress(proxy_of(middle.url))), runtime(run.clock, run.witness)
        )
        assert len((await archive.fetch(FILE, M1.grid, PRECISION)).rows) == 1
        assert middle.requests
        await archive.aclose()
