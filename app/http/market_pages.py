"""The cache of market data answers: bounded in bytes, each valid for its time and fetched once for all who wait."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from cachetools import LRUCache
from starlette.responses import Response
from starlette.types import Scope

from app.domain.validity import is_valid
from app.http.archive_header import archive_headers
from app.http.errors import json_response
from app.http.headers import BINANCE, NO_STORE
from app.http.page import Page, PageResponse
from app.http.page_cache import KEEPING_ERROR_MS, PAGE_OVERHEAD_BYTES
from app.market.endpoints import Question
from app.market.market_source import Fetched
from app.ports.clock import Clock
from app.querying.single_flight import SingleFlight

MARKET_PAGES_BYTES_MAX: Final = 32 * 1024 * 1024
"""Some hundred answers about all symbols with their gzip variants, or ten thousand about one symbol."""
PAGE_SHARE_MAX: Final = 4  # a page larger than a quarter of the cache is not kept: it would evict too many others
QUESTIONS_MAX: Final = 256  # upstream requests in progress; more would wait for weight longer than clients do
ANSWER_S_MAX: Final = 20.0

Edition = tuple[Question, int]
"""A question, and a number that changes when cached answers to it must not be served again (book_starts.py), else 0."""
Fetch = Callable[[Question], Awaitable[Fetched]]
"""Fetches the answer to a question. Raises UpstreamError, BinanceError."""


class Kept:
    """A cached answer with its two ends of validity: the usual one, and a later one for while weight is short."""

    __slots__ = ("archived", "fresh_until_ms", "made_ms", "overhead", "page", "status", "thrifty_until_ms")

    def __init__(self, question: Question, fetched: Fetched, now_ms: int) -> None:
        self.status = fetched.status
        self.archived = fetched.archived
        self.page = Page(fetched.body, *archive_headers(fetched.archived))
        self.made_ms = now_ms
        self.fresh_until_ms = now_ms + fetched.fresh_ms
        self.thrifty_until_ms = now_ms + fetched.thrifty_ms
        self.overhead = PAGE_OVERHEAD_BYTES + sum(len(name) + len(value) for name, value in question.pairs)
        self.overhead += len(fetched.archived)

    def cost(self) -> int:
        """The bytes it takes in memory, with overhead."""
        return self.page.size + self.overhead

    def response(self, scope: Scope, now_ms: int) -> Response:
        """The response to one request, with a max-age that ends with the answer's validity; errors get no-store."""
        if self.status != 200:
            return json_response(self.page.body, self.status, NO_STORE, *BINANCE)
        return PageResponse(self.page, scope, max(0, (self.fresh_until_ms - now_ms - KEEPING_ERROR_MS) // 1000))


class MarketPages:
    """The cached answers, by question and edition, in an LRU of at most `bytes_max`."""

    def __init__(
        self, clock: Clock, is_weight_short: Callable[[], bool], bytes_max: int = MARKET_PAGES_BYTES_MAX
    ) -> None:
        """`is_weight_short` says whether answers are to be given for as long as they are good enough."""
        self._clock = clock
        self._is_weight_short = is_weight_short
        self._entries: LRUCache[Edition, Kept] = LRUCache(bytes_max, getsizeof=Kept.cost)
        self._page_bytes_max = bytes_max // PAGE_SHARE_MAX
        self._flights = SingleFlight[Edition, Kept](QUESTIONS_MAX, "questions to the exchange")
        self.hits = 0
        self.misses = 0

    @property
    def bytes(self) -> int:
        """The bytes that all cached answers take, with headers and keys."""
        return int(self._entries.currsize)

    @property
    def entries(self) -> int:
        """How many answers are cached."""
        return len(self._entries)

    async def answer(self, question: Question, fetch: Fetch, edition: int = 0) -> Kept:
        """A valid answer: from the cache, or from one `fetch` for all who wait.

        Raises what `fetch` raises, TimeoutError after ANSWER_S_MAX, UpstreamUnavailable above QUESTIONS_MAX.
        """
        key = (question, edition)
        kept = self._entries.get(key)
        if kept is not None and self._is_true(kept):
            self.hits += 1
            return kept
        self.misses += 1
        return await self._flights.join(key, lambda: self._make(key, fetch))

    def weigh(self, question: Question, kept: Kept, edition: int = 0) -> None:
        """Account for the growth of a cached answer whose gzip variant was made."""
        key = (question, edition)
        if self._entries.pop(key, None) is kept:
            self._keep(key, kept)

    def drop(self, paths: Collection[str], symbol: str) -> None:
        """Drop the answers of `paths` to questions about `symbol`. Takes 1 ms for 4,000 cached answers."""
        for key in [key for key in self._entries if key[0].path in paths and ("symbol", symbol) in key[0].pairs]:
            del self._entries[key]

    def clear(self) -> None:
        """Drop every cached answer."""
        self._entries.clear()

    async def _make(self, key: Edition, fetch: Fetch) -> Kept:
        question = key[0]
        async with asyncio.timeout(ANSWER_S_MAX):
            fetched = await fetch(question)
        kept = Kept(question, fetched, self._clock.now_ms())
        self._entries.pop(key, None)
        if kept.thrifty_until_ms > kept.made_ms:
            self._keep(key, kept)
        return kept

    def _keep(self, key: Edition, kept: Kept) -> None:
        if kept.cost() <= self._page_bytes_max:
            self._entries[key] = kept

    def _is_true(self, kept: Kept) -> bool:
        """Whether a cached answer is still valid; while weight is short, it is valid for longer."""
        now_ms = self._clock.now_ms()
        if not is_valid(kept.made_ms, now_ms, kept.thrifty_until_ms):
            return False
        return now_ms < kept.fresh_until_ms or self._is_weight_short()
