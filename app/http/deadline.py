"""The refusal of a GET or HEAD whose answer does not begin in time, however many waits it adds up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.binance.error_body import service_unavailable
from app.domain.reason import Reason
from app.http.errors import too_slow
from app.querying.refusal import RETRY_AFTER_S

RESPONSE_S_MAX: Final = 57.0
"""A klines answer takes 50 s at most, and 5 more for a partial one; nginx gives up after 60, without our reason."""
READING: Final = frozenset({"GET", "HEAD"})
"""Other methods change something, which may not be cut off half-way."""


@asynccontextmanager
async def in_time() -> AsyncIterator[None]:
    """For what passes `Deadline` by and has no deadline as a whole. Raises BinanceError (503) after RESPONSE_S_MAX.

    Klines and market data have deadlines of their own, and a second timer would take 8 µs of each cached answer.
    """
    try:
        async with asyncio.timeout(RESPONSE_S_MAX):
            yield
    except TimeoutError as error:
        raise service_unavailable(RETRY_AFTER_S, Reason.SLOW) from error


class Deadline:
    """A pure ASGI layer around the routes. What has begun to be sent has no deadline but that of its connection."""

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
