"""Messages cut out of what a server sends: against the library's own reading, and over real sockets that misbehave."""

import asyncio
import itertools
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from websockets.utils import accept_key

from app.outbound import DIRECT
from infra.net.websocket import Connect
from infra.net.websocket_messages import MESSAGES_BUFFERED_MAX, PARTS_MAX, MessageConnection
from infra.process.clock import SystemClock
from tests.net.loopback import listening
from tests.patience import PATIENCE_S

CLOCK = SystemClock()
BYTES_MAX = 66_000
LENGTHS = (0, 1, 2, 125, 126, 127, 4_000, 65_535, 65_536, BYTES_MAX, BYTES_MAX + 1)
GOODBYE_S = 0.2  # for a close frame that a test's server never sends


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = False) -> bytes:
    """A frame as a server sends it, or as it must not."""
    return head(opcode, len(payload), fin=fin, reserved=reserved, masked=masked) + payload


def head(opcode: int, length: int, *, fin: bool = True, reserved: int = 0, masked: bool = False) -> bytes:
    first, mask = fin << 7 | reserved << 4 | opcode, 0x80 if masked else 0
    if length < 126:
        return struct.pack(">BB", first, mask | length)
    if length < 1 << 16:
        return struct.pack(">BBH", first, mask | 126, length)
    return struct.pack(">BBQ", first, mask | 127, length)


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """`data` cut at positions, which may lie beyond its end."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


# --- against the library ---


class Wire(asyncio.Transport):
    """A transport that records what is written to it, and when it is to stop reading and to go on (True)."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.turns: list[bool] = []
        self.is_over = False

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_over = True

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.turns.append(False)

    def resume_reading(self) -> None:
        self.turns.append(True)


class Outcome(NamedTuple):
    messages: list[bytes]
    written: list[tuple[Opcode, bytes]]
    is_over: bool
    received: Close | None
    sent: Close | None
    error: type[Exception]


def opened(kind: type[ClientConnection]) -> tuple[ClientConnection, Wire, bytes]:
    """A connection that has sent its handshake, and the response to that."""
    protocol = ClientProtocol(parse_uri("ws://exchange.test/"), max_size=BYTES_MAX)
    connection, wire = kind(protocol, ping_interval=None, max_queue=None), Wire()
    connection.connection_made(wire)
    request = protocol.connect()
    protocol.send_request(request)
    connection.send_data()
    wire.written.clear()
    return connection, wire, ServerProtocol().accept(request).serialize()


async def left(connection: ClientConnection) -> tuple[list[bytes], type[Exception]]:
    """What can still be taken from a lost connection, and how it ends."""
    found: list[bytes] = []
    while True:
        try:
            if isinstance(connection, MessageConnection):
                found += await connection.messages()
            else:
                found.append(await connection.recv(decode=False))
        except ConnectionClosed as error:
            return found, type(error)


async def outcome(kind: type[ClientConnection], stream: bytes, cuts: Sequence[int]) -> Outcome:
    connection, wire, response = opened(kind)
    for piece in pieces(response + stream, cuts):
        connection.data_received(piece)
    connection.eof_received()
    connection.connection_lost(None)
    messages, error = await left(connection)
    server = ServerProtocol(state=State.OPEN)
    server.receive_data(bytes(wire.written))
    written = [(each.opcode, bytes(each.data)) for each in server.events_received() if isinstance(each, Frame)]
    protocol = connection.protocol
    return Outcome(messages, written, wire.is_over, protocol.close_rcvd, protocol.close_sent, error)


usual = st.builds(
    frame,
    st.sampled_from([1, 1, 1, 2, 9, 10]),
    st.sampled_from(LENGTHS[:4]).map(lambda length: b"x" * length),
)
parts = st.lists(st.sampled_from([b"", b"a", b"bc" * 99]), min_size=2, max_size=4).map(
    lambda texts: b"".join(
        frame(0 if number else 1, text, fin=number == len(texts) - 1) + frame(9, text[:3])
        for number, text in enumerate(texts)
    )
)
closing = st.sampled_from([b"", b"\x03\xe8", b"\x03\xe9bye", b"\x03", b"\x03\xe8\xff", b"\x00\x01"]).map(
    lambda payload: frame(8, payload)
)
strange = st.builds(
    frame,
    st.integers(0, 15),
    st.sampled_from(LENGTHS).map(lambda length: b"y" * length),
    fin=st.booleans(),
    reserved=st.sampled_from([0, 0, 0, 1, 4]),
    masked=st.sampled_from([False, False, False, True]),
)
longer = st.builds(lambda length: struct.pack(">BBH", 0x81, 126, length) + b"z" * length, st.integers(0, 200))
streams = st.lists(st.one_of(usual, usual, usual, parts, strange, longer, closing), max_size=8).map(b"".join)


@given(streams, st.lists(st.integers(0, 1_000), max_size=12), st.integers(0, 20))
@example(frame(1, b"a" * 65_536) + frame(8), [129, 130, 131, 140, 30_000], 0)
@example(head(1, 1 << 62), [], 0)
@example(frame(1, b"whole") + head(1, BYTES_MAX + 1) + b"never read", [], 0)
def test_what_comes_is_what_the_library_reads_and_answers(stream: bytes, cuts: list[int], lacking: int) -> None:
    stream = stream[: len(stream) - lacking]  # the end may be in the middle of a frame

    async def compare() -> None:
        mine = await outcome(MessageConnection, stream, cuts)
        assert mine == await outcome(ClientConnection, stream, cuts)

    asyncio.run(compare())


async def test_a_connection_whose_messages_nobody_takes_is_not_read_on() -> None:
    connection, wire, response = opened(MessageConnection)
    assert isinstance(connection, MessageConnection)
    connection.data_received(response + frame(1, b"0") * MESSAGES_BUFFERED_MAX)
    assert wire.turns == []
    connection.data_received(frame(1, b"1") * 2)
    assert wire.turns == [False]
    assert await connection.messages() == [b"0"] * MESSAGES_BUFFERED_MAX + [b"1"] * 2
    assert wire.turns == [False, True]


async def test_a_message_of_too_many_parts_ends_the_connection() -> None:
    connection, wire, response = opened(MessageConnection)
    connection.data_received(response + frame(1, fin=False))
    for _ in range(PARTS_MAX):
        connection.data_received(frame(0, fin=False))
    assert connection.protocol.close_sent is not None
    assert connection.protocol.close_sent.code == 1009
    assert wire.written


async def test_a_long_message_in_small_pieces_is_joined_once() -> None:
    connection, _, response = opened(MessageConnection)
    assert isinstance(connection, MessageConnection)
    connection.data_received(response)
    message = Random(1).randbytes(BYTES_MAX)
    for piece in pieces(frame(1, message), range(0, BYTES_MAX + 20, 7)):
        connection.data_received(piece)
    assert await connection.messages() == [message]


async def closing_in_a_frame(kind: type[ClientConnection]) -> tuple[list[bytes], Close | None, int]:
    """What a connection that closes in the middle of a frame has left, hears, and does when it is flooded then."""
    connection, wire, response = opened(kind)
    begun = frame(1, b"begun")
    connection.data_received(response + begun[:4])
    connection.protocol.send_close(1000)
    connection.send_data()
    connection.data_received(begun[4:] + frame(2, b"late") * 2 * MESSAGES_BUFFERED_MAX)
    connection.data_received(frame(8, b"\x03\xe8"))
    connection.connection_lost(None)
    messages, _ = await left(connection)
    return messages, connection.protocol.close_rcvd, len(wire.turns)


async def test_what_arrives_once_closing_has_begun_is_not_kept_and_the_close_frame_behind_it_is_read() -> None:
    assert await closing_in_a_frame(MessageConnection) == ([], Close(1000, ""), 0)


# --- over real sockets ---


class Server(NamedTuple):
    """A server's side of a connection, after the handshake."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: ServerProtocol

    async def hear(self) -> Frame:
        """The next frame that the client sends."""
        while not self.frames.events:
            self.frames.receive_data(await self.reader.read(4_096))
        event = self.frames.events.pop(0)
        assert isinstance(event, Frame)
        return event


Talk = Callable[[Server], Awaitable[None]]


@asynccontextmanager
async def connected(talk: Talk, response: bytes | None = None) -> AsyncIterator[MessageConnection]:
    """A connection to a server that says `response`, by default 101, and then talks."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.readuntil(b"\r\n\r\n")
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", said)
        assert key is not None
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        accepted = f"{upgrade}Sec-WebSocket-Accept: {accept_key(key[1].decode())}\r\n\r\n".encode()
        writer.write(response or accepted)
        await talk(Server(reader, writer, ServerProtocol(state=State.OPEN)))
        writer.close()

    async with asyncio.timeout(PATIENCE_S), listening(serve) as port:
        url = f"ws://127.0.0.1:{port}"
        options = {"compression": None, "ping_interval": None, "max_size": BYTES_MAX, "close_timeout": GOODBYE_S}
        connection = await Connect(url, DIRECT, CLOCK, **options).open()
        try:
            async with connection:
                yield connection
        finally:
            connection.transport.abort()


async def all_of(connection: MessageConnection) -> tuple[list[bytes], ConnectionClosed]:
    found: list[bytes] = []
    while True:
        try:
            found += await connection.messages()
        except ConnectionClosed as error:
            return found, error


async def test_messages_arrive_in_order_whole_and_in_parts_and_pings_are_answered() -> None:
    answers: list[Frame] = []

    async def talk(server: Server) -> None:
        server.writer.write(frame(1, b"one") + frame(2, b"two" * 100))
        server.writer.write(frame(1, b"thr", fin=False) + frame(9, b"in between") + frame(0, b"ee"))
        for piece in pieces(frame(1, b"4" * BYTES_MAX), range(0, BYTES_MAX, 9_999)):
            server.writer.write(piece)
            await server.writer.drain()
        server.writer.write(frame(9, b"after") + frame(1, b"five"))
        answers.extend([await server.hear(), await server.hear()])
        server.writer.write(frame(8, b"\x03\xe8"))
        answers.append(await server.hear())

    async with connected(talk) as connection:
        found, error = await all_of(connection)
    assert found == [b"one", b"two" * 100, b"three", b"4" * BYTES_MAX, b"five"]
    assert isinstance(error, ConnectionClosedOK)
    said = [(each.opcode, bytes(each.data)) for each in answers]
    assert said == [(Opcode.PONG, b"in between"), (Opcode.PONG, b"after"), (Opcode.CLOSE, b"\x03\xe8")]


async def test_a_close_by_the_exchange_says_why_after_what_came_before() -> None:
    async def talk(server: Server) -> None:
        server.writer.write(frame(1, b"last") + frame(8, b"\x03\xf4service restart") + frame(1, b"too late"))
        assert (await server.hear()).opcode is Opcode.CLOSE

    async with connected(talk) as connection:
        found, error = await all_of(connection)
    assert found == [b"last"]
    assert error.rcvd == Close(1012, "service restart")
    assert error.rcvd_then_sent


@pytest.mark.parametrize("announced", [BYTES_MAX + 1, 1 << 40])
async def test_a_frame_that_is_too_long_is_refused_by_its_head(announced: int) -> None:
    heard: list[Frame] = []

    async def talk(server: Server) -> None:
        server.writer.write(frame(1, b"before") + head(1, announced) + b"begin")
        heard.append(await server.hear())

    async with connected(talk) as connection:
        found, error = await all_of(connection)
    assert found == [b"before"]
    assert error.sent is not None
    assert error.sent.code == 1009
    assert (heard[0].opcode, bytes(heard[0].data[:2])) == (Opcode.CLOSE, struct.pack(">H", 1009))


async def test_parts_that_are_too_long_together_are_refused() -> None:
    async def talk(server: Server) -> None:
        server.writer.write(frame(1, b"a" * BYTES_MAX, fin=False) + frame(0, b"b"))
        await server.hear()

    async with connected(talk) as connection:
        found, error = await all_of(connection)
    assert found == []
    assert error.sent is not None
    assert error.sent.code == 1009


async def test_a_reset_and_an_end_without_a_close_frame_lose_nothing_that_had_come() -> None:
    for is_reset in (True, False):
        taken = asyncio.Event()

        async def talk(server: Server, is_reset: bool = is_reset, taken: asyncio.Event = taken) -> None:
            server.writer.write(frame(1, b"whole") + frame(1, b"half of it")[:5])
            await taken.wait()
            if is_reset:
                linger = struct.pack("ii", 1, 0)
                server.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                server.writer.transport.abort()

        async with connected(talk) as connection:
            found = await connection.messages()
            taken.set()
            more, error = await all_of(connection)
        assert (found, more) == ([b"whole"], [])
        assert isinstance(error, ConnectionClosedError)
        assert error.rcvd is None


async def test_messages_that_were_not_taken_outlive_their_connection() -> None:
    async def talk(server: Server) -> None:
        server.writer.write(frame(1, b"x") * MESSAGES_BUFFERED_MAX + frame(8))
        await server.hear()

    async with connected(talk) as connection:
        await connection.wait_closed()
        found, _ = await all_of(connection)
    assert found == [b"x"] * MESSAGES_BUFFERED_MAX


async def test_a_refused_handshake_is_the_librarys_error_with_its_body() -> None:
    async def talk(server: Server) -> None:
        await server.reader.read(1)

    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nnot\r\n\r\nhere!"
    with pytest.raises(InvalidStatus) as refused:
        async with connected(talk, refusal):
            pass
    assert refused.value.response.body == b"not\r\n\r\nhere!"
