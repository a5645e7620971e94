"""Streams between processes, over real Unix sockets: each subscribed once, whoever writes, whoever listens."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.market.stream_hub import Hub
from app.ports.streams import Listener
from infra.local import stream_fanout
from infra.local.stream_fanout import ENDING, MESSAGE_BYTES_MAX, StreamFanoutClient, StreamFanoutServer
from infra.local.unix_socket import UnixSocket
from infra.process.clock import SystemClock
from tests.patience import PATIENCE_S

A, B = "ausdt@trade", "busdt@trade"
LARGE = b'"' + b"x" * 300_000 + b'"'


class Exchange:
    """A source that keeps book."""

    def __init__(self) -> None:
        self.subscribed: Counter[str] = Counter()
        self.changed = asyncio.Event()

    def add(self, streams: Iterable[str]) -> None:
        self.subscribed.update(list(streams))
        self.changed.set()

    def remove(self, streams: Iterable[str]) -> None:
        self.subscribed.subtract(list(streams))
        self.changed.set()

    def heard_ms(self, stream: str) -> int | None:
        return None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Writer:
    """The process that writes."""

    def __init__(self, database: Path, streams_max: int = 100) -> None:
        self.exchange = Exchange()
        self.hub = Hub(SystemClock(), linger_s=0, streams_max=streams_max)
        self.hub.take_from(self.exchange)
        self.line = StreamFanoutServer(database)


@asynccontextmanager
async def writing(database: Path, streams_max: int = 100) -> AsyncIterator[Writer]:
    writer = Writer(database, streams_max)
    await writer.line.open(writer.hub)
    try:
        yield writer
    finally:
        await writer.line.close()


async def stuck_listener(writer: Writer, database: Path) -> asyncio.StreamWriter:
    """A process that listens to A and takes nothing of it."""
    with UnixSocket(database, ENDING).found() as name:
        _, stuck = await asyncio.open_unix_connection(name, limit=1)
    stuck.transport.pause_reading()  # type: ignore[attr-defined]
    wish = b"\x92\xc3\x91\xab" + A.encode()
    stuck.write(len(wish).to_bytes(4, "big") + wish)
    await writer.exchange.until(lambda: +writer.exchange.subscribed == Counter([A]))
    return stuck


class Reader:
    """A process that does not write, and a listener in it."""

    def __init__(self, database: Path) -> None:
        self.hub = Hub(SystemClock(), linger_s=0)
        self.relay = StreamFanoutClient(database, SystemClock(), self.hub.deliver)
        self.hub.take_from(self.relay)
        self.heard: list[tuple[str, bytes]] = []
        self.came = asyncio.Event()

    def __call__(self, stream: str, payload: bytes) -> None:
        self.heard.append((stream, payload))
        self.came.set()

    async def until(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.heard) < number:
                self.came.clear()
                await self.came.wait()


@asynccontextmanager
async def reading(database: Path, *streams: str) -> AsyncIterator[Reader]:
    reader = Reader(database)
    for stream in streams:
        reader.hub.join(stream, reader)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(reader.relay.run())
        yield reader
        running.cancel()


async def test_all_processes_hear_a_stream_that_is_subscribed_once(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    async with writing(database) as writer, reading(database, A) as one, reading(database, A, B) as two:
        await writer.exchange.until(lambda: +writer.exchange.subscribed == Counter([A, B]))
        async with asyncio.timeout(PATIENCE_S):
            while writer.line.processes < 2:
                await writer.exchange.changed.wait()
        await joined(writer, one, two)
        before = len(one.heard), len(two.heard)
        writer.hub.deliver(A, LARGE)
        writer.hub.deliver(B, b"{}")
        await one.until(before[0] + 1)
        await two.until(before[1] + 2)
        assert one.heard[before[0] :] == [(A, LARGE)]
        assert two.heard[before[1] :] == [(A, LARGE), (B, b"{}")]
        assert one.relay.heard_ms(A) is not None
        assert one.relay.heard_ms(B) is None


async def joined(writer: Writer, *readers: Reader) -> None:
    """Wait until frames of A reach everybody."""
    async with asyncio.timeout(PATIENCE_S):
        while not all(reader.heard for reader in readers):
            writer.hub.deliver(A, b"[]")
            await asyncio.sleep(0)  # noqa: TID251  lets the sockets work


async def test_a_stream_is_released_when_the_last_process_leaves_it(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    async with writing(database) as writer, reading(database, A) as one:
        async with reading(database, A, B) as two:
            await writer.exchange.until(lambda: +writer.exchange.subscribed == Counter([A, B]))
            await joined(writer, one, two)
            two.hub.leave(A, two)
            two.hub.release()
        async with asyncio.timeout(PATIENCE_S):
            while +writer.exchange.subscribed != Counter([A]):
                writer.hub.release()
                await asyncio.sleep(0)  # noqa: TID251  lets the sockets work
        count = len(one.heard)
        writer.hub.deliver(A, b"{}")
        await one.until(count + 1)


async def test_listeners_stay_when_another_process_writes(tmp_path: Path) -> None:
    database = tmp_path / ("long" * 20) / ("name" * 20) / "k.db"
    database.parent.mkdir(parents=True)
    async with reading(database, A) as one:
        for number in range(3):
            async with writing(database) as writer:
                await writer.exchange.until(lambda writer=writer: +writer.exchange.subscribed == Counter([A]))  # type: ignore[misc]
                count = len(one.heard)
                writer.hub.deliver(A, b"%d" % number)
                await one.until(count + 1)
            async with asyncio.timeout(PATIENCE_S):
                while one.relay.is_connected:  # noqa: ASYNC110
                    await asyncio.sleep(0)  # noqa: TID251  lets the socket end
            assert one.relay.heard_ms(A) is None, "what came before says nothing about now"
        assert one.heard == [(A, b"0"), (A, b"1"), (A, b"2")]


async def test_a_socket_that_a_killed_writer_left_is_no_hindrance(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    killed = Writer(database)
    await killed.line.open(killed.hub)
    async with writing(database) as writer, reading(database, A) as one:
        await joined(writer, one)
        assert (tmp_path / "k.db.streams").stat().st_mode & 0o777 == 0o600
    await killed.line.close()


async def test_streams_that_had_no_room_are_had_once_there_is_some(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    async with writing(database, streams_max=1) as writer, reading(database, A, B) as one:
        await joined(writer, one)
        assert +writer.exchange.subscribed == Counter([A])
        one.hub.leave(A, one)
        one.hub.release()
        async with asyncio.timeout(PATIENCE_S):
            while not any(stream == B for stream, _ in one.heard):
                writer.hub.deliver(B, b"{}")
                await asyncio.sleep(0)  # noqa: TID251  lets the sockets work
        assert +writer.exchange.subscribed == Counter([B])


@pytest.mark.parametrize(
    "nonsense", [(MESSAGE_BYTES_MAX + 1).to_bytes(4, "big"), b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\x91\x01"]
)
async def test_nonsense_ends_its_own_connection_only(tmp_path: Path, nonsense: bytes) -> None:
    database = tmp_path / "k.db"
    async with writing(database) as writer, reading(database, A) as one:
        await joined(writer, one)
        with UnixSocket(database, ENDING).found() as name:
            reader, stranger = await asyncio.open_unix_connection(name)
        stranger.write(nonsense)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        stranger.close()
        count = len(one.heard)
        writer.hub.deliver(A, b"{}")
        await one.until(count + 1)


async def test_a_process_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    database = tmp_path / "k.db"
    async with writing(database) as writer:
        stuck = await stuck_listener(writer, database)
        async with asyncio.timeout(PATIENCE_S):
            while writer.line.processes:
                writer.hub.deliver(A, LARGE)
                await asyncio.sleep(0)  # noqa: TID251  lets the socket work
        writer.hub.release()
        assert not +writer.exchange.subscribed
        stuck.close()


async def test_a_process_that_takes_nothing_for_long_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little waits for it: what waits is memory of the one who writes."""
    monkeypatch.setattr(stream_fanout, "STALL_S_MAX", 0.05)
    database = tmp_path / "k.db"
    async with writing(database) as writer:
        stuck = await stuck_listener(writer, database)
        left, leave = asyncio.Event(), writer.hub.leave

        def noticed(stream: str, listener: Listener) -> None:
            leave(stream, listener)
            left.set()

        monkeypatch.setattr(writer.hub, "leave", noticed)
        for _ in range(4):
            writer.hub.deliver(A, LARGE)
        async with asyncio.timeout(PATIENCE_S):
            await left.wait()
        assert writer.line.processes == 0
        stuck.close()


async def test_a_message_that_is_never_finished_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_fanout, "STALL_S_MAX", 0.05)
    database = tmp_path / "k.db"
    async with writing(database) as writer:
        with UnixSocket(database, ENDING).found() as name:
            reader, stranger = await asyncio.open_unix_connection(name)
        stranger.write((1_000).to_bytes(4, "big") + b"x" * 500)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
        stranger.close()
        assert writer.line.processes == 0


async def test_what_waits_for_a_writer_that_does_not_read_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_max = 100_000
    monkeypatch.setattr(stream_fanout, "UNSENT_BYTES_MAX", bytes_max)
    database, came, gone = tmp_path / "k.db", asyncio.Event(), asyncio.Event()

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            self.transport = transport
            came.set()

        def eof_received(self) -> None:
            gone.set()

        def connection_lost(self, exc: Exception | None) -> None:
            gone.set()

    deaf: list[Deaf] = []

    def protocol() -> Deaf:
        deaf.append(Deaf())
        return deaf[-1]

    loop = asyncio.get_running_loop()
    place = UnixSocket(database, ENDING)
    server = await place.listen(lambda listener: loop.create_unix_server(protocol, sock=listener))
    relay = StreamFanoutClient(database, SystemClock(), lambda stream, payload: None)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(relay.run())
        async with asyncio.timeout(PATIENCE_S):
            await came.wait()
            was_connected = has_ended = False
            while not has_ended:
                relay.add([A])
                relay.remove([A])
                is_connected = relay.is_connected
                was_connected, has_ended = is_connected, was_connected and not is_connected
                await asyncio.sleep(0)  # noqa: TID251  lets the socket work
            deaf[0].transport.resume_reading()
            await gone.wait()
        running.cancel()
    server.close()
    place.remove()
