"""The simulated network: it keeps the guarantees of real TCP, and injects every kind of failure."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import Context
from random import Random

import pytest

from tests.programs.sim.loop import PROCESS, Fate, SimLoop
from tests.programs.sim.network import Network
from tests.programs.sim.tcp import HIGH_WATER, KERNEL_BYTES

HOST, PORT = "127.0.0.1", 80


# killed processes leave their streams open, which warn when they are garbage-collected
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
KEPT: list[object] = []
"""Objects of killed processes, kept alive: collected, they would run their `finally` blocks during some other test."""


@pytest.fixture
def loop() -> Iterator[SimLoop]:
    made = SimLoop()
    made.network = Network(made, Random(1))
    made.network.split_share = 0.5
    made.network.alias(81, "rest", (HOST, PORT))
    yield made
    KEPT.extend((made, *asyncio.all_tasks(made)))


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def pause(delay_s: float) -> None:
    await asyncio.sleep(delay_s)  # noqa: TID251  what the network is tested with


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()
    writer.close()


def network(loop: SimLoop) -> Network:
    assert loop.network is not None
    return loop.network


def test_bytes_arrive_whole_and_in_order_however_they_are_cut(loop: SimLoop) -> None:
    sent = Random(2).randbytes(500_000)

    async def talk() -> bytes:
        await asyncio.start_server(echo, HOST, PORT)
        reader, writer = await asyncio.open_connection(HOST, 81)

        async def send() -> None:
            for at in range(0, len(sent), 7_777):
                writer.write(sent[at : at + 7_777])
                await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            received = tasks.create_task(reader.read(-1))
        return received.result()

    assert loop.run_until_complete(talk()) == sent


def test_a_reader_that_does_not_read_holds_the_writer_back(loop: SimLoop) -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader, writer
        await pause(1_000)

    async def talk() -> None:
        await asyncio.start_server(ignore, HOST, PORT, limit=1)
        _, writer = await asyncio.open_connection(HOST, 81)

        async def flood() -> None:
            async with asyncio.timeout(100):
                for _ in range(100):
                    writer.write(bytes(10_000))
                    await writer.drain()

        with pytest.raises(TimeoutError):
            await flood()
        assert writer.transport.get_write_buffer_size() > HIGH_WATER // 4

    loop.run_until_complete(talk())
    [link] = network(loop).links
    assert link.client._in_kernel <= KERNEL_BYTES


def test_a_cut_reaches_both_sides_as_a_reset(loop: SimLoop) -> None:
    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        try:
            await reader.read(1)
        except ConnectionResetError:
            heard.append("server")

    async def talk() -> None:
        await asyncio.start_server(serve, HOST, PORT)
        reader, _ = await asyncio.open_connection(HOST, 81)
        loop.call_later(5, network(loop).cut, "rest")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await pause(1)

    loop.run_until_complete(talk())
    assert heard == ["server"]
    assert not network(loop).links


def test_what_a_half_open_connection_carries_never_arrives_and_nobody_is_told(loop: SimLoop) -> None:
    async def talk() -> None:
        await asyncio.start_server(echo, HOST, PORT)
        reader, writer = await asyncio.open_connection(HOST, 81)
        network(loop).vanish("rest", "in")
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 600)
        server = next(iter(network(loop).links)).server
        while not server.is_lost:  # the sender's kernel gives up after about fifteen minutes
            await pause(10)

    loop.run_until_complete(talk())
    assert 900 < loop.time() < 1_000


def test_a_blocked_way_delivers_late_and_lets_nobody_in(loop: SimLoop) -> None:
    async def talk() -> None:
        await asyncio.start_server(echo, HOST, PORT)
        reader, writer = await asyncio.open_connection(HOST, 81)
        network(loop).block("rest", 60)
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection(HOST, 81), 5)
        assert await reader.read(1) == b"x"
        await asyncio.open_connection(HOST, 81)

    loop.run_until_complete(talk())
    assert 60 < loop.time() < 62


def test_nobody_listens_on_a_port_that_refuses(loop: SimLoop) -> None:
    async def talk() -> None:
        await asyncio.start_server(echo, HOST, PORT)
        network(loop).refuse("rest", 60)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, 81)
        await pause(60)
        await asyncio.open_connection(HOST, 81)

    loop.run_until_complete(talk())


@pytest.mark.parametrize("silently", [False, True])
def test_a_dead_process_is_noticed_unless_its_machine_is_gone(loop: SimLoop, silently: bool) -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        got.extend([await reader.read(5), await reader.read(5)])

    async def client() -> None:
        _, writer = await asyncio.open_connection(HOST, 81)
        writer.write(b"hello")
        await asyncio.Event().wait()

    async def talk() -> None:
        await asyncio.start_server(serve, HOST, PORT)
        fate = Fate("client", lambda: None)
        context = Context()
        context.run(PROCESS.set, fate)
        KEPT.extend((fate, loop.create_task(client(), context=context)))
        await pause(1)
        fate.kill()
        network(loop).bury(fate, silently=silently)
        await pause(60)
        assert not network(loop).of(fate) or silently

    loop.run_until_complete(talk())
    assert got == ([] if silently else [b"hello", b""])
