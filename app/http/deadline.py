"""The ASGI layer that refuses a GET or HEAD whose answer does not begin in time, however many waits it adds up."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.errors import too_slow

RESPONSE_S_MAX: Final = 57.0
"""A klines answer takes 50 s at most, and 5 more for a partial one; nginx gives up after 60, without our reason."""
READING: Final = frozenset({"GET", "HEAD"})
"""Other methods change something, which may not be cut off half-way."""


class Deadline:
    """A pure ASGI layer. What has begun to be sent has no deadline but that of its connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; its answer is a 503 if it does not begin within RESPONSE_S_MAX seconds."""
        if scope["type"] != "http" or scope["method"] not in READING:
            await self._app(scope, receive, send)
            return
        deadline = asyncio.timeout(RESPONSE_S_MAX)

        async def send_begun(message: Message) -> None:
            if message["type"] == "http.response.start":
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await self._app(scope, receive, send_begun)
        except TimeoutError:
            if not deadline.expired():
                raise
            await too_slow(scope["path"])(scope, receive, send)
