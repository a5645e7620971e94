"""Connecting to a service of another node: an HTTP request that asks to go on in the service's own language.

    GET /v1/lines HTTP/1.1, Connection: Upgrade, Upgrade: klinenode-<service>, Authorization: Bearer <CLUSTER_TOKEN>

After the answer 101 the connection carries what infra/lines says, in both directions.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from infra.lines.line import ProtocolT

PATH: Final = "/v1/lines"
CONNECT_S_MAX: Final = 5.0  # for address, connection, TLS and the answer
HEAD_BYTES_MAX: Final = 16_384
RECEIVE_KERNEL_BYTES: Final = 1024 * 1024  # what waits for a process that does not read is soon the writer's to bound
IDLE_S: Final = 5  # of silence after which the kernel asks whether the other host is still there
PROBES: Final = 3  # so many unanswered ones end the connection
_HEAD_END: Final = b"\r\n\r\n"
_ANSWER: Final = re.compile(rb"HTTP/1\.1 (\d{3})(?: ([^\r\n]*))?\r\n")


class _Handshake(asyncio.Protocol):
    """Waits for the answer, then gives the transport to the protocol that goes on."""

    def __init__(self, go_on: Callable[[], asyncio.Protocol]) -> None:
        self.answered: asyncio.Future[asyncio.Protocol] = asyncio.get_running_loop().create_future()
        self._go_on = go_on
        self._transport: asyncio.Transport | None = None
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._heard += data
        head, end, rest = self._heard.partition(_HEAD_END)
        if not end:
            if len(self._heard) > HEAD_BYTES_MAX:
                self._fail("its answer is no answer of a klinenode")
            return
        found = _ANSWER.match(head + b"\r\n")
        if found is None or found[1] != b"101":
            self._fail(f"it answers {found[0].decode('latin-1').strip()!r}" if found else "it does not speak HTTP")
            return
        assert self._transport is not None, "it is connected"
        protocol = self._go_on()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if not self.answered.done():
            self.answered.set_result(protocol)
        if rest:
            protocol.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc or 'it was closed'}")

    def _fail(self, why: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(ConnectionError(why))


async def dial(url: str, service: str, token: str, go_on: Callable[[], ProtocolT]) -> ProtocolT:
    """Connect to `service` of the node at `url`, and let the protocol of `go_on` speak. Raises OSError.

    A connection to a host that is gone ends after IDLE_S and some seconds, although nothing is sent.
    """
    parts = urlsplit(url)
    host, is_secret = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_secret else 80)
    request = (
        f"GET {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: klinenode-{service}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            context = ssl.create_default_context() if is_secret else None
            transport, handshake = await loop.create_connection(lambda: _Handshake(go_on), host, port, ssl=context)
            _keep_alive(transport)
            transport.write(request.encode("latin-1"))
            return cast("ProtocolT", await handshake.answered)
    except (OSError, TimeoutError) as error:
        if transport is not None:
            transport.abort()
        raise ConnectionError(f"{url}: {str(error) or 'no answer in time'}") from error
    except BaseException:
        if transport is not None:
            transport.abort()
        raise


def _keep_alive(transport: asyncio.Transport) -> None:
    """Bound what the kernel receives ahead, and have it notice that the other host is gone."""
    held = transport.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_KERNEL_BYTES)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": IDLE_S, "TCP_KEEPINTVL": IDLE_S, "TCP_KEEPCNT": PROBES}
    options["TCP_USER_TIMEOUT"] = IDLE_S * (PROBES + 1) * 1_000
    for name, value in options.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
            held.setsockopt(socket.IPPROTO_TCP, option, value)
