"""Connections to an exchange's public interface: sockets and GET requests."""

from collections.abc import Mapping
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

    async def receive(self) -> list[bytes]:
        """The frames that came since the last call, at least one. VenueLost: there will be none."""
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
