"""Connections to an exchange's public interface: sockets and GET requests."""

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, Protocol

from app.domain.venue import Request


class Answer(NamedTuple):
    """An answer that came, whatever its status; the body is bounded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class VenueLost(Exception):
    """A connection could not be made, broke or timed out; the message says which and why."""


class VenueSocket(Protocol):
    """An open websocket."""

    async def send(self, text: str) -> None:
        """Send a text frame. VenueLost: the socket is gone."""
        ...

    def frames(self) -> AsyncIterator[bytes]:
        """The frames as they come; ends, or raises VenueLost, when the socket closes."""
        ...

    async def close(self) -> None:
        """Close it within a bounded time; may be called again."""
        ...


class VenueIo(Protocol):
    """How one exchange is reached."""

    async def connect(self, route: str) -> VenueSocket:
        """Open a websocket at `route` (path and query). VenueLost: it was not accepted in time."""
        ...

    async def get(self, request: Request) -> Answer:
        """Send a GET. VenueLost: no whole answer came in time."""
        ...
