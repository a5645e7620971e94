"""Files of metrics from the archive: downloaded side by side, verified, and read in one process."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from app.binance.metrics_csv import MetricsDay, Report
from app.binance.metrics_lines import HEADER
from app.binance.statistics_rows import OPEN_INTEREST, PERIOD_MS, STATISTICS, OpenInterestRow
from app.domain.interval import DAY_MS
from app.events import UnpackerLost
from app.ports.errors import FileRejected, NotPublished, UpstreamUnavailable
from app.ports.exchange import FileMetrics
from infra.binance import unpackers
from infra.binance.archive import DOWNLOADS_MAX, BinanceArchive
from infra.binance.unpack_metrics import BYTES_MAX
from infra.net.http import TRIES_MAX
from infra.sandbox import truth
from infra.sandbox.faults import Fault
from infra.sandbox.server import SandboxServer
from tests.binance.test_archive import case, packed
from tests.binance.test_metrics_csv import VALUES, label, ms
from tests.clocks import HastyClock
from tests.net.loopback import Reply, Witness, http_host, runtime, to
from tests.patience import PATIENCE_S

FIRST_MS = ms("2026-07-01")
SYMBOL = "BTCUSDT"
ENDED_MS = ms("2026-11-20")


def days(number: int, symbol: str = SYMBOL) -> list[MetricsDay]:
    return [MetricsDay(symbol, FIRST_MS + each * DAY_MS) for each in range(number)]


def zipped(day: MetricsDay, *lines: str) -> bytes:
    """A file of these lines, or of one for each of its times."""
    opens_ms = range(day.day_ms, day.day_ms + DAY_MS, PERIOD_MS)
    whole = (f"{label(open_ms)},{day.symbol},{VALUES}" for open_ms in opens_ms)
    return packed("\n".join((HEADER, *(lines or whole), "")), f"{day.name}.csv")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def shelf(files: Mapping[MetricsDay, bytes], replies: Mapping[str, Reply] | None = None) -> Callable[[str], Reply]:
    """Reply with these files and their checksums, and with `replies` for targets that end so."""
    found = {day.path: Reply(body=content) for day, content in files.items()}
    for day, content in files.items():
        found[f"{day.path}.CHECKSUM"] = Reply(body=f"{sha256(content)}  {day.name}.zip\n".encode())

    def answer(target: str) -> Reply:
        stated = (reply for end, reply in (replies or {}).items() if target.endswith(end))
        return next(stated, found.get(target, Reply(404)))

    return answer


async def test_files_of_the_sandbox_give_what_its_truth_says(tmp_path: Path) -> None:
    clock, witness = HastyClock(ENDED_MS), Witness()
    border_ms = ms("2026-06-24")
    files = [MetricsDay("ADAUSDT", border_ms + number * DAY_MS) for number in range(3)]
    async with SandboxServer(clock, seed=1, symbols=8) as sandbox:
        archive = BinanceArchive(to(sandbox.base_url), runtime(clock, witness), folder=tmp_path)
        found = await archive.metrics(files)
        true = truth.archived_metrics(sandbox.exchange, "ADAUSDT", border_ms, border_ms + 3 * DAY_MS)
        interests = [tuple(row) for row in found.rows[OPEN_INTEREST]]
        assert interests == [(open_ms, *texts[:2], None) for open_ms, _, _, *texts in true]
        for number, endpoint in enumerate(list(STATISTICS)[1:], start=5):
            assert [row[:2] for row in found.rows[endpoint]] == [(row[0], row[number]) for row in true]
        assert (list(found.read), found.failed, found.replaced) == (files, {}, {})
        assert [each.report.lines for each in found.read.values()] == [288] * 3
        assert await archive.metrics_sha256(files[0]) == found.read[files[0]].sha256
        sandbox.faults.add(Fault("metrics_conflicts", symbol="ADAUSDT", rows=2), clock.now_ms())
        found = await archive.metrics(files[:1])
        assert {len(rows) for rows in found.replaced.values()} == {2}
        await archive.aclose()


async def test_a_file_that_cannot_be_read_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    lacking, failing, wrong, damaged, misnamed, strange, huge, good, silent = some = days(9)
    line = f"{label(strange.day_ms)},{SYMBOL},1,1,1,1,1,x"
    files = {day: zipped(day) for day in some if day != lacking} | {
        damaged: zipped(damaged)[:-30],
        misnamed: packed(HEADER, "other.csv"),
        strange: zipped(strange, line),
        huge: packed(b"0" * (BYTES_MAX + 1), f"{huge.name}.csv"),
    }
    replies = {
        f"{failing.name}.zip.CHECKSUM": Reply(503),
        f"{wrong.name}.zip.CHECKSUM": Reply(body=f"{sha256(b'other')}  {wrong.name}.zip\n".encode()),
        f"{silent.name}.zip.CHECKSUM": Reply(body=b"<html>"),
    }
    async with case(tmp_path, shelf(files, replies)) as run:
        found = await run.archive.metrics(some)
        assert list(found.read) == [good]
        assert found.read[good].sha256 == sha256(files[good])
        assert found.read[good].report == Report(288, 0, 0, 0, 0, 0, 0, 0, 0)
        assert [row.open_ms for row in found.rows[OPEN_INTEREST]] == list(range(*good.span, PERIOD_MS))
        assert isinstance(found.failed[lacking], NotPublished)
        assert isinstance(found.failed[failing], UpstreamUnavailable)
        checks = {day: error.check for day, error in found.failed.items() if isinstance(error, FileRejected)}
        assert checks == {
            wrong: "checksum", silent: "checksum", damaged: "zip", huge: "zip", misnamed: "name", strange: "rows"
        }  # fmt: skip
        assert set(found.failed) == {lacking, failing, *checks}
        requested = [target.rpartition("/")[2] for target in run.host.requests]
        assert requested.count(f"{failing.name}.zip.CHECKSUM") == TRIES_MAX
        assert requested.count(f"{wrong.name}.zip") == 2
        with pytest.raises(NotPublished):
            await run.archive.metrics_sha256(lacking)
        with pytest.raises(FileRejected):
            await run.archive.metrics_sha256(silent)


async def test_a_republished_file_is_downloaded_once_more(tmp_path: Path) -> None:
    [day] = days(1)
    good = zipped(day)
    bodies = iter(
        [f"{sha256(b'older')}  {day.name}.zip".encode(), good, f"{sha256(good)}  {day.name}.zip".encode(), good]
    )
    async with case(tmp_path, lambda _: Reply(body=next(bodies))) as run:
        assert list((await run.archive.metrics([day])).read) == [day]


async def test_nothing_is_read_of_no_files(tmp_path: Path) -> None:
    async with case(tmp_path, shelf({})) as run:
        assert await run.archive.metrics([]) == FileMetrics({}, {}, {}, {})
        found = await run.archive.metrics(days(2))
        assert (found.rows, list(found.failed)) == ({}, days(2))


async def test_downloads_share_the_slots_of_all_downloads(tmp_path: Path) -> None:
    gate, some = asyncio.Event(), days(3 * DOWNLOADS_MAX)
    answer = shelf({day: zipped(day) for day in some})

    def held(target: str) -> Reply:
        return Reply(body=answer(target).body, hold=gate)

    async with case(tmp_path, held) as run, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(run.archive.metrics(some))
        async with asyncio.timeout(PATIENCE_S):
            while len(run.host.requests) < DOWNLOADS_MAX:
                await run.clock.sleep(0)
            for _ in range(200):
                await run.clock.sleep(0)
        assert len(run.host.requests) == DOWNLOADS_MAX
        gate.set()
        found = await reading
        assert list(found.read) == some
        assert len(found.rows[OPEN_INTEREST]) == 288 * len(some)


@pytest.mark.parametrize("symbol", [SYMBOL, "币安人生USDT"])
async def test_a_process_gives_what_a_thread_gives(tmp_path: Path, symbol: str) -> None:
    some = days(3, symbol)
    replaced = f"{label(some[1].day_ms)},{symbol}"
    files = {
        some[0]: zipped(some[0]),
        some[1]: zipped(some[1], f"{replaced},1,,,,,", f"{replaced},2,,,,,"),
        some[2]: b"no",
    }
    found = []
    for processes in (0, 1):
        async with http_host(lambda target: shelf(files)(unquote(target))) as host:
            archive = BinanceArchive(to(host.url), runtime(HastyClock(), Witness()), processes=processes)
            found.append(await archive.metrics(some))
            await archive.aclose()
    assert found[0].rows == found[1].rows
    assert found[0].read == found[1].read
    assert found[0].replaced == found[1].replaced == {OPEN_INTEREST: [OpenInterestRow(some[1].day_ms, "1", None, None)]}
    assert repr(found[0].failed) == repr(found[1].failed)
    assert len(found[0].rows[OPEN_INTEREST]) == 289


async def test_files_that_end_every_process_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, sys; sys.stdin.buffer.read(1000); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(unpackers, "_PROGRAM", program)
    some, witness = days(2), Witness()
    async with http_host(shelf({day: zipped(day) for day in some})) as host:
        archive = BinanceArchive(to(host.url), runtime(HastyClock(), witness), processes=1)
        found = await archive.metrics(some)
        await archive.aclose()
    assert {day: type(error) for day, error in found.failed.items()} == dict.fromkeys(some, FileRejected)
    assert [lost.name for lost in witness.of(UnpackerLost)] == [some[0].name] * unpackers.TRIES
