"""The pages that were answered lately, bounded in bytes, each gone as soon as it is no longer true."""

from typing import Final, NamedTuple, TypeVar

from cachetools import Cache, LRUCache
from starlette.types import ASGIApp, Receive, Scope, Send

from app.domain.span import Span
from app.http.page import Page, Reply
from app.ports import Clock, Series
from app.services.answer import END_OF_TIME_MS, Answer

CACHED_PATHS: Final = frozenset({"/fapi/v1/klines"})
PAGE_OVERHEAD_BYTES: Final = 2560  # measured beside the bodies: 1.6 kB a page, 2.2 kB once it has a gzip variant
KEEPING_ERROR_MS: Final = 1_100
"""How much longer than it was told another cache may keep a page: nginx counts in whole seconds, the first and the last
included, and 0.1 s for the way to it."""
PAGE_SHARE_MAX: Final = 8  # one page may take an eighth of the cache; the largest answer is 0.3 MB

Key = tuple[str, bytes]  # path and raw query string


class Ticket(NamedTuple):
    """How often a series had changed, and its symbol's live klines moved, when an answer began to be computed."""

    changes: int
    moves: int


class _Entry:
    __slots__ = ("answer", "expires_ms", "made_ms", "page", "query_bytes")

    def __init__(self, page: Page, answer: Answer, query_bytes: int, made_ms: int, expires_ms: int) -> None:
        self.page = page
        self.answer = answer._replace(body=b"")  # the page has the bytes
        self.query_bytes = query_bytes
        self.made_ms = made_ms
        self.expires_ms = expires_ms

    def is_true(self, now_ms: int) -> bool:
        """Whether it may still be sent; never by a clock that was put back, by which it would not end in time."""
        return self.made_ms <= now_ms < self.expires_ms

    def cost(self) -> int:
        return self.page.size + self.query_bytes + PAGE_OVERHEAD_BYTES


Owner = TypeVar("Owner", Series, str)


def _file(index: dict[Owner, dict[Key, _Entry]], owner: Owner, key: Key, entry: _Entry) -> None:
    index.setdefault(owner, {})[key] = entry


def _take_out(index: dict[Owner, dict[Key, _Entry]], owner: Owner, key: Key) -> None:
    del index[owner][key]
    if not index[owner]:
        del index[owner]


class _Entries(LRUCache[Key, _Entry]):
    """LRU by bytes that knows the keys of each series, whatever way an entry comes or goes."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max, getsizeof=_Entry.cost)
        self.of_series: dict[Series, dict[Key, _Entry]] = {}
        self.live_of_symbol: dict[str, dict[Key, _Entry]] = {}
        self.evictions = 0

    def __setitem__(self, key: Key, entry: _Entry) -> None:
        super().__setitem__(key, entry)
        series = entry.answer.series
        _file(self.of_series, series, key, entry)
        if entry.answer.is_live:
            _file(self.live_of_symbol, series.symbol, key, entry)

    def __delitem__(self, key: Key) -> None:
        entry: _Entry = Cache.__getitem__(self, key)  # without touching its age
        super().__delitem__(key)
        series = entry.answer.series
        _take_out(self.of_series, series, key)
        if entry.answer.is_live:
            _take_out(self.live_of_symbol, series.symbol, key)

    def clear(self) -> None:
        """Forget everything; the library's own way passes by `__delitem__`."""
        super().clear()
        self.of_series.clear()
        self.live_of_symbol.clear()

    def popitem(self) -> tuple[Key, _Entry]:
        """Give up the page that was unused for the longest time."""
        self.evictions += 1
        return super().popitem()


class PageCache:
    """Pages by path and raw query string.

    Whoever computes an answer takes a `ticket` first and hands it in with the page: an answer that was computed before
    its series changed is not kept after it.
    """

    def __init__(self, bytes_max: int, clock: Clock, ttl_s: int) -> None:
        self._entries = _Entries(bytes_max)
        self._page_bytes_max = bytes_max // PAGE_SHARE_MAX
        self._clock = clock
        self._ttl_s = ttl_s
        self._changes: dict[Series, int] = {}
        self._moves: dict[str, int] = {}
        self._clears = 0
        self.true_until_ms = END_OF_TIME_MS
        """When the pages can no longer be trusted unless it is put off: whoever drops pages may have lost touch."""
        self.hits = 0
        self.misses = 0
        self.not_modified = 0

    @property
    def bytes(self) -> int:
        """What the pages take, with headers, keys and index."""
        return int(self._entries.currsize)

    @property
    def entries(self) -> int:
        """How many pages there are."""
        return len(self._entries)

    @property
    def evictions(self) -> int:
        """How many pages had to go for others."""
        return self._entries.evictions

    def ticket(self, series: Series) -> Ticket:
        """To be taken before an answer for `series` is computed."""
        return Ticket(self._changes.get(series, 0) + self._clears, self._moves.get(series.symbol, 0))

    def max_age_s(self, answer: Answer) -> int:
        """For how long others may keep `answer`: not beyond its candle, and not at all while a live kline is in it."""
        return self._max_age_s(answer, self._clock.now_ms())

    def put(self, key: Key, page: Page, answer: Answer, ticket: Ticket) -> None:
        """Keep the page of `answer`, unless it is no longer true or too large."""
        now_ms = self._clock.now_ms()
        changes, moves = self.ticket(answer.series)
        is_stale = changes != ticket.changes or (answer.is_live and moves != ticket.moves)
        entry = _Entry(page, answer, len(key[1]), now_ms, min(now_ms + self._ttl_s * 1000, answer.valid_until_ms))
        self._entries.pop(key, None)
        if not is_stale and entry.is_true(now_ms) and entry.cost() <= self._page_bytes_max:
            self._entries[key] = entry

    def drop(self, series: Series, span: Span) -> None:
        """Klines of `series` that open in `span` changed: forget their pages."""
        self._changes[series] = self._changes.get(series, 0) + 1
        now_ms = self._clock.now_ms()
        gone = [
            key
            for key, entry in self._entries.of_series.get(series, {}).items()
            if entry.answer.touches.clip(span) or not entry.is_true(now_ms)
        ]
        for key in gone:
            del self._entries[key]

    def moved(self, symbol: str) -> None:
        """The live klines of `symbol` moved: forget the pages that show one. Costs next to nothing when there is none.

        It is told of every frame, and once for all intervals: all are made of the same minute.
        """
        self._moves[symbol] = self._moves.get(symbol, 0) + 1
        for key in tuple(self._entries.live_of_symbol.get(symbol, ())):
            del self._entries[key]

    def clear(self) -> None:
        """Forget every page, and those that are being made."""
        self._clears += 1
        self._entries.clear()

    def reply(self, scope: Scope) -> Reply | None:
        """What a GET or HEAD gets without asking anybody, or None when no valid page is here."""
        key = (scope["path"], scope["query_string"])
        entry = self._entries.get(key)
        if entry is None:
            self.misses += 1
            return None
        now_ms = self._clock.now_ms()
        if not entry.is_true(now_ms):
            del self._entries[key]
            self.misses += 1
            return None
        if now_ms >= self.true_until_ms:
            self.misses += 1
            return None
        size = entry.page.size
        reply = entry.page.reply(scope["method"], scope["headers"], self._max_age_s(entry.answer, now_ms))
        if entry.page.size != size:  # its gzip variant was made
            self._weigh(key, entry)
        self.hits += 1
        self.not_modified += reply.start["status"] == 304
        return reply

    def _max_age_s(self, answer: Answer, now_ms: int) -> int:
        if answer.is_live:
            return 0
        return max(0, min(self._ttl_s, (answer.valid_until_ms - now_ms - KEEPING_ERROR_MS) // 1000))

    def _weigh(self, key: Key, entry: _Entry) -> None:
        if entry.cost() <= self._page_bytes_max:
            self._entries[key] = entry
        else:
            del self._entries[key]


class PageCacheMiddleware:
    """Answers from the page cache where it can; everything else goes on to `app`. The outermost layer."""

    def __init__(self, app: ASGIApp, pages: PageCache) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and scope["path"] in CACHED_PATHS and scope["method"] in ("GET", "HEAD"):
            reply = self._pages.reply(scope)
            if reply is not None:
                await send(reply.start)
                await send(reply.body)
                return
        await self._app(scope, receive, send)
