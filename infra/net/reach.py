"""Probes of upstream hosts: whether they answer, at which step they do not, and which addresses they have."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import httpx
from websockets.exceptions import InvalidStatus

from app.outbound import Destination, masked
from app.ports.clock import Clock
from app.ports.errors import UpstreamGarbage
from app.ports.probes import Families, Reached, Step
from infra.net.http import Answer, HttpClient, NoAnswer
from infra.net.websocket import FAILURES, open_websocket

PROBE_BYTES_MAX: Final = 64 * 1024  # the answers that are asked for have a few hundred bytes
FAMILY_S_MAX: Final = 3.0  # for one address; a route that leads nowhere answers nothing at all
_ABSENT: Final = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}

TimeOf = Callable[[Answer], int | None]
"""Reads the exchange's time (ms) out of an answer."""

Resolve = Callable[[str, int], Awaitable[dict[int, str]]]
"""By address family: the first address of a name. Raises OSError."""


async def reach_http(at: Destination, path: str, clock: Clock, time_of: TimeOf = lambda answer: None) -> Reached:
    """Send one GET request for `path`, and report how far it came. An answer of any status counts as reached."""
    client = HttpClient(at.url, clock, lambda event: None, egress=at.egress)
    began_ms = clock.now_ms()
    try:
        answer = await client.get(path, bytes_max=PROBE_BYTES_MAX)
    except NoAnswer as error:
        return _failed(at, clock.now_ms() - began_ms, error)
    except UpstreamGarbage:  # a long answer, of which no more is needed
        return Reached(masked(at.url), clock.now_ms() - began_ms, proxy=_proxy(at), status=200)
    finally:
        await client.aclose()
    ended_ms = clock.now_ms()
    time_ms = time_of(answer)
    ahead_ms = None if time_ms is None else (began_ms + ended_ms) // 2 - time_ms
    return Reached(masked(at.url), ended_ms - began_ms, proxy=_proxy(at), status=answer.status, clock_ahead_ms=ahead_ms)


async def reach_socket(at: Destination, clock: Clock) -> Reached:
    """Open a websocket and close it again; nothing is subscribed."""
    began_ms = clock.now_ms()
    try:
        connection = await open_websocket(at, clock, message_bytes_max=PROBE_BYTES_MAX)
    except InvalidStatus as error:
        status = error.response.status_code
        return Reached(masked(at.url), clock.now_ms() - began_ms, proxy=_proxy(at), status=status)
    except FAILURES as error:
        return _failed(at, clock.now_ms() - began_ms, error)
    connection.transport.abort()
    return Reached(masked(at.url), clock.now_ms() - began_ms, proxy=_proxy(at), status=101)


async def resolve(host: str, port: int) -> dict[int, str]:
    """By address family: the first address of `host`. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses: dict[int, str] = {}
    for family, _, _, _, address in found:
        addresses.setdefault(family, str(address[0]))
    return addresses


async def reach_families(url: str, resolving: Resolve = resolve) -> Families:
    """Connect to one IPv4 and one IPv6 address of the host of `url`, at once. Raises OSError: it has no address."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    found = await resolving(host, port)
    v4, v6 = found.get(socket.AF_INET), found.get(socket.AF_INET6)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(_connect(v4, port))
        second = tasks.create_task(_connect(v6, port))
    (v4_failed, _), (v6_failed, is_absent) = first.result(), second.result()
    return Families(host, v4, v6, v4_failed, v6_failed, is_absent)


async def _connect(address: str | None, port: int) -> tuple[str | None, bool]:
    """Why the address cannot be connected to (None if it can), and whether its family is absent on this machine."""
    if address is None:
        return None, False
    try:
        async with asyncio.timeout(FAMILY_S_MAX):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer within {FAMILY_S_MAX:.0f} s", False
    except OSError as error:
        return error.strerror or str(error), error.errno in _ABSENT
    writer.transport.abort()
    return None, False


def _failed(at: Destination, elapsed_ms: int, error: BaseException) -> Reached:
    return Reached(masked(at.url), elapsed_ms, _step(at, error), _reason(error), _proxy(at))


def _step(at: Destination, error: BaseException) -> Step:
    """The step at which a request failed, by the errors that led to `error`."""
    causes = list(_causes(error))
    if any(isinstance(each, ssl.SSLError) for each in causes):
        return Step.TLS
    if at.egress.proxy is not None and any(isinstance(each, OSError | httpx.TransportError) for each in causes):
        return Step.PROXY
    if any(isinstance(each, socket.gaierror) for each in causes):
        return Step.NAME
    if any(isinstance(each, httpx.ConnectError | httpx.ConnectTimeout | ConnectionError) for each in causes):
        return Step.CONNECT
    return Step.ANSWER


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _reason(error: BaseException) -> str:
    """What the first cause says, which is closest to the fault; libraries wrap it in names of their own."""
    causes = [each for each in _causes(error) if str(each) and not isinstance(each, BaseExceptionGroup)]
    first = causes[-1] if causes else error
    if isinstance(first, OSError) and first.errno and first.errno > 0 and not isinstance(first, ssl.SSLError):
        return os.strerror(first.errno)
    return getattr(first, "strerror", None) or str(first) or type(first).__name__


def _proxy(at: Destination) -> str | None:
    return None if at.egress.proxy is None else at.egress.proxy.address
