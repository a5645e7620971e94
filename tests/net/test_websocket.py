"""Opening a websocket: within its time, and with the plain error of what went wrong."""

import asyncio
from contextlib import suppress

import pytest
from websockets.exceptions import InvalidStatus

from infra.net.websocket import FAILURES, OPEN_S_MAX, NoHandshake, open_websocket
from infra.process.clock import SystemClock
from tests.clocks import START_MS
from tests.net.loopback import listening, to
from tests.patience import PATIENCE_S

BYTES_MAX = 1_000


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


class WaitingClock:
    """A clock whose only sleep ends when `is_time` is set."""

    def __init__(self) -> None:
        self.is_time = asyncio.Event()
        self.slept_s: list[float] = []

    def now_ms(self) -> int:
        return START_MS

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)
        await self.is_time.wait()


async def test_a_peer_that_never_answers_the_handshake_is_left_in_time() -> None:
    clock = WaitingClock()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        clock.is_time.set()
        with suppress(ConnectionError):
            assert not await reader.read(), "the client sends no more"
        await closed(writer)

    async with asyncio.timeout(PATIENCE_S), listening(serve) as port:
        with pytest.raises(NoHandshake, match=f"no handshake within {OPEN_S_MAX:.0f} s"):
            await open_websocket(to(f"ws://127.0.0.1:{port}"), clock, message_bytes_max=BYTES_MAX)
    assert clock.slept_s == [OPEN_S_MAX]


async def test_a_refusal_is_raised_as_it_is_and_is_one_of_the_failures() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        await closed(writer)

    async with asyncio.timeout(PATIENCE_S), listening(serve) as port:
        with pytest.raises(InvalidStatus) as refused:
            await open_websocket(to(f"ws://127.0.0.1:{port}"), SystemClock(), message_bytes_max=BYTES_MAX)
    assert refused.value.response.status_code == 403
    assert isinstance(refused.value, FAILURES)


async def test_a_cause_stays_with_the_error() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"nonsense\r\n\r\n")
        await closed(writer)

    async with asyncio.timeout(PATIENCE_S), listening(serve) as port:
        with pytest.raises(FAILURES) as broken:
            await open_websocket(to(f"ws://127.0.0.1:{port}"), SystemClock(), message_bytes_max=BYTES_MAX)
    assert broken.value.__cause__ is not None
