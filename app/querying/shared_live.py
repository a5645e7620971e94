"""Klines in progress for a process that has no sockets: the writer's, asked once for all nodes (with CACHE_URL).

Without it such a process asks the exchange, at most once in ten seconds a series: that costs weight, and the kline is
as old. The writer has it from its sockets, of every interval. A node asks for it over the line by which it forwards
other requests, and puts the answer into the shared cache for TTL_MS, so that a writer is asked twice a second for a
series, however many nodes there are. Where neither has it, the exchange is asked as ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode

import xxhash

from app.domain.interval import Grid
from app.domain.series import Series
from app.holding.encoded_rows import EncodedRows
from app.ports.cache import SharedCache
from app.ports.clock import Clock
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from app.ports.errors import UpstreamUnavailable
from app.querying.single_flight import SingleFlight

TTL_MS: Final = 500  # an answer with a kline in progress is kept for a second by each node on top of it
ASK_S_MAX: Final = 1.0  # a writer that takes longer is busy: the exchange is asked
ASKED_AT_ONCE_MAX: Final = 64
ROWS: Final = 2  # the kline in progress, and the one before while it has ended and is not closed
FORMAT: Final = 1

_DIGEST_BYTES: Final = 8
_OK: Final = 200

AskWriter = Callable[[RpcRequest], Awaitable[RpcResponse]]
"""Forwards a request to the writer process. Raises WriterUnreachable."""


class SharedLive:
    """Finds klines in progress in the shared cache, or asks the writer for them."""

    def __init__(
        self,
        clock: Clock,
        cache: SharedCache,
        ask: AskWriter,
        generation: Callable[[], str | None],
        is_writer: Callable[[], bool],
    ) -> None:
        """`generation` returns the name of what this database's nodes share; None while it is not known."""
        self._clock = clock
        self._cache = cache
        self._ask = ask
        self._generation = generation
        self._is_writer = is_writer
        self._flights = SingleFlight[tuple[Series, int], bytes](ASKED_AT_ONCE_MAX, "requests to the writer")

    async def rows(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """The rows from the kline opening at `open_ms` to the one in progress; None if no other process has them."""
        generation = self._generation()
        if generation is None or not self._cache.is_usable or self._is_writer() or not series.kind.is_streamed:
            return None
        key = f"klinenode:{FORMAT}:{generation}:live:{series.name}:{series.interval.code}:{open_ms}".encode()
        value = await self._cache.get(key)
        if value is not None and value[:_DIGEST_BYTES] == _digest(key, value[_DIGEST_BYTES:]):
            rows = self._of(grid, open_ms, value[_DIGEST_BYTES:])
            if rows is not None:
                return rows
        try:
            async with asyncio.timeout(ASK_S_MAX):
                body = await self._flights.join((series, open_ms), lambda: self._asked(series))
        except (WriterUnreachable, UpstreamUnavailable, TimeoutError):
            return None
        rows = self._of(grid, open_ms, body)
        if rows is not None:
            self._cache.put(key, _digest(key, body) + body, TTL_MS)
        return rows

    async def _asked(self, series: Series) -> bytes:
        """The writer's answer; `[]` when it has none. Raises WriterUnreachable."""
        rest = series.kind.rest
        query = {rest.symbol: series.symbol, rest.interval: series.interval.code, "limit": ROWS, "only_final": "false"}
        answer = await self._ask(RpcRequest("GET", rest.path, urlencode(query), "", [], b""))
        return answer.body if answer.status == _OK else b"[]"

    def _of(self, grid: Grid, open_ms: int, body: bytes) -> list[bytes] | None:
        """The rows of a body from `open_ms` on; None if they are not exactly those up to the kline in progress."""
        rows = [row for row in EncodedRows.of_body(body) if _open_ms(row) >= open_ms]
        due = list(grid.opens(open_ms, grid.shift(grid.floor(self._clock.now_ms()), 1)))
        return rows if rows and [_open_ms(row) for row in rows] == due else None


def _open_ms(row: bytes) -> int:
    return int(row[1 : row.index(b",")])


def _digest(key: bytes, body: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key + body)
