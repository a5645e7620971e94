"""The sandbox as a process: ports, scaled time, a clean shutdown, and slow clients."""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from websockets.asyncio.client import connect

from infra.net.tls import trusting_nobody
from infra.sandbox.feeds import FeedHub
from infra.sandbox.grid import MINUTE_MS, utc_ms
from infra.sandbox.server import KERNEL_BYTES, KERNEL_S, SandboxServer, bound_listener, create_app
from infra.sandbox.sockets import OUTBOX_MAX, Address, Connection
from tests.fast_clock import ScaledClock
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from tests.sandbox.conftest import ManualClock

ROOT = Path(__file__).parents[2]


async def test_each_sandbox_takes_its_own_port_and_gives_it_back(clock: "ManualClock") -> None:
    async with SandboxServer(clock, symbols=1) as one, SandboxServer(clock, symbols=1) as two:
        assert one.port != two.port
        port = one.port
    async with (
        SandboxServer(clock, symbols=1, port=port) as again,
        httpx.AsyncClient(base_url=again.base_url, verify=trusting_nobody()) as http,
    ):
        assert (await http.get("/fapi/v1/ping")).status_code == 200
        assert (await http.get("/elsewhere")).status_code == 404


async def test_it_stops_with_sockets_open_and_requests_waiting(clock: "ManualClock") -> None:
    async with SandboxServer(clock, symbols=2) as sandbox:
        client = await connect(f"{sandbox.ws_url}/market/ws/btcusdt@kline_1m")
        await client.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
        await client.recv()
    await client.wait_closed()
    await client.close()


async def test_a_scaled_clock_makes_minutes_pass_in_a_second() -> None:
    clock = ScaledClock(utc_ms(2026, 11, 21, 4, 29), speed=240)
    async with (
        SandboxServer(clock, symbols=3) as sandbox,
        connect(f"{sandbox.ws_url}/market/ws/btcusdt@kline_1m") as client,
        asyncio.timeout(PATIENCE_S),
    ):
        closed: list[int] = []
        while len(closed) < 4:
            event = json.loads(await client.recv())
            if event["k"]["x"]:
                closed.append(event["k"]["t"])
        assert closed == list(range(closed[0], closed[0] + 4 * MINUTE_MS, MINUTE_MS))


async def test_it_runs_as_a_process_until_told_to_stop() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = f"from infra.sandbox.server import run; run({port}, 1, 2, 2400)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", code, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    async with (
        asyncio.timeout(PATIENCE_S),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=trusting_nobody()) as http,
    ):
        while True:
            try:
                await http.get("/fapi/v1/ping")
                break
            except httpx.ConnectError:
                assert process.returncode is None
        client = await connect(f"ws://127.0.0.1:{port}/market/ws")
        await http.post("/sandbox/faults", json={"kind": "cut"})
        await client.wait_closed()
        assert client.close_code == 1006
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
    assert (process.returncode in {0, -signal.SIGTERM}, errors) == (True, b"")


async def test_a_client_that_does_not_read_is_cut_and_not_buffered_for_ever(clock: "ManualClock") -> None:
    class Transport:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    class Protocol:
        transport = Transport()

        async def send(self, message: object) -> None:
            raise AssertionError(message)

    app, protocol = create_app(clock, symbols=1), Protocol()
    hub = FeedHub(app.exchange, app.faults)
    connection = Connection(hub, Address("market", combined=False, streams=()), "/market/ws", protocol.send, clock)
    for _ in range(OUTBOX_MAX):
        connection.deliver("btcusdt@kline_1m", "{}")
    assert not protocol.transport.aborted
    connection.deliver("btcusdt@kline_1m", "{}")
    assert protocol.transport.aborted


@pytest.mark.parametrize("symbols", [0, -1])
def test_an_exchange_has_at_least_one_symbol(clock: "ManualClock", symbols: int) -> None:
    with pytest.raises(AssertionError):
        create_app(clock, symbols=symbols)


async def test_the_kernel_keeps_little_for_who_never_reads_and_not_for_ever() -> None:
    with bound_listener(0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == KERNEL_S * 1_000
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * KERNEL_BYTES
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * KERNEL_BYTES
            assert client.getpeername() == listener.getsockname()
