"""`klinenode demo` as a new user runs it."""

import re
import shlex
import signal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
import websockets

from app.domain.interval import DAY_MS
from infra.net.tls import trusting_nobody
from infra.process.clock import SystemClock
from tests.postgres_server import server_url
from tests.system.processes import Place, Program, Programs, free_port, pause, seconds, until

MINUTE_MS = 60_000
DEMO_S_MAX = 60.0  # the longest a new user may wait for the first 500 rows
SERVED_S_MAX = 5.0  # the promise is 1 s; a loaded test machine gets more


def remote_addresses(program: Program) -> set[str]:
    """The remote addresses of the program's sockets, from /proc, other than this machine's."""
    inodes = set()
    for pid in program.members():
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            except OSError:
                continue  # closed meanwhile
            if found:
                inodes.add(found[1])
    strangers = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            remote = fields[2].partition(":")[0]
            is_ours = remote.endswith("0100007F") or not int(remote, 16)
            if fields[9] in inodes and not is_ours:
                strangers.add(f"{table} {fields[2]}")
    return strangers


def warnings(program: Program) -> list[str]:
    """The warnings in the program's log."""
    return [line for line in program.said().splitlines() if '"level": "warning"' in line]


async def closing_frame_s(sandbox_port: int) -> tuple[int, float]:
    """Wait for the frame that closes the minute; return the minute's open time (ms) and when it arrived (s)."""
    url = f"ws://127.0.0.1:{sandbox_port}/market/stream?streams=btcusdt@kline_1m"
    async with websockets.connect(url, proxy=None) as witness:
        async for frame in witness:
            kline = orjson.loads(frame)["data"]["k"]
            if kline["x"]:
                return kline["t"], seconds()
    raise AssertionError("the socket ended")


async def test_five_hundred_exact_rows_within_a_minute_and_the_next_one_as_it_closes(tmp_path: Path) -> None:
    port, sandbox_port = free_port(), free_port()
    began_s = seconds()
    async with Programs(tmp_path) as programs:
        place = Place(programs, sandbox_port, port=port)
        demo = programs.start("demo", "--port", str(port), "--sandbox-port", str(sandbox_port))

        async def rows_are_served() -> list[list[object]]:
            answer = await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500&only_final=true")
            return answer.json() if answer.status_code == 200 and len(answer.json()) == 500 else []

        rows = await until(rows_are_served, "500 rows are served", DEMO_S_MAX)
        print(f"MEASURED demo: 500 rows {seconds() - began_s:.2f} s after the command")
        assert seconds() - began_s < DEMO_S_MAX
        last_open_ms = rows[-1][0]
        path = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500&endTime={last_open_ms}"
        mine = await place.get(path)
        async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as exchange:
            theirs = await exchange.get(f"http://127.0.0.1:{sandbox_port}{path}")
        assert mine.content == theirs.content
        async with place.http(**{"If-None-Match": mine.headers["etag"]}) as client:
            second = await client.get(path)
        assert (second.status_code, second.content) == (304, b"")

        open_ms, heard_s = await closing_frame_s(sandbox_port)

        async def is_served() -> bool:
            newest = await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1&only_final=true")
            return bool(newest.json()[0][0] >= open_ms)

        await until(is_served, "the closed row is served")
        delay_s = seconds() - heard_s
        print(f"MEASURED closing frame to served: {delay_s * 1000:.0f} ms")
        assert delay_s < SERVED_S_MAX
        one = await place.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime={open_ms}&limit=1")
        async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as exchange:
            asked = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime={open_ms}&endTime={open_ms}"
            assert one.content == (await exchange.get(f"http://127.0.0.1:{sandbox_port}{asked}")).content
        assert remote_addresses(demo) == set()
        assert not demo.events("TaskEnded")
        began_s = seconds()
        before = warnings(demo)  # a busy machine's sandbox may be late with an acknowledgement
        demo.signal(signal.SIGINT, group=True)
        assert await demo.ended() == 0
        assert "Traceback" not in demo.said()
        assert warnings(demo) == before, "the node ends before its exchange"
        print(f"MEASURED demo, Ctrl-C: {seconds() - began_s:.2f} s")


@pytest.mark.parametrize("moment", ["the sandbox is starting", "the node answers"])
async def test_sigterm_ends_the_node_and_its_sandbox_whenever_it_comes(tmp_path: Path, moment: str) -> None:
    port, sandbox_port = free_port(), free_port()
    async with Programs(tmp_path) as programs:
        demo = programs.start("demo", "--port", str(port), "--sandbox-port", str(sandbox_port), "--symbols", "4")

        async def both_run() -> bool:
            return len(demo.members()) == 2

        place = Place(programs, sandbox_port, port=port)
        await until(both_run if moment == "the sandbox is starting" else place.is_up, moment)
        await pause(0.1)  # the sandbox's process exists a moment before the demo has noted it
        demo.signal(signal.SIGTERM)
        assert await demo.ended() == 0
        assert "Traceback" not in demo.said()


def server_folder(folder: Path) -> Path | None:
    """The folder of the server of a demo that runs in `folder`."""
    file = folder / "data" / "demo" / "postgres-url"
    return Path(parse_qs(urlsplit(file.read_text()).query)["host"][0]) if file.exists() else None


def does_exist(path: Path) -> bool:
    return path.exists()


async def test_on_postgres_it_is_the_same_and_its_server_ends_with_it(tmp_path: Path) -> None:
    port, sandbox_port = free_port(), free_port()
    server_url()  # skips where there is no server
    async with Programs(tmp_path) as programs:
        ports = ("--port", str(port), "--sandbox-port", str(sandbox_port))
        demo = programs.start("demo", "--store", "postgres", "--symbols", "2", *ports)
        place = Place(programs, sandbox_port, port=port)
        await until(place.is_whole, "the demo holds its wish", DEMO_S_MAX)
        folder = server_folder(tmp_path)
        assert folder is not None
        assert does_exist(folder / "data" / "postmaster.pid")
        path = f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=500&endTime={SystemClock().now_ms() - 2 * MINUTE_MS}"
        async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as exchange:
            theirs = await exchange.get(f"http://127.0.0.1:{sandbox_port}{path}")
        assert (await place.get(path)).content == theirs.content
        status, said = await programs.run("gaps", "--demo")
        assert (status, "no gaps" in said) == (0, True)
        before = warnings(demo)
        demo.signal(signal.SIGINT, group=True)
        assert await demo.ended() == 0
        assert "Traceback" not in demo.said()
        assert warnings(demo) == before, "the node ends before exchange and database"
        assert not does_exist(folder)
        assert server_folder(tmp_path) is None


async def test_the_commands_find_the_demo_and_the_lines_it_prints_work(tmp_path: Path) -> None:
    port, sandbox_port = free_port(), free_port()
    async with Programs(tmp_path) as programs:
        status, said = await programs.run("verify", "--demo")
        assert (status, "no demo runs in this folder" in said) == (2, True)
        demo = programs.start("demo", "--port", str(port), "--sandbox-port", str(sandbox_port), "--symbols", "2")
        place = Place(programs, sandbox_port, port=port)
        await until(place.is_whole, "the demo holds its wish")
        lines = [shlex.split(line) for line in demo.said().splitlines() if line.startswith("  ")]
        commands = [line[1:] for line in lines if line[0].endswith("klinenode")]
        assert [command[0] for command in commands] == ["gaps", "verify", "backfill"]
        for command in commands:
            assert "--demo" in command
            status, said = await programs.run(*command)
            assert (status, "Traceback" in said) == (0, False), f"{command}: {said}"
        ledgers = await Place(programs, sandbox_port, database="data/demo/klinenode.db").ledgers()
        held_ms = min(ledger.held.hull.start_ms for ledger in ledgers.values() if ledger.held)
        assert held_ms < SystemClock().now_ms() - 4 * DAY_MS, "what is beyond the demo's three days was fetched"
        status, said = await programs.run("gaps")
        assert (status, "a demo runs in this folder" in said) == (2, True), "whose gaps these are is said"
        demo.signal(signal.SIGTERM)
        assert await demo.ended() == 0


async def test_the_demo_listens_where_its_greeting_says(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        status, said = await programs.run("demo", "--port", "0", "--sandbox-port", str(free_port()))
        assert (status, "curl" in said, "Usage" in said) == (2, False, True), "port 0 was printed as it stood"
