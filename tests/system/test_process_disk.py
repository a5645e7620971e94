"""The disk is full, read-only, locked or gone: what the node reports and serves, and how it recovers."""

import contextlib
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from infra.sqlite.library import sqlite3
from tests.system.processes import Place, Program, Programs, ShiftedClock, until

MIB: Final = 1 << 20
HELD: Final = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=60&endTime={}"
NEWEST: Final = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=3"
NOTICED_S: Final = 75.0  # nothing is written before the next minute closes
RETRIED_S: Final = 240.0  # a failed write is retried within 30 s, a proof takes a while, and the machine may be busy
LOG_LINES_MAX: Final = 12  # about one failure of the database: it is reported once, and each batch is tried a few times
QUEUE_ROWS_MAX: Final = 100  # a handful of symbols for a few minutes

LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


def system(*command: str) -> bool:
    """Run a command that may not be permitted here; return whether it succeeded."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """Mount a file system of `size_mib`; skips the test if that is not permitted."""
    disk = folder / "disk"
    disk.mkdir()
    if not system("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(disk)):
        pytest.skip("no permission to mount a small file system here")
    try:
        yield disk
    finally:
        system("umount", "--lazy", str(disk))


@contextmanager
def locked_by_another_program(database: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        try:
            yield other
        finally:
            other.kill()


def fill_up(disk: Path) -> Path:
    """Fill the disk with one file, and return it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0
    return ballast


def empty_the_log(database: Path) -> None:
    """Move the log into the database file, so that the next write needs new space."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def has_reason(place: Place, text: str) -> Callable[[], Awaitable[dict[str, Any] | None]]:
    async def report() -> dict[str, Any] | None:
        found = await place.health()
        return found if any(text in reason for reason in found["reasons"]) else None

    return report


def is_well(place: Place) -> Callable[[], Awaitable[bool]]:
    """A condition: health has no complaint, nothing is missing and nothing waits to be written."""

    async def well() -> bool:
        found = await place.health()
        troubles = [reason for reason in found["reasons"] if "set up NTP" not in reason]  # caused by the ShiftedClock
        return not troubles and found["queue_depth"] == 0 and await place.is_whole()

    return well


@asynccontextmanager
async def filled(folder: Path, database: str, **settings: str) -> AsyncIterator[tuple[SandboxServer, Place, Program]]:
    """A node that holds its wish, a few seconds before a minute ends."""
    async with SandboxServer(ShiftedClock(40), symbols=4) as sandbox, Programs(folder) as programs:
        place = Place(programs, sandbox.port, settings=settings, database=database)
        node = place.serve()
        await until(is_well(place), "everything is held")
        yield sandbox, place, node


async def serves_what_it_holds(place: Place, sandbox: SandboxServer) -> None:
    """Assert that old rows (from the database) and new ones (from memory or the exchange) are served and right."""
    end_ms = sandbox.exchange.clock.now_ms() // 60_000 * 60_000 - 600 * 60_000
    for path, start_ms, last_ms in (
        (HELD.format(end_ms - 1), end_ms - 60 * 60_000, end_ms),
        (NEWEST, None, None),
    ):
        answer = await place.get(path)
        assert answer.status_code == 200, answer.text
        rows = answer.json()
        first = rows[0][0] if start_ms is None else start_ms
        last = rows[-1][0] + 60_000 if last_ms is None else last_ms
        assert rows == sandbox.exchange.rows("BTCUSDT", "1m", first, last)


async def complains_serves_and_recovers(
    sandbox: SandboxServer, place: Place, node: Program, complaint: str, repair: Callable[[], object]
) -> None:
    """Assert what all failures of the disk have in common: complaint, service meanwhile, recovery by `repair`."""
    await until(has_reason(place, complaint), f"health says: {complaint}", NOTICED_S)
    assert (await place.health())["status"] == "degraded"
    before = sandbox.journal.written
    await serves_what_it_holds(place, sandbox)

    async def has_queued() -> bool:
        return bool((await place.health())["queue_depth"])

    await until(has_queued, "a closed kline waits to be written", NOTICED_S)
    assert (await place.health())["queue_depth"] <= QUEUE_ROWS_MAX
    asked = [entry for entry in sandbox.journal.since(before) if entry.path == "/fapi/v1/klines"]
    assert len(asked) < 60, "what cannot be kept is not fetched again and again"
    said = [event for name in ("StoreFailed", "CommitFailed") for event in node.events(name)]
    assert any(complaint in event["reason"] for event in said)
    assert len(said) <= LOG_LINES_MAX
    repair()
    await until(is_well(place), "it is whole again by itself", RETRIED_S)
    assert node.process.poll() is None, "without a restart"
    assert node.events("StoreRecovered")
    assert not node.events("TaskEnded")
    assert await place.check_store(sandbox) > 4 * 1440


async def test_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path, 32) as disk:
        async with filled(tmp_path, "disk/klinenode.db") as (sandbox, place, node):
            empty_the_log(disk / "klinenode.db")
            ballast = fill_up(disk)
            await complains_serves_and_recovers(sandbox, place, node, "the disk is full; free some", ballast.unlink)


async def test_a_log_that_may_not_grow(tmp_path: Path) -> None:
    """A limit on file sizes, which needs no permission, stands in for a full disk."""
    async with filled(tmp_path, "klinenode.db") as (sandbox, place, node):
        empty_the_log(tmp_path / "klinenode.db")
        _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (20_000, hard))
        node.err.write_bytes(b"")  # its log is a file too and must stay below the limit
        await complains_serves_and_recovers(
            sandbox,
            place,
            node,
            "check the disk, its free space",
            lambda: resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (hard, hard)),
        )


async def test_a_database_made_read_only_under_the_node(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("klinenode.db", "klinenode.db-wal")]
    async with filled(tmp_path, "klinenode.db") as (sandbox, place, node):
        if not system("chattr", "+i", *files):
            pytest.skip("no permission to make a file immutable here")
        try:
            await complains_serves_and_recovers(
                sandbox, place, node, "write permission", lambda: system("chattr", "-i", *files)
            )
        finally:
            system("chattr", "-i", *files)


async def test_a_database_locked_by_another_program(tmp_path: Path) -> None:
    async with filled(tmp_path, "klinenode.db") as (sandbox, place, node):
        with locked_by_another_program(tmp_path / "klinenode.db") as other:
            await complains_serves_and_recovers(
                sandbox, place, node, "is locked by another process; wait, or end the program", other.kill
            )


async def test_a_disk_that_is_full_at_start(tmp_path: Path) -> None:
    """With no database, then with one that cannot be written: the node starts, reports why, and waits."""
    with small_disk(tmp_path, 32) as disk:
        ballast = fill_up(disk)
        async with SandboxServer(ShiftedClock(40), symbols=4) as sandbox, Programs(tmp_path) as programs:
            place = Place(programs, sandbox.port, database="disk/klinenode.db")
            node = place.serve()
            await until(place.is_up, "the node answers")
            await until(has_reason(place, "the disk is full; free some"), "health says why")
            refused = await place.get(HELD.format(sandbox.exchange.clock.now_ms() - 600 * 60_000))
            assert refused.status_code in (200, 503), "read through, or refused in Binance's form"
            assert node.events("StoreFailed")
            ballast.unlink()
            await until(is_well(place), "it fills itself without a restart", RETRIED_S)
            for end in (signal.SIGKILL, signal.SIGTERM):
                fill_up(disk)
                node.signal(end)
                await node.ended()
                node = place.serve()
                await until(has_reason(place, "the disk is full; free some"), f"health says why after {end.name}")
                await serves_what_it_holds(place, sandbox)
                ballast.unlink()
                await until(is_well(place), "it is whole again without a restart", RETRIED_S)
                assert not node.events("TaskEnded")
            assert await place.check_store(sandbox) > 4 * 1440


async def test_history_that_does_not_fit_is_not_begun_and_live_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path, 60) as disk:
        async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
            settings = {
                "BACKFILL_DAYS": "60",
                "DISK_FREE_BYTES_MIN": str(20 * MIB),
                "SYMBOLS": "BTCUSDT",
                "SEAL_AFTER_DAYS": "0",  # sealed, it would fit
            }
            place = Place(programs, sandbox.port, settings=settings, database="disk/klinenode.db")
            node = place.serve()
            await until(
                has_reason(place, "backfill is paused: what is wished and not held needs about"), "it is refused"
            )
            (estimate,) = node.events("WishEstimated")
            for word in (" MB of disk (", " are free), ", " of download and "):
                assert word in estimate["summary"]
            for word in ("BACKFILL_DAYS", "SYMBOLS", "AUTO_SYNC_SYMBOLS=false", "DISK_FREE_BYTES_MIN"):
                assert word in estimate["shortage"]
            (replaced,) = node.events("SymbolsReplaced")
            assert (replaced["symbols"], replaced["level"]) == (["BTCUSDT"], "warning")
            assert "AUTO_SYNC_SYMBOLS=false" in replaced["advice"]
            await until(is_ready(place), "the tails are whole all the same")
            assert shutil.disk_usage(disk).free > 40 * MIB
            assert node.process.poll() is None
            assert "needs about" in (await place.get("/v1/overview")).text, "the dashboard says so too"

            node.signal(signal.SIGTERM)
            assert await node.ended() == 0
            less = Place(programs, sandbox.port, place.port, {**settings, "AUTO_SYNC_SYMBOLS": "false"}, place.database)
            node = less.serve()
            await until(is_well(less), "only my symbols: that fits")
            assert not node.events("BackfillPaused")
            assert not node.events("SymbolsReplaced")


def is_ready(place: Place) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return (await place.get("/v1/ready")).status_code == 200

    return ready


async def test_history_stops_before_the_disk_is_full_and_live_goes_on(tmp_path: Path) -> None:
    """The wish fits when the backfill begins; then other files fill the disk."""
    with small_disk(tmp_path, 160) as disk:
        free_min, under_way = 60 * MIB, 40 * MIB  # four monthly files, each 5 MB in the table and in the log
        async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
            settings = {"BACKFILL_DAYS": "60", "DISK_FREE_BYTES_MIN": str(free_min), "SEAL_AFTER_DAYS": "0"}
            sandbox.inject(kind="archive_slow", delay_s=0.5)
            place = Place(programs, sandbox.port, settings=settings, database="disk/klinenode.db")
            node = place.serve()

            async def has_begun() -> bool:
                assert not node.events("BackfillPaused")
                return bool(node.events("WishEstimated"))

            await until(has_begun, "the wish is estimated")
            assert node.events("WishEstimated")[0]["shortage"] is None
            (disk / "others").write_bytes(b"x" * (shutil.disk_usage(disk).free - free_min - 5 * MIB))
            await until(has_reason(place, "backfill is paused: "), "history is paused")
            assert shutil.disk_usage(disk).free > free_min - under_way, "jobs under way and the log are all that came"
            assert not node.events("StoreFailed")
            await until(is_ready(place), "the tails are whole all the same")
            sandbox.control.faults.clear()
            assert system("mount", "-o", "remount,size=400m", str(disk))
            lacking = (await place.health())["missing_klines"]

            async def goes_on() -> bool:
                health = await place.health()
                return not health["reasons"] and health["missing_klines"] < lacking - 1440

            await until(goes_on, "history goes on when there is space")
            assert node.events("BackfillResumed")


@pytest.mark.parametrize("is_replaced", [False, True], ids=["deleted", "replaced"])
async def test_a_database_that_is_taken_away_under_the_node(tmp_path: Path, is_replaced: bool) -> None:
    """The node must not go on writing to a file that has no name any more."""
    async with filled(tmp_path, "klinenode.db") as (sandbox, place, node):
        copy = tmp_path / "copy.db"
        if is_replaced:
            empty_the_log(tmp_path / "klinenode.db")
            shutil.copy(tmp_path / "klinenode.db", copy)
        for name in ("klinenode.db", "klinenode.db-wal", "klinenode.db-shm"):
            (tmp_path / name).unlink()
        if is_replaced:
            copy.rename(tmp_path / "klinenode.db")

        async def has_noticed() -> bool:
            return bool(node.events("StoreFailed"))

        await until(has_noticed, "the log says so")
        assert "deleted or replaced" in node.events("StoreFailed")[0]["reason"]
        await until(is_well(place), "it holds everything again", RETRIED_S)
        assert node.process.poll() is None
        assert not node.events("TaskEnded")
        assert deleted_files(node) == []
        assert await place.check_store(sandbox) > 4 * 1440
        await serves_what_it_holds(place, sandbox)


async def test_a_lock_file_that_is_taken_away_lets_no_second_writer_in(tmp_path: Path) -> None:
    async with filled(tmp_path, "klinenode.db") as (sandbox, place, node):
        second = Place(place.programs, sandbox.port)
        other = second.serve()
        await until(second.is_up, "the second node answers")
        assert (await second.health())["role"] == "reader"
        (tmp_path / "klinenode.db.lock").unlink()

        async def one_writes() -> bool:
            return sorted([(await place.health())["role"], (await second.health())["role"]]) == ["reader", "writer"]

        await until(lambda: is_true(bool(node.events("StoreFailed"))), "the first has noticed")
        await until(one_writes, "one of them writes")
        for each in (place, second):
            await serves_what_it_holds(each, sandbox)
        assert not node.events("TaskEnded") + other.events("TaskEnded")
        for each in (place, second):
            await until(complains_no_more(each), "nobody complains of what is over")
        assert await place.check_store(sandbox) > 4 * 1440


def complains_no_more(place: Place) -> Callable[[], Awaitable[bool]]:
    async def calm() -> bool:
        return not any("lock file" in reason for reason in (await place.health())["reasons"])

    return calm


async def is_true(answer: bool) -> bool:
    return answer


def deleted_files(node: Program) -> list[str]:
    """The database files that the node has open and that are deleted."""
    names = []
    for link in Path(f"/proc/{node.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the folder was listed
            names.append(str(link.readlink()))
    return [name for name in names if name.endswith("(deleted)") and "klinenode.db" in name]
