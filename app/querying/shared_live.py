"""Klines in progress for a process that has no sockets: the writer's, asked for over the line that forwards requests.

The writer has them from its sockets, of every interval. An answer is kept for TTL_MS, here and, with CACHE_URL, for all
nodes: a series costs the writer four requests a second of each process, or of all together, for any number of clients.
The exchange, whose kline costs weight and may be ten seconds old, is asked only where the writer has none.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlencode

import xxhash
from cachetools import LRUCache

from app.domain.interval import Grid
from app.domain.series import Series
from app.holding.encoded_rows import EncodedRows
from app.ports.cache import SharedCache
from app.ports.clock import Clock
from app.ports.coordination import RpcRequest, RpcResponse, WriterUnreachable
from app.ports.errors import UpstreamUnavailable
from app.querying.single_flight import SingleFlight

TTL_MS: Final = 250  # so often the exchange sends a kline; pages add as much (app/querying/tail_cut.py)
ASK_S_MAX: Final = 1.0  # a writer that takes longer is busy: the exchange is asked
AWAY_MS: Final = 1_000  # a writer that did not answer is not asked again for so long: requests would wait for it
ASKED_AT_ONCE_MAX: Final = 32  # of the 256 requests that the writer accepts at once (infra/lines/writer_rpc.py)
WAITING_MAX: Final = 1_024  # bots ask for hundreds of series at once, which the writer answers within ASK_S_MAX
KEPT_MAX: Final = 2_048  # answers of 300 bytes; more series than that are not asked for in TTL_MS
ROWS: Final = 2  # the kline in progress, and the one before while it has ended and is not closed
FORMAT: Final = 1

_DIGEST_BYTES: Final = 8
_OK: Final = 200

AskWriter = Callable[[RpcRequest], Awaitable[RpcResponse]]
"""Forwards a request to the writer process. Raises WriterUnreachable."""
_Question = tuple[Series, int]
"""A series, and when its kline in progress opens (ms): what was answered before the last one closed is no answer."""


class SharedLive:
    """Finds klines in progress in memory or the shared cache, or asks the writer for them."""

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
        self._flights = SingleFlight[_Question, bytes](WAITING_MAX, "requests to the writer")
        self._turns = asyncio.Semaphore(ASKED_AT_ONCE_MAX)
        self._kept: LRUCache[_Question, tuple[int, bytes]] = LRUCache(KEPT_MAX)
        self._away_until_ms = 0

    def is_elsewhere(self, series: Series) -> bool:
        """Whether another process has the series' sockets, so that its klines in progress are to be asked for."""
        return series.kind.is_streamed and not self._is_writer()

    def kept(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """Like `rows`, from what the writer has answered in the last TTL_MS."""
        until_ms, body = self._kept.get(self._question(series, grid), (0, b""))
        return self._of(grid, open_ms, body) if self._clock.now_ms() < until_ms else None

    async def rows(self, series: Series, grid: Grid, open_ms: int) -> list[bytes] | None:
        """The rows from the kline opening at `open_ms` to the one in progress; None if no other process has them."""
        if not self.is_elsewhere(series):
            return None
        question, now_ms = self._question(series, grid), self._clock.now_ms()
        until_ms, body = self._kept.get(question, (0, b""))
        if now_ms < until_ms:
            return self._of(grid, open_ms, body)
        generation = self._generation() if self._cache.is_usable else None
        key = f"klinenode:{FORMAT}:{generation}:live:{series.name}:{series.interval.code}:{open_ms}".encode()
        value = await self._cache.get(key) if generation is not None else None
        if value is not None and value[:_DIGEST_BYTES] == _digest(key, value[_DIGEST_BYTES:]):
            rows = self._of(grid, open_ms, value[_DIGEST_BYTES:])
            if rows is not None:
                return rows
        if now_ms < self._away_until_ms:
            return None
        try:
            async with asyncio.timeout(ASK_S_MAX):
                body = await self._flights.join(question, lambda: self._asked(question))
        except (WriterUnreachable, TimeoutError):
            self._away_until_ms = self._clock.now_ms() + AWAY_MS
            return None
        except UpstreamUnavailable:
            return None
        rows = self._of(grid, open_ms, body)
        if rows is not None and generation is not None:
            self._cache.put(key, _digest(key, body) + body, TTL_MS)
        return rows

    def _question(self, series: Series, grid: Grid) -> _Question:
        return series, grid.floor(self._clock.now_ms())

    async def _asked(self, question: _Question) -> bytes:
        """The writer's answer, which is kept; `[]` when it has none. Raises WriterUnreachable."""
        series, _ = question
        rest = series.kind.rest
        query = {rest.symbol: series.symbol, rest.interval: series.interval.code, "limit": ROWS, "only_final": "false"}
        async with self._turns:
            answer = await self._ask(RpcRequest("GET", rest.path, urlencode(query), "", [], b""))
        body = answer.body if answer.status == _OK else b"[]"
        self._kept[question] = self._clock.now_ms() + TTL_MS, body
        return body

    def _of(self, grid: Grid, open_ms: int, body: bytes) -> list[bytes] | None:
        """The rows of a body from `open_ms` on; None if they are not exactly those up to the kline in progress."""
        rows = [row for row in EncodedRows.of_body(body) if _open_ms(row) >= open_ms]
        due = list(grid.opens(open_ms, grid.shift(grid.floor(self._clock.now_ms()), 1)))
        return rows if rows and [_open_ms(row) for row in rows] == due else None


def _open_ms(row: bytes) -> int:
    return int(row[1 : row.index(b",")])


def _digest(key: bytes, body: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key + body)
