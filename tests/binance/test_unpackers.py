"""Processes that unpack archives: their results, and that the failure of one loses no job and leaves no process."""

import asyncio
import io
import os
import select
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.binance.archive_csv import ArchiveFile
from app.binance.metrics_csv import MetricsDay
from app.binance.statistics_rows import PERIOD_MS, TOP_ACCOUNTS
from app.domain.block_grid import block_span
from app.domain.columns import Columns
from app.domain.interval import D1, DAY_MS, INTERVALS, M1, MINUTE_MS
from app.domain.kline import BadKline, Precision
from app.domain.span import Span
from app.events import UnpackerLost
from app.kinds.metrics import METRICS
from app.ports.errors import UpstreamUnavailable
from app.ports.exchange import FileKlines
from infra.binance import unpackers
from infra.binance.unpack import Collect, Gathered, read_file
from infra.binance.unpack_metrics import read_days
from infra.binance.unpackers import PROCESSES_MAX, TRIES, Unpackers, processes_for
from infra.blocks.block import Packed
from infra.blocks.sealed_columns import BlockBuilder, SealedColumns
from tests.binance.test_archive_metrics import zipped
from tests.binance.test_metrics_csv import VALUES, label
from tests.fakes import turn
from tests.net.loopback import Witness

DAY = Span(1_795_132_800_000, 1_795_132_800_000 + DAY_MS)
FILE = ArchiveFile("BTCUSDT", M1, DAY, is_monthly=False)
PRECISION = Precision(2, 3)
ROOT = Path(__file__).parents[2]
END_S_MAX = 20.0  # the longest a test waits for the end of a process


def archive(rows: int = 1440, *, damage: str = "") -> io.BytesIO:
    """A day as a stored (uncompressed) ZIP, larger than a pipe's buffer, so that the writer waits for the reader."""
    lines = []
    for number in range(rows):
        open_ms = DAY.start_ms + number * MINUTE_MS
        lines.append(f"{open_ms},1.50,2.50,1.25,2.00,{number}.125,{open_ms + 59_999},3.00000,4,1.000,1.50000,0\n")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as made:
        made.writestr(f"{FILE.name}.csv", "".join(lines) + damage)
    return content


def pids(of: Unpackers) -> list[int]:
    return [worker._process.pid for worker in tuple(of._workers)]  # a copy, because threads add to the list


async def gone(pid: int) -> None:
    """Wait until the process has ended."""
    fd = os.pidfd_open(pid)
    try:
        assert await asyncio.to_thread(select.select, [fd], [], [], END_S_MAX) != ([], [], []), f"{pid} did not end"
    finally:
        os.close(fd)


async def until_at_work(of: Unpackers) -> None:
    while of._idle:
        await turn()


@asynccontextmanager
async def some(processes: int = 1) -> AsyncIterator[tuple[Unpackers, Witness]]:
    witness = Witness()
    made = Unpackers(processes, witness)
    try:
        yield made, witness
    finally:
        await made.aclose()


async def read(of: Unpackers, content: io.BytesIO) -> Columns:
    return (await of.read(content, FILE, M1.grid, PRECISION)).rows


async def test_a_process_gives_what_a_thread_gives() -> None:
    expected = read_file(archive(), FILE, M1.grid, PRECISION).rows
    assert len(expected) == 1440
    async with some() as (made, _), some(0) as (threads, _):
        assert await read(made, archive()) == expected
        [pid] = pids(made)
        assert os.getsid(pid) != os.getsid(0), "Ctrl-C at the terminal would end it in the middle"
        assert await read(threads, archive()) == expected
        assert pids(threads) == []
    await gone_or_reaped(pid)


async def gone_or_reaped(pid: int) -> None:
    try:
        await gone(pid)
    except ProcessLookupError:
        return


@pytest.mark.parametrize(
    "damage", ["1,2,3\n", f"{DAY.end_ms},1,1,1,1,0,{DAY.end_ms + 59_999},0,0,0,0,0\n", "\x00" * 600]
)
async def test_a_damaged_file_is_refused_with_the_same_words_and_its_process_lives_on(damage: str) -> None:
    with pytest.raises(BadKline) as expected:
        read_file(archive(damage=damage), FILE, M1.grid, PRECISION)
    async with some() as (made, witness):
        await read(made, archive(3))
        before = pids(made)
        with pytest.raises(BadKline) as found:
            await read(made, archive(damage=damage))
        assert str(found.value) == str(expected.value)
        assert len(await read(made, archive(7))) == 7
        assert pids(made) == before
        assert witness.of(UnpackerLost) == []


async def test_a_process_killed_in_the_middle_costs_a_second_try_and_nothing_else() -> None:
    async with some() as (made, witness), asyncio.TaskGroup() as tasks:
        await read(made, archive(1))
        [pid] = pids(made)
        os.kill(pid, signal.SIGSTOP)  # it stops reading the job
        reading = tasks.create_task(read(made, archive()))
        await until_at_work(made)
        os.kill(pid, signal.SIGKILL)
        assert len(await reading) == 1440
        [lost] = witness.of(UnpackerLost)
        assert (lost.name, lost.reason) == (FILE.name, f"ended with {-signal.SIGKILL}")
        assert pid not in pids(made)
        assert len(pids(made)) == 1


async def test_a_file_that_ends_every_process_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os, sys; sys.stdin.buffer.read(1000); os.kill(os.getpid(), 9)"
    monkeypatch.setattr(unpackers, "_PROGRAM", program)
    async with some() as (made, witness):
        with pytest.raises(BadKline, match=f"ended a process {TRIES} times"):
            await read(made, archive())
        assert len(witness.of(UnpackerLost)) == TRIES
        assert pids(made) == []


async def test_one_that_ended_while_it_had_nothing_to_do_is_replaced_without_a_word() -> None:
    async with some() as (made, witness):
        await read(made, archive(1))
        [pid] = pids(made)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        assert len(await read(made, archive(5))) == 5
        assert pids(made) != [pid]
        assert len(pids(made)) == 1
        assert witness.of(UnpackerLost) == []


async def test_where_no_process_can_be_started_a_thread_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/there/is/no/such/program")
    async with some() as (made, witness):
        assert len(await read(made, archive(5))) == 5
        assert len(witness.of(UnpackerLost)) == 1


async def test_there_are_never_more_processes_than_asked_for_and_each_does_one_file_at_a_time() -> None:
    async with some(2) as (made, _):
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(read(made, archive(rows))) for rows in range(1, 13)]
        assert [len(each.result()) for each in reads] == list(range(1, 13))
        assert 1 <= len(pids(made)) <= 2


async def test_processes_are_started_while_files_are_still_coming_and_no_more_of_them_than_files() -> None:
    async with some(2) as (made, _):
        for files, expected in ((1, 1), (1, 1), (9, 2)):
            made.prepare(files)
            while len(made._idle) < expected:
                await turn()
            assert len(pids(made)) == expected
        before = set(pids(made))
        assert len(await read(made, archive(3))) == 3
        assert set(pids(made)) == before, "one that was there already did it"
        [dead, _] = before
        os.kill(dead, signal.SIGKILL)
        await gone(dead)
        made.prepare(2)
        while dead in pids(made) or len(made._idle) < 2:
            await turn()
        assert len(pids(made)) == 2
    async with some(0) as (none, _):
        none.prepare(4)
        assert pids(none) == []


async def test_what_a_process_found_comes_packed() -> None:
    made = Unpackers(1, Witness(), BlockBuilder)
    try:
        rows = await read(made, archive())
    finally:
        await made.aclose()
    assert isinstance(rows, SealedColumns)
    assert rows == read_file(archive(), FILE, M1.grid, PRECISION).rows


async def test_who_leaves_does_not_free_a_process_that_is_still_at_work() -> None:
    async with some() as (made, _), asyncio.TaskGroup() as tasks:
        await read(made, archive(1))
        [pid] = pids(made)
        os.kill(pid, signal.SIGSTOP)
        leaving = tasks.create_task(read(made, archive()))
        await until_at_work(made)
        leaving.cancel()
        waiting = tasks.create_task(read(made, archive(2)))
        await turn(5)
        assert leaving.cancelled()
        assert not waiting.done()
        assert pids(made) == [pid], "a second process beside the one allowed"
        os.kill(pid, signal.SIGCONT)
        assert len(await waiting) == 2


async def test_closing_ends_processes_that_are_at_work() -> None:
    async with some() as (made, _), asyncio.TaskGroup() as tasks:
        await read(made, archive(1))
        [pid] = pids(made)
        os.kill(pid, signal.SIGSTOP)
        reading = tasks.create_task(_refused(made))
        await until_at_work(made)
        async with asyncio.timeout(END_S_MAX):
            await made.aclose()
            assert "stopping" in await reading
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def _refused(made: Unpackers) -> str:
    with pytest.raises(UpstreamUnavailable) as error:
        await read(made, archive())
    return str(error.value)


_PARENT = """
import asyncio, sys
from tests.binance.test_unpackers import Unpackers, archive, pids, read

async def main():
    made = Unpackers(1, lambda event: None)
    await read(made, archive(3))
    print(*pids(made), flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


async def test_a_process_ends_when_its_parent_was_killed() -> None:
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", _PARENT, stdin=pipe, stdout=pipe, cwd=ROOT)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    fd = os.pidfd_open(pid)
    parent.kill()
    await parent.wait()
    ended, _, _ = await asyncio.to_thread(select.select, [fd], [], [], END_S_MAX)
    os.close(fd)
    assert ended, "it outlived its parent"


def test_each_core_unpacks_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 0), (2, 2), (3, 3), (64, PROCESSES_MAX)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert processes_for(None) == expected
    assert processes_for(0) == 0
    assert processes_for(3) == 3


def test_a_process_that_unpacks_starts_without_what_takes_long_to_import() -> None:
    program = "import sys, infra.binance.unpacker, infra.blocks.sealed_columns; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "zstandard" in imported.stdout.split()
    assert {"asyncio", "sqlalchemy", "httpx", "app.events"}.isdisjoint(imported.stdout.split())


@pytest.mark.parametrize("processes", [0, 1])
async def test_days_of_metrics_come_packed(processes: int) -> None:
    """A block has five days; the rows of the sixth, and those of an endpoint that lacks one, fill none."""
    start_ms = block_span(INTERVALS["5m"], DAY.start_ms).start_ms
    days = [MetricsDay("BTCUSDT", start_ms + number * DAY_MS) for number in range(6)]
    lines = [f"{label(open_ms)},BTCUSDT,{VALUES}" for open_ms in range(*days[0].span, PERIOD_MS)]
    lines[-1] = f"{label(days[0].span.end_ms - PERIOD_MS)},BTCUSDT,1,,,1.5,1,1"
    downloads = {day: zipped(day) for day in days} | {days[0]: zipped(days[0], *lines)}
    made = Unpackers(processes, Witness(), BlockBuilder)
    try:
        found = await made.read_metrics(downloads)
    finally:
        await made.aclose()
    plain = read_days(downloads)
    assert found == plain
    for name, rows in found.rows.items():
        assert isinstance(rows, SealedColumns)
        whole = [part.rows for part in rows.parts if isinstance(part, Packed)]
        assert whole == ([] if name == TOP_ACCOUNTS else [5 * 288])
        assert {type(row) for row in (rows[0], *rows[-2:], *rows[::100])} == {METRICS[name].row}


def test_rows_and_what_they_make_come_alike_however_they_are_collected() -> None:
    longer = [INTERVALS["5m"], D1]
    plain = read_file(archive(), FILE, M1.grid, PRECISION, longer)
    packed = read_file(archive(), FILE, M1.grid, PRECISION, longer, BlockBuilder)
    assert isinstance(packed.rows, SealedColumns)
    assert packed == plain
    assert {interval: len(rows) for interval, rows in plain.longer.items()} == {longer[0]: 288, D1: 1}


@pytest.mark.parametrize("collect", [Gathered, BlockBuilder])
def test_a_file_that_turns_unusual_in_its_last_line_is_read_anew_and_nothing_comes_twice(collect: Collect) -> None:
    newest_ms = DAY.end_ms - MINUTE_MS
    line = f"{newest_ms},1.50,2.50,1.25,2.00,1439.125,{newest_ms + 59_999},3.00000,4,1.000,1.50000,0\n"
    found = read_file(archive(damage=line), FILE, M1.grid, PRECISION, [D1], collect)  # known to occur in the archive
    assert found == FileKlines(read_file(archive(), FILE, M1.grid, PRECISION).rows, {})
    assert len(found.rows) == 1440
