"""The lines of a node whose database other hosts share: its own machine's sockets, and the writer's port.

Any process of the writer's host admits visitors; one that is not the writer itself passes them on to it.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from app.domain import letters
from app.ports.coordination import Admission, NotAdmitted
from infra.lines.line import Line, ProtocolT
from infra.remote.dial import dial

VISITORS_MAX: Final = 512  # connections from other hosts at once: requests to the writer, and one for streams each
_NOBODY: Final = "This node has no lines for other nodes: set CLUSTER_TOKEN, the same on all of them."


@dataclass(frozen=True, slots=True)
class Holder:
    """How the process that holds the lease is found: `url` of it, None when nobody does; `own` is this process'."""

    url: Callable[[], Awaitable[str | None]]
    own: str
    token: str | None
    """What nodes show each other; None: those of other hosts are neither asked nor admitted."""


class RemoteLine:
    """A line to the writer wherever it is. See Line."""

    def __init__(self, service: str, local: Line, holder: Holder) -> None:
        self._service = service
        self._local = local
        self._holder = holder
        self._make: Callable[[], asyncio.Protocol] | None = None

    async def serve(self, make: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections of this machine's processes and of other nodes. Raises OSError."""
        self._make = make
        await self._local.serve(make)

    def close(self) -> None:
        """Accept no more connections."""
        self._make = None
        self._local.close()

    async def connect(self, make: Callable[[], ProtocolT]) -> ProtocolT:
        """Connect to the writer: on this machine if its URL is this node's own, else at its URL. Raises OSError."""
        token = self._holder.token
        if token is None or not (url := await self._holder.url()) or url == self._holder.own:
            return await self._local.connect(make)
        return await dial(url, self._service, token, make)

    def guest(self) -> asyncio.Protocol:
        """What serves a connection of another node: the service itself, or a pipe to it on this machine."""
        return self._make() if self._make is not None else _Visitor(self._local)


class RemoteLines:
    """Admits the connections of other nodes. See Lines in app/ports/coordination.py."""

    def __init__(self, lines: Mapping[str, RemoteLine], token: str | None) -> None:
        self._lines = lines
        self._token = token
        self._visitors = 0

    def admit(self, service: str, authorization: str) -> Admission | NotAdmitted:
        """The protocol that serves the visitor, or the refusal."""
        if self._token is None:
            return NotAdmitted(404, _NOBODY)
        scheme, _, shown = authorization.partition(" ")
        is_known = hmac.compare_digest(shown.strip().encode("latin-1", "replace"), self._token.encode())
        if letters.lower(scheme) != "bearer" or not is_known:
            return NotAdmitted(401, "The token is not this node's CLUSTER_TOKEN.")
        if service not in self._lines:
            return NotAdmitted(404, f"This node has no line {service!r:.40}: is it of another version?")
        if self._visitors >= VISITORS_MAX:
            return NotAdmitted(503, "This node has as many visitors as it may have; try again.")
        self._visitors += 1
        return Admission(self._lines[service].guest(), self._left)

    def _left(self) -> None:
        self._visitors -= 1


class _Pipe(asyncio.Protocol):
    """One end of a pipe between two connections; neither is read faster than the other one takes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Pipe | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> None:
        """The connection ends with its other end: neither service goes on after that."""

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()  # after what waits was sent

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class _Visitor(_Pipe):
    """The end of another node; it is not read before the line to the writer is there."""

    def __init__(self, local: Line) -> None:
        super().__init__()
        self._local = local
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None, "just set"
        self.transport.pause_reading()
        self._joining = asyncio.get_running_loop().create_task(self._join(self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._joining is not None:
            self._joining.cancel()

    async def _join(self, transport: asyncio.Transport) -> None:
        def made() -> _Pipe:
            end = _Pipe()
            end.other = self
            return end

        try:
            self.other = await self._local.connect(made)
        except OSError:
            transport.abort()  # nobody writes on this host any more: the visitor asks for the writer again
            return
        if transport.is_closing():
            assert self.other.transport is not None, "it is connected"
            self.other.transport.abort()
        else:
            transport.resume_reading()
