"""The operator's commands gaps and backfill, alone and beside a running node."""

import signal
import socket
from functools import cache
from pathlib import Path

import httpx
import pytest

from app.domain.interval import DAY_MS
from app.domain.span import Span
from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, asked_again, pause, until

ONE = ("--symbol", "BTCUSDT", "--interval", "1m")


@cache
def today() -> int:
    """The day, counted from 1970, of the first call: the days that a test means stay while midnight passes."""
    return SystemClock().now_ms() // DAY_MS


def midnight(days_ago: int) -> int:
    return (today() - days_ago) * DAY_MS


def days(first: int, last: int) -> tuple[str, ...]:
    """Command line options for the days from `first` days ago until `last` days ago, which is excluded."""
    return ("--start", str(midnight(first)), "--end", str(midnight(last)))


def found(folder: Path, pattern: str) -> list[Path]:
    return list(folder.rglob(pattern))


async def test_backfill_by_itself_stops_at_ctrl_c_and_goes_on_from_there(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox:
        sandbox.inject(kind="archive_slow", delay_s=0.25)
        async with Programs(tmp_path) as programs:
            place = Place(programs, sandbox.port, settings={"FETCH_CONCURRENCY": "1"})
            asked = Span(midnight(12), midnight(3))

            async def held() -> list[Span]:
                found = [ledger.held.clip(asked) for series, ledger in (await place.ledgers()).items()]
                return [span for spans in found for span in spans]

            async def has_begun() -> bool:
                return bool(await held())

            first = programs.start("backfill", *ONE, *days(12, 3), env=place.env)
            await until(has_begun, "the first day is held")
            first.signal(signal.SIGINT, group=True)
            assert await first.ended() == 130
            assert "goes on from here" in first.said()
            assert "Traceback" not in first.said()
            known, mark = await place.ledgers(), sandbox.journal.written
            assert sum(span.end_ms - span.start_ms for span in await held()) < asked.end_ms - asked.start_ms
            status, said = await programs.run("gaps", *ONE, *days(12, 3), env=place.env)
            assert (status, "BTCUSDT" in said) == (1, True)

            status, said = await programs.run("backfill", *ONE, *days(12, 3), env=place.env)
            assert status == 0
            assert f"{9 * 1440}/{9 * 1440}" in said, "no progress was shown"
            assert asked_again(sandbox.journal.since(mark), known) == []
            assert await held() == [asked]
            assert await place.check_store(sandbox) == 9 * 1440
            status, said = await programs.run("gaps", *ONE, *days(12, 3), env=place.env)
            assert (status, "no gaps" in said) == (0, True)
            status, said = await programs.run("gaps", *ONE, *days(13, 3), env=place.env)
            assert (status, " 1440 " in said) == (1, True)
            assert not any(entry.kind == "connect" for entry in sandbox.journal.since(0)), "a command opened sockets"


async def test_backfill_beside_a_running_node_goes_through_it(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"ADMIN_TOKEN": "let-me-in"})
        place.serve()
        await until(place.is_whole, "the wish is held")
        status, said = await programs.run("gaps", env=place.env)
        assert (status, "no gaps" in said) == (0, True)
        command = ("backfill", "--symbol", "ethusdt", "--interval", "5m", "--interval", "1h", *days(9, 7))
        status, said = await programs.run(*command, env=place.env)
        assert (status, f"http://127.0.0.1:{place.port}" in said) == (0, True)
        held = {f"{series.symbol}{series.interval}": ledger.held for series, ledger in (await place.ledgers()).items()}
        for name in ("ETHUSDT5m", "ETHUSDT1h"):
            assert held[name].covers(Span(midnight(9), midnight(7)))
        assert await place.check_store(sandbox)
        status, said = await programs.run(*command, env={**place.env, "ADMIN_TOKEN": "wrong"})
        assert (status, "refused (401)" in said) == (2, True)


async def test_a_backfill_beside_a_node_is_told_truly_and_can_be_withdrawn(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"FETCH_CONCURRENCY": "1"})
        place.serve()
        await until(place.is_whole, "the wish is held")
        sandbox.inject(kind="archive_slow", delay_s=2.0)
        watching = programs.start("backfill", *ONE, *days(40, 10), env=place.env)

        async def is_wished() -> bool:
            report = (await place.get("/v1/coverage?symbol=BTCUSDT&interval=1m")).json()
            return any(span["start"] <= midnight(39) for span in report["series"][0]["wished"])

        await until(is_wished, "the node wishes for it")
        await pause(1.0)
        watching.signal(signal.SIGINT, group=True)
        assert await watching.ended() == 130
        said = " ".join(watching.said().split())
        assert f"the node at http://127.0.0.1:{place.port} goes on filling" in said
        assert "backfill --symbol BTCUSDT" in said
        assert "--cancel" in said
        assert "Traceback" not in said
        assert await is_wished(), "it does go on"
        status, said = await programs.run("backfill", "--cancel", *ONE, *days(40, 10), env=place.env)
        assert (status, "withdrawn: the wishes of 1 series" in said) == (0, True)
        assert not await is_wished()
        status, said = await programs.run("backfill", "--cancel", env=place.env)
        assert (status, "nothing to withdraw" in said) == (0, True)


async def test_a_backfill_of_metrics_says_what_it_waits_for_and_ends(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        command = ("backfill", "--symbol", "BTCUSDT@openInterestHist", "--interval", "5m", *days(35, 33))
        sandbox.inject(kind="archive_404", path="*metrics*")
        waiting = programs.start(*command, env=place.env)

        async def is_told() -> bool:
            said = " ".join(waiting.said().split())
            return "waiting: the last failed fetch: the archive has no" in said and "again in 30 min" in said

        await until(is_told, "the reason is printed")
        waiting.signal(signal.SIGINT, group=True)
        assert await waiting.ended() == 130
        assert not any(ledger.known for ledger in (await place.ledgers()).values()), "it is not sure yet"
        sandbox.faults.clear()
        status, said = await programs.run(*command, env=place.env)
        assert (status, f"{2 * 288}/{2 * 288}" in said) == (0, True), "a new process looks at once"


async def test_a_big_backfill_is_asked_about_first(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, 1)
        big = ("--symbol", "BTCUSDT", "--interval", "1m", "--start", "2015-01-01")
        status, said = await programs.run("backfill", *big, env=place.env)
        assert (status, "add --yes" in said, "of disk" in said, "Traceback" in said) == (2, True, True, False)
        status, said = await programs.run("backfill", *big, "--yes", env=place.env)
        assert (status, "add --yes" in said, "cannot be reached" in said) == (2, False, True), "it begins"


async def test_a_backfill_that_does_not_fit_on_the_disk_says_so(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"DISK_FREE_BYTES_MIN": str(1 << 50)})
        status, said = await programs.run("backfill", *ONE, *days(9, 3), env=place.env)
        assert (status, "Traceback" in said) == (2, False), said
        for words in ("stopped", "disk are free, less than DISK_FREE_BYTES_MIN", "To withdraw the wish: ", "--cancel"):
            assert words in said
        place.serve()
        await until(place.is_up, "the node answers")
        watching = programs.start("backfill", *ONE, *days(9, 3), env=place.env)

        async def says_why() -> bool:
            return "waiting: backfill is paused: only" in watching.said()

        await until(says_why, "what the node waits for is printed")
        watching.signal(signal.SIGINT, group=True)
        assert await watching.ended() == 130
        assert watching.said().count("waiting: backfill is paused") == 1, "a reason is printed once"


async def test_gaps_are_listed_in_a_table_by_series(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        status, said = await programs.run("gaps", env=place.env)
        assert (status, "cannot be read" in said) == (2, True), "without a database there is nothing to list"
        status, _ = await programs.run("backfill", *ONE, *days(2, 1), env=place.env)
        assert status == 0
        status, said = await programs.run("gaps", "--symbol", "BTCUSDT", env=place.env)
        assert status == 1
        lines = [line for line in said.splitlines() if "BTCUSDT" in line]
        assert [line.split("│")[2].strip() for line in lines] == ["1m", "5m", "1h"]


async def test_what_makes_no_sense_is_said_and_changes_nothing(tmp_path: Path) -> None:
    async with SandboxServer(SystemClock(), symbols=4) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port)
        for options, reason in [
            (("--interval", "7m"), "unknown interval 7m"),
            (("--interval", "1M", "--start", "yesterday"), "--start yesterday"),
            (("--start", "2026-01-02", "--end", "2026-01-01"), "--start must be before --end"),
            (("--symbol", "NOSUCHUSDT"), "NOSUCHUSDT"),
        ]:
            status, said = await programs.run("backfill", *options, env=place.env)
            assert (status, reason in said, "Traceback" in said) == (2, True, False)
        assert await place.ledgers() == {}


async def test_a_command_that_needs_a_database_makes_none(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        env = Place(programs, 1).env | {"SEAL_AFTER_DAYS": "0"}
        other = f"sqlite:///{tmp_path / 'other.db'}"
        move = ("migrate-store", env["DB_URL"], other)
        for words in (("verify",), ("backfill", "--cancel"), ("unseal",), move):
            status, said = await programs.run(*words, env=env)
            assert (status, "does not exist" in said, "Traceback" in said) == (2, True, False), words
        assert found(tmp_path, "*.db*") == []


async def test_backfill_without_an_exchange_says_so_and_ends(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, 1)
        status, said = await programs.run("backfill", *ONE, *days(2, 1), env=place.env)
        assert (status, "cannot be reached" in said, "Traceback" in said) == (2, True, False)


def address_of_this_machine() -> str:
    """An address of this machine on a network, else loopback; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("203.0.113.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", [address_of_this_machine(), "0.0.0.0", "::"])
async def test_the_commands_reach_a_node_on_any_address_by_its_token(tmp_path: Path, host: str) -> None:
    async with SandboxServer(SystemClock(), symbols=2) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"HOST": host})
        node = place.serve()

        async def writes() -> bool:
            return any(event["is_writer"] for event in node.events("LeaseChanged"))

        await until(writes, "the node is the writer")
        _, url = place.writer()
        for command in (("backfill", *ONE, *days(3, 2)), ("verify", *ONE, *days(3, 2))):  # the first to hold some
            status, said = await programs.run(*command, env=place.env)
            assert (status, f"the node at {url} is the writer" in said) == (0, True), said
        token = tmp_path / f"{place.database}.token"
        token.write_text("what somebody would guess who cannot read the file\n")
        async with httpx.AsyncClient(base_url=url, trust_env=False, verify=trusting_nobody()) as client:
            for headers in ({}, {"Authorization": "Bearer guessed"}):
                answer = await client.post("/v1/admin/symbols/refresh", headers=headers)
                assert (answer.status_code, token.name in answer.json()["error"]) == (401, True)
