"""Turns of queries that hold many klines in memory: few at work, some that wait, and a refusal for the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from app.binance.error_body import service_unavailable
from app.domain.reason import Reason
from app.querying.refusal import RETRY_AFTER_S

AT_ONCE_MAX: Final = 2  # queries whose klines are in memory at once
UNDER_WAY_MAX: Final = 16  # queries, with those that wait: more would wait longer than clients do


class Turns:
    """At most AT_ONCE_MAX queries at work, and UNDER_WAY_MAX with those that wait."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE_MAX)
        self._under_way = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and keep it in the block. Raises BinanceError: 503 where too many wait."""
        if self._under_way >= UNDER_WAY_MAX:
            raise service_unavailable(RETRY_AFTER_S, Reason.BUSY)
        self._under_way += 1
        try:
            async with self._free:
                yield
        finally:
            self._under_way -= 1
