"""The exchange is away or has banned the node: what the node reports, serves and refrains from."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

from infra.process.clock import SystemClock
from infra.sandbox.journal import Entry
from infra.sandbox.server import SandboxServer
from tests.system.processes import Place, Programs, free_port, pause, until

WATCHED_S = 6.0
CONNECTIONS_MAX = 20  # in WATCHED_S; measured 6: the sockets' retries, and one probe at a time
HELD = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=60&endTime={}"
UNHELD = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=10&startTime=1735689600000"
BAN_S = 600


class Slammed:
    """A listener that closes every connection at once and counts them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connections = 0

    async def __aenter__(self) -> "Slammed":
        self._server = await asyncio.start_server(self._slam, "127.0.0.1", self._port)
        return self

    async def _slam(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()


async def test_an_exchange_that_is_away_is_asked_politely_and_taken_back_when_it_returns(tmp_path: Path) -> None:
    upstream_port = free_port()
    async with Programs(tmp_path) as programs:
        place = Place(programs, upstream_port)
        async with SandboxServer(SystemClock(), symbols=4, port=upstream_port) as sandbox:
            node = place.serve()
            await until(place.is_whole, "the wish is held")
            end_ms = (await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5")).json()[0][0]
            before = (await place.get(HELD.format(end_ms))).content
            node.signal(signal.SIGTERM)
            assert await node.ended() == 0

        place.serve()  # nothing listens on the exchange's port now

        async def says_why() -> bool:
            report = await place.health()
            return report["status"] == "degraded" and any("ConnectError" in reason for reason in report["reasons"])

        await until(says_why, "health is degraded and says why", 10)
        answer = await place.get(HELD.format(end_ms))
        assert (answer.status_code, answer.content) == (200, before)
        answer = await place.get(UNHELD)
        assert answer.status_code == 503
        assert answer.json().keys() == {"code", "msg"}
        assert answer.json()["code"] < 0
        assert int(answer.headers["retry-after"]) > 0
        assert (await place.get("/v1/ready")).status_code in (200, 503)  # the tail may still be fresh

        async with Slammed(upstream_port) as slammed:
            await pause(WATCHED_S)
            print(f"MEASURED connections to an exchange that is away: {slammed.connections} in {WATCHED_S} s")
            assert 0 < slammed.connections <= CONNECTIONS_MAX

        async with SandboxServer(SystemClock(), symbols=4, port=upstream_port) as sandbox:

            async def is_well() -> bool:
                return (await place.health())["status"] == "ok" and await place.is_whole()

            await until(is_well, "the node fills itself without a restart")
            assert await place.check_store(sandbox) > 4 * 1440
            assert (await place.get(UNHELD)).status_code == 200


async def test_without_exchange_or_data_the_node_starts_and_says_so(tmp_path: Path) -> None:
    async with Programs(tmp_path) as programs:
        place = Place(programs, free_port())
        node = place.serve()
        await until(place.is_up, "the node answers")
        report = await place.health()
        assert report["status"] == "degraded"
        assert any("never synced" in reason for reason in report["reasons"])
        for path in ("/fapi/v1/klines?symbol=BTCUSDT&interval=1m", "/fapi/v1/exchangeInfo"):
            answer = await place.get(path)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
        assert (await place.get("/v1/ready")).status_code == 503
        assert (await place.get("/fapi/v1/ping")).status_code == 200
        node.signal(signal.SIGTERM)
        assert await node.ended() == 0
        assert "Traceback" not in node.said()


async def test_a_ban_silences_the_node_until_it_ends_also_across_kill_and_restart(tmp_path: Path) -> None:
    sandbox_clock = SystemClock()
    async with SandboxServer(sandbox_clock, symbols=8) as sandbox, Programs(tmp_path) as programs:
        place = Place(programs, sandbox.port, settings={"BACKFILL_DAYS": "20"})
        node = place.serve()

        async def holds_something() -> bool:
            report = (await place.get("/v1/coverage?limit=1&symbol=BTCUSDT&interval=1m")).json()
            return bool(report["series"][0]["held"])

        await until(holds_something, "the first rows are held")
        sandbox.inject(kind="http_418", ban_s=BAN_S, count=1)

        async def is_banned() -> bool:
            return bool((await place.health())["stand_down_until_ms"])

        async with place.http() as client:  # triggers the ban, if nothing has yet
            await client.get(UNHELD)
        await until(is_banned, "the ban has arrived")
        await pause(0.5)
        mark, banned_ms = sandbox.journal.written, sandbox_clock.now_ms()

        def came_since() -> list[Entry]:  # by arrival: slow answers are journalled later
            return [entry for entry in sandbox.journal.since(mark) if entry.time_ms >= banned_ms]

        for _restart in range(2):
            answer = await place.get("/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=5")
            assert [entry for entry in came_since() if entry.kind == "rest"] == []
            report = await place.health()
            assert report["status"] == "degraded"
            assert any("418" in reason for reason in report["reasons"])
            refused = await place.get(UNHELD)
            assert refused.status_code == 503
            assert BAN_S - 60 <= int(refused.headers["retry-after"]) <= BAN_S
            assert answer.status_code in (200, 503)
            held = (await place.get("/v1/coverage?limit=1&symbol=BTCUSDT&interval=1m")).json()["series"][0]["held"]
            end_ms = held[-1]["end"] - 1
            served = await place.get(f"/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=20&endTime={end_ms}")
            assert len(served.json()) == 20
            await pause(1.2)
            node.kill()
            node = place.serve()
            await until(place.is_up, "the node answers after the restart")
        await pause(1.2)
        kinds = Counter(entry.kind for entry in came_since())
        assert kinds["rest"] == 0
