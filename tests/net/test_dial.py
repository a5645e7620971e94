"""Connecting a socket: the first address that answers, proxies, and their refusals."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from app.outbound import DIRECT, Egress, proxy_of
from infra.net.dial import ADDRESSES_MAX, dial, first_to_answer
from infra.process.clock import SystemClock
from tests.clocks import HastyClock
from tests.net.loopback import listening

CLOCK = SystemClock()


class Transport(asyncio.Transport):
    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


class World:
    """Addresses that connect, refuse or never answer; `asked` lists the attempts in order."""

    def __init__(self, **fates: str) -> None:
        self.fates = fates
        self.asked: list[str] = []
        self.opened: list[Transport] = []
        self.silent = 0

    async def open(self, address: str) -> asyncio.Transport:
        self.asked.append(address)
        match self.fates[address]:
            case "refuses":
                raise ConnectionRefusedError(111, f"refused by {address}")
            case "silent":
                self.silent += 1
                try:
                    await asyncio.Event().wait()
                finally:
                    self.silent -= 1
        self.opened.append(Transport(address))
        return self.opened[-1]


async def reached(world: World) -> str:
    transport = await first_to_answer(list(world.fates), world.open, HastyClock())
    assert isinstance(transport, Transport)
    assert not transport.is_aborted
    assert world.silent == 0, "attempts that lost are given up"
    return transport.address


async def test_the_second_address_is_taken_when_the_first_is_silent() -> None:
    world = World(a="silent", b="answers", c="answers")
    assert await reached(world) == "b"
    assert world.asked == ["a", "b"], "an address that answers is the last one tried"


async def test_the_second_address_is_taken_when_the_first_refuses() -> None:
    assert await reached(World(a="refuses", b="answers")) == "b"
    assert await reached(World(a="silent", b="refuses", c="silent", d="answers")) == "d"


async def test_the_first_address_is_taken_when_it_answers() -> None:
    world = World(a="answers", b="answers")
    assert await reached(world) == "a"
    assert world.asked == ["a"]


async def test_all_reasons_are_told_when_no_address_connects() -> None:
    with pytest.raises(OSError, match=r"refused by a; .*refused by b"):
        await reached(World(a="refuses", b="refuses"))


async def test_nothing_stays_open_when_the_wait_is_given_up() -> None:
    world = World(a="silent", b="silent")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first_to_answer(["a", "b"], world.open, CLOCK)
    assert world.silent == 0


async def test_two_that_answer_at_once_leave_one_open() -> None:
    both = asyncio.Event()
    world = World(a="answers", b="answers")

    async def slow(address: str) -> asyncio.Transport:
        if address == "b":
            both.set()
        await both.wait()
        return await world.open(address)

    winner = await first_to_answer(["a", "b"], slow, HastyClock())
    assert [each for each in world.opened if not each.is_aborted] == [winner]


async def test_both_families_take_turns_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    sixes = [(10, 1, 6, "", (f"fd00::{n}", 1, 0, 0)) for n in range(9)]
    fours = [(2, 1, 6, "", (f"10.0.0.{n}", 1)) for n in range(9)]

    async def resolve(*_: object, **__: object) -> list[Any]:
        return [*sixes, *fours]

    tried: list[str] = []

    async def refuse(_: object, address: str, *__: object, **___: object) -> None:
        tried.append(address)
        raise ConnectionRefusedError(111, address)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "create_connection", refuse)
    with pytest.raises(OSError, match=r"fd00::0; .*10\.0\.0\.0"):
        await dial(DIRECT, "exchange.test", 1, HastyClock())
    assert tried[:4] == ["fd00::0", "10.0.0.0", "fd00::1", "10.0.0.1"]
    assert len(tried) == ADDRESSES_MAX


# --- proxies ---------------------------------------------------------------------------------------------------

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await script(reader, writer)
            await writer.drain()
            await reader.read()
        writer.close()

    async with listening(serve) as port:
        yield port


def socks(asked: list[bytes], method: int = 0, failure: int = 0, kind: int = 1) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        asked.append(await reader.readexactly(count))
        writer.write(bytes([5, method]))
        if method == 2:
            head = await reader.readexactly(2)
            user = await reader.readexactly(head[1])
            asked.append(user + b":" + await reader.readexactly((await reader.readexactly(1))[0]))
            writer.write(bytes([1, 0 if asked[-1] == b"u:p@" else 1]))
        _, _, _, how = await reader.readexactly(4)
        asked.append(await reader.readexactly({1: 4, 4: 16}.get(how) or (await reader.readexactly(1))[0]))
        asked.append(await reader.readexactly(2))
        bound = {1: b"\0" * 4, 3: b"\4name", 4: b"\0" * 16}[kind]
        for byte in bytes([5, failure, 0, kind]) + bound + b"\0\0":  # in the smallest pieces possible
            writer.write(bytes([byte]))
            await writer.drain()

    return script


async def through(text: str, host: str = "exchange.test") -> None:
    transport = await dial(Egress(proxy_of(text)), host, 443, CLOCK)
    assert not transport.is_closing()
    transport.abort()


@pytest.mark.parametrize("kind", [1, 3, 4])
async def test_a_socks_proxy_resolves_the_name(kind: int) -> None:
    asked: list[bytes] = []
    async with scripted(socks(asked, kind=kind)) as port:
        await through(f"socks5://127.0.0.1:{port}")
    assert asked == [b"\0", b"exchange.test", b"\x01\xbb"]


async def test_a_socks_proxy_is_given_addresses_and_credentials() -> None:
    asked: list[bytes] = []
    async with scripted(socks(asked, method=2)) as port:
        await through(f"socks5h://u:p%40@127.0.0.1:{port}", "fd00::1")
    assert asked == [b"\0\2", b"u:p@", b"\xfd" + b"\0" * 14 + b"\1", b"\x01\xbb"]


@pytest.mark.parametrize(
    ("text", "method", "failure", "says"),
    [
        ("socks5://127.0.0.1:{}", 0, 5, "cannot reach exchange.test: connection refused"),
        ("socks5://127.0.0.1:{}", 0, 99, "cannot reach exchange.test: 99"),
        ("socks5://127.0.0.1:{}", 2, 0, "wants credentials"),
        ("socks5://u:geheim@127.0.0.1:{}", 2, 0, "refused the credentials"),
        ("socks5://u:geheim@127.0.0.1:{}", 255, 0, "wants credentials"),
    ],
)
async def test_a_socks_proxy_that_refuses_is_named(text: str, method: int, failure: int, says: str) -> None:
    async with scripted(socks([], method, failure)) as port:
        with pytest.raises(OSError, match=says) as caught:
            await through(text.format(port))
    assert f"socks5://127.0.0.1:{port}" in str(caught.value)
    assert "geheim" not in str(caught.value)


def http(answer: bytes, heads: list[bytes]) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if not answer.endswith(b"\r\n\r\n"):
            writer.write_eof()

    return script


async def test_an_http_proxy_is_given_credentials() -> None:
    heads: list[bytes] = []
    async with scripted(http(b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n", heads)) as port:
        await through(f"u:p%40@127.0.0.1:{port}", "fd00::1")
    assert heads[0].startswith(b"CONNECT [fd00::1]:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"u:p@") + b"\r\n" in heads[0]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "refused exchange.test:443: 407 .*other credentials"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refused exchange.test:443: 502 Bad Gateway"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "refused exchange.test:443"),
        (b"HTTP/1.1 200", "ended the connection or answered nonsense"),
        (b"x" * 100_000 + b"\r\n\r\n", "ended the connection or answered nonsense"),
        (b"", "ended the connection or answered nonsense"),
    ],
)
async def test_an_http_proxy_that_refuses_is_named(answer: bytes, says: str) -> None:
    async with scripted(http(answer, [])) as port:
        with pytest.raises(OSError, match=says) as caught:
            await through(f"http://u:geheim@127.0.0.1:{port}")
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "geheim" not in str(caught.value)
