"""Nodes on one Postgres database as on several hosts: cut off, suspended, restarted, and one behind a pooler."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest

from infra.net.tls import trusting_nobody
from infra.sandbox.server import SandboxServer
from tests.postgres.bouncer import answering, bouncer
from tests.postgres_server import PostgresServer, fresh_database, shared_server
from tests.system.processes import Place, Programs, ShiftedClock, seconds, until
from tests.tcp_proxy import TcpProxy

PATH = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=100&endTime={end_ms}"


async def role(place: Place) -> str:
    return str((await place.health())["role"])


async def complaints(place: Place) -> list[str]:
    """Why the node is degraded, but for its clock, which these tests shift."""
    return [reason for reason in (await place.health())["reasons"] if "clock is off" not in reason]


async def same_as_the_exchange(sandbox: SandboxServer, *places: Place) -> None:
    path = PATH.format(end_ms=sandbox.exchange.clock.now_ms() // 60_000 * 60_000 - 60_001)
    async with httpx.AsyncClient(trust_env=False, verify=trusting_nobody()) as exchange:
        truth = (await exchange.get(sandbox.base_url + path)).content
    for place in places:
        answer = await place.get(path)
        assert (answer.status_code, answer.content) == (200, truth)


async def test_a_writer_beyond_a_cut_network_is_replaced_and_follows_when_it_is_back(tmp_path: Path) -> None:
    async with (
        SandboxServer(ShiftedClock(elapsed_s=5), symbols=3) as sandbox,
        Programs(tmp_path) as programs,
        TcpProxy(shared_server().port) as network,
    ):
        url = await fresh_database(shared_server().tcp_url)
        far = Place(programs, sandbox.port, server_url=url.replace(f":{shared_server().port}/", f":{network.port}/"))
        near = Place(programs, sandbox.port, server_url=url)
        far.serve()
        await until(far.is_whole, "the wish is held")
        near.serve()
        await until(near.is_whole, "the second node knows it")
        assert (await role(far), await role(near)) == ("writer", "reader")
        pid, _ = near.writer()
        network.cut()
        began_s = seconds()

        async def near_writes() -> bool:
            return near.writer()[0] not in (0, pid) and await role(near) == "writer"

        await until(near_writes, "the other node takes over", every_s=0.1)
        print(f"MEASURED network cut to the other node's lease: {seconds() - began_s:.2f} s")

        async def far_steps_down() -> bool:
            return await role(far) == "reader"

        await until(far_steps_down, "it believes in its lease no longer", every_s=0.1)
        print(f"MEASURED network cut to the end of the old writer's role: {seconds() - began_s:.2f} s")
        await same_as_the_exchange(sandbox, near)
        network.mend()
        began_s = seconds()

        async def far_follows() -> bool:
            return await far.is_whole() and not await complaints(far) and await role(far) == "reader"

        await until(far_follows, "it follows the new writer")
        print(f"MEASURED network mended to a follower in good health: {seconds() - began_s:.2f} s")
        await same_as_the_exchange(sandbox, near, far)
        assert await role(near) == "writer"
        await until(near.is_whole, "there is no gap")
        assert await near.check_store(sandbox) > 1440


async def test_a_writer_that_was_suspended_cannot_commit_and_follows(tmp_path: Path) -> None:
    async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=3) as sandbox, Programs(tmp_path) as programs:
        url = await fresh_database()
        first, second = (Place(programs, sandbox.port, server_url=url) for _ in range(2))
        program = first.serve()
        await until(first.is_whole, "the wish is held")
        second.serve()
        await until(second.is_whole, "the second node knows it")
        pid, _ = first.writer()
        assert pid == program.pid
        os.kill(pid, signal.SIGSTOP)
        began_s = seconds()

        async def another_writes() -> bool:
            return second.writer()[0] not in (0, pid) and await role(second) == "writer"

        await until(another_writes, "the other node takes over", every_s=0.1)
        print(f"MEASURED SIGSTOP of the writer to the other's lease: {seconds() - began_s:.2f} s")
        os.kill(pid, signal.SIGCONT)

        async def it_follows() -> bool:
            return await role(first) == "reader" and not await complaints(first)

        await until(it_follows, "it follows the new writer")
        assert await role(second) == "writer"
        await until(second.is_whole, "there is no gap")
        await same_as_the_exchange(sandbox, first, second)
        assert await second.check_store(sandbox) > 1440


async def test_while_the_server_is_away_the_writer_answers_from_memory_and_loses_nothing(tmp_path: Path) -> None:
    with PostgresServer() as server:
        async with SandboxServer(ShiftedClock(elapsed_s=40), symbols=3) as sandbox, Programs(tmp_path) as programs:
            place = Place(programs, sandbox.port, server_url=server.url())
            place.serve()
            await until(place.is_whole, "the wish is held")
            await same_as_the_exchange(sandbox, place)
            newest = "/fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=1"
            assert (await place.get(newest)).status_code == 200
            pid, _ = place.writer()
            await asyncio.to_thread(server.stop)
            stopped_ms = sandbox.exchange.clock.now_ms() // 60_000 * 60_000

            async def says_so() -> bool:
                return await role(place) == "reader" and any("database" in reason for reason in await complaints(place))

            await until(says_so, "health says that the database is away, and that nothing can be written")

            async def minute_is_served() -> bool:
                answer = await place.get(newest)
                assert answer.status_code == 200, "the newest klines are served"
                return bool(answer.json()[0][0] >= stopped_ms)

            await until(minute_is_served, "what the sockets bring is served")
            await asyncio.to_thread(server.start)
            began_s = seconds()

            async def is_well() -> bool:
                return not await complaints(place) and await role(place) == "writer"

            await until(is_well, "the process writes again")
            print(f"MEASURED server up to a writer in good health: {seconds() - began_s:.2f} s")
            assert place.writer()[0] == pid
            await until(place.is_whole, "there is no gap")
            await same_as_the_exchange(sandbox, place)
            assert await place.check_store(sandbox) > 1440


async def test_workers_survive_a_restart_of_the_server(tmp_path: Path) -> None:
    with PostgresServer() as server:
        async with SandboxServer(ShiftedClock(elapsed_s=5), symbols=3) as sandbox, Programs(tmp_path) as programs:
            place = Place(programs, sandbox.port, settings={"WORKERS": "2"}, server_url=server.url())
            place.serve()
            await until(place.is_whole, "the wish is held")
            await asyncio.to_thread(server.restart)

            async def is_well() -> bool:
                return not await complaints(place) and place.writer()[0] != 0

            await until(is_well, "a process writes again")
            await until(place.is_whole, "there is no gap")
            for _ in range(6):
                await same_as_the_exchange(sandbox, place)
            assert await place.check_store(sandbox) > 1440


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_behind_pgbouncer_the_node_does_not_start_and_says_what_to_do(tmp_path: Path, mode: str) -> None:
    server = shared_server()
    with bouncer(server, mode) as port:
        await answering(server.tcp_url(port=port))
        async with Programs(tmp_path) as programs:
            place = Place(programs, upstream_port=1, server_url=server.tcp_url(port=port))
            ends = [
                await programs.run("serve", env=place.env) for _ in range(2)
            ]  # the first leaves its statements there
    for status, said in ends:
        assert status == 2
        assert "DB_URL leads through a connection pooler such as PgBouncer" in said
        assert "name the database server itself, with its own port" in said
        assert "Traceback" not in said
