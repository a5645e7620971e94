"""TCP connections to upstream hosts for sockets, direct or through a proxy, with Happy Eyeballs (RFC 8305).

httpx does the same for REST and archive. uvloop's `create_connection`, which websockets uses, tries the addresses one
after the other, and waits two minutes for one that does not answer.
"""

import asyncio
import base64
import socket
import struct
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any, Final

from app.outbound import Egress, Proxy
from app.ports.clock import Clock
from infra.net.tls import trusting
from infra.net.waiting import until

ADDRESS_GAP_S: Final = 0.25  # between the starts of two attempts, as in RFC 8305 and httpx
ADDRESSES_MAX: Final = 8  # tried of one name; bounds the connections opened at once
HEAD_BYTES_MAX: Final = 16 * 1024  # of a proxy's response to CONNECT
_SOCKS_FAILURES: Final = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}

Open = Callable[[str], Coroutine[Any, Any, asyncio.Transport]]
"""Opens a connection to an address."""


class DialFailed(OSError):
    """The host cannot be reached; the message says why, without credentials."""


async def dial(egress: Egress, host: str, port: int, clock: Clock) -> asyncio.Transport:
    """Open a transport to `host`, whose protocol the caller must set before any byte is sent. Raises OSError."""
    if (proxy := egress.proxy) is None:
        return await _connect(host, port, clock, asyncio.Protocol)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    tls: dict[str, Any] = {}
    if proxy.scheme == "https":
        tls = {"ssl": trusting(egress), "server_hostname": proxy.host}
    transport = await _connect(proxy.host, proxy.port, clock, lambda: protocol, **tls)
    try:
        if proxy.is_socks:
            await _ask_socks(proxy, reader, transport, host, port)
        else:
            await _ask_http(proxy, reader, transport, host, port)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
        transport.abort()
        raise DialFailed(f"the proxy {proxy.address} ended the connection or answered nonsense") from error
    except BaseException:
        transport.abort()
        raise
    return transport


async def _connect(
    host: str, port: int, clock: Clock, factory: Callable[[], asyncio.BaseProtocol], **tls: Any
) -> asyncio.Transport:
    loop = asyncio.get_running_loop()

    async def open_(address: str) -> asyncio.Transport:
        transport, _ = await loop.create_connection(factory, address, port, **tls)
        return transport

    return await first_to_answer(await _addresses(host, port), open_, clock)


async def _addresses(host: str, port: int) -> list[str]:
    """The addresses of a name in the resolver's order, with IPv6 and IPv4 alternating (RFC 8305)."""
    try:
        ip_address(host)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        by_family: dict[int, list[str]] = {}
        for family, _, _, _, address in found:
            by_family.setdefault(family, []).append(str(address[0]))
        turns = chain.from_iterable(zip_longest(*by_family.values()))
        return list(dict.fromkeys(each for each in turns if each is not None))[:ADDRESSES_MAX]
    return [host]


async def first_to_answer(addresses: list[str], open_: Open, clock: Clock) -> asyncio.Transport:
    """Return the transport of the first address that connects. Raises OSError if none does.

    The next address is tried when an attempt fails or has lasted ADDRESS_GAP_S; slow attempts continue meanwhile.
    """
    if len(addresses) == 1:
        return await open_(addresses[0])
    won: list[asyncio.Transport] = []
    errors: list[OSError] = []

    async def attempt(address: str, ended: asyncio.Event) -> None:
        try:
            transport = await open_(address)
        except OSError as error:
            errors.append(error)
        else:
            if won:  # two connected at the same moment
                transport.abort()
            won.append(transport)
        finally:
            ended.set()

    attempts: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            for address in addresses:
                ended = asyncio.Event()
                attempts.append(tasks.create_task(attempt(address, ended)))
                if address != addresses[-1]:
                    await until(ended, clock, ADDRESS_GAP_S)
                if won:
                    break
            pending = set(attempts)
            while pending and not won:
                _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for each in attempts:
                each.cancel()
    except BaseException:
        for transport in won:
            transport.abort()
        raise
    if won:
        return won[0]
    raise DialFailed("; ".join(dict.fromkeys(str(error) for error in errors)) or "the name has no address")


async def _ask_http(
    proxy: Proxy, reader: asyncio.StreamReader, transport: asyncio.Transport, host: str, port: int
) -> None:
    """Request a connection to the host from an HTTP proxy (CONNECT). Raises OSError and what the reader raises."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if (credentials := proxy.credentials) is not None:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(":".join(credentials).encode()).decode())
    transport.write("\r\n".join([*lines, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    version, _, status = head.split(b"\r\n", 1)[0].partition(b" ")
    if not version.startswith(b"HTTP/1.") or not status.startswith(b"2"):
        hint = "; it wants other credentials" if status.startswith(b"407") else ""
        raise DialFailed(f"the proxy {proxy.address} refused {where}: {status.decode('latin-1'):.80}{hint}")


async def _ask_socks(
    proxy: Proxy, reader: asyncio.StreamReader, transport: asyncio.Transport, host: str, port: int
) -> None:
    """Request a connection to the host from a SOCKS5 proxy (RFC 1928, 1929). Raises OSError and reader errors."""
    credentials = proxy.credentials
    transport.write(b"\x05\x02\x00\x02" if credentials else b"\x05\x01\x00")
    version, method = await reader.readexactly(2)
    if version != 5:
        raise DialFailed(f"the proxy {proxy.address} does not speak SOCKS5")
    if method == 2 and credentials:
        user, password = (each.encode() for each in credentials)
        transport.write(b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password)
        if (await reader.readexactly(2))[1]:
            raise DialFailed(f"the proxy {proxy.address} refused the credentials")
    elif method:
        raise DialFailed(f"the proxy {proxy.address} wants credentials: socks5://user:password@host:port")
    transport.write(b"\x05\x01\x00" + _socks_address(host) + struct.pack(">H", port))
    _, failure, _, kind = await reader.readexactly(4)
    if failure:
        raise DialFailed(f"the proxy {proxy.address} cannot reach {host}: {_SOCKS_FAILURES.get(failure, failure)}")
    length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
    await reader.readexactly(length + 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes([3, len(name)]) + name
    return bytes([1 if address.version == 4 else 4]) + address.packed
