"""A hand-made exchange without a network: sockets that tests feed and break, and requests that they answer."""

import asyncio
from dataclasses import dataclass, field

from app.domain.venue import Request
from app.ports.venue_io import Answer, VenueLost, VenueSocket


class FakeSocket:
    """One socket: `frames` are received, `sent` was sent. A stuck one takes nothing, and sends wait for ever."""

    def __init__(self, route: str) -> None:
        self.route = route
        self.sent: list[str] = []
        self.closes = 0
        self.is_stuck = False
        self._frames: asyncio.Queue[list[bytes] | VenueLost] = asyncio.Queue()

    def push(self, *frames: bytes) -> None:
        """Let frames arrive together."""
        self._frames.put_nowait([*frames])

    def lose(self, reason: str) -> None:
        """Break the connection."""
        self._frames.put_nowait(VenueLost(reason))

    async def send(self, text: str) -> None:
        if self.is_stuck:
            await asyncio.Event().wait()
        self.sent.append(text)

    async def receive(self) -> list[bytes]:
        frames = await self._frames.get()
        if isinstance(frames, VenueLost):
            raise frames
        return frames

    async def close(self) -> None:
        self.closes += 1


@dataclass
class FakeVenueIo:
    """A VenueIo. `refusal`: why no socket is opened; `answer`: what a request gets, or why it gets none."""

    refusal: str = ""
    answer: Answer | VenueLost = field(default_factory=lambda: Answer(200, {}, b"{}"))
    sockets: list[FakeSocket] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    async def connect(self, route: str) -> VenueSocket:
        if self.refusal:
            raise VenueLost(self.refusal)
        socket = FakeSocket(route)
        self.sockets.append(socket)
        return socket

    async def get(self, request: Request) -> Answer:
        self.requests.append(request)
        if isinstance(self.answer, VenueLost):
            raise self.answer
        return self.answer
