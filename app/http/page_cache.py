"""The pages that were answered lately, bounded in bytes, each gone as soon as it is no longer true."""

from collections import OrderedDict
from typing import Final, NamedTuple, TypeVar

from starlette.types import Scope

from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_valid
from app.http.page import NOT_MODIFIED, Asked, Hit, Page, Reply, asked_by, reply_of
from app.http.recent import Recent
from app.ports.clock import Clock
from app.querying.answer import END_OF_TIME_MS, Answer

PAGE_OVERHEAD_BYTES: Final = 2560  # measured beside the bodies: 1.6 kB a page, 2.2 kB once it has a gzip variant
KEEPING_ERROR_MS: Final = 1_100
"""How much longer than it was told another cache may keep a page: nginx counts in whole seconds, the first and the last
included, and 0.1 s for the way to it."""
PAGE_SHARE_MAX: Final = 8  # one page may take an eighth of the cache; the largest answer is 0.3 MB
ASKED_BYTES_MAX: Final = 2 * 1024 * 1024  # for pages not kept that are remembered as asked for once: 4,000 usual ones

Key = tuple[str, bytes]  # path and raw query string


class Ticket(NamedTuple):
    """How often a series had changed, and its symbol's live klines moved, when an answer began to be computed."""

    changes: int
    moves: int


class _Entry:
    __slots__ = ("answer", "cost", "expires_ms", "made_ms", "page", "query_bytes")

    def __init__(self, page: Page, answer: Answer, query_bytes: int, made_ms: int, expires_ms: int) -> None:
        self.page = page
        self.answer = answer._replace(body=b"")  # the page has the bytes
        self.query_bytes = query_bytes
        self.made_ms = made_ms
        self.expires_ms = expires_ms
        self.weigh()

    def is_true(self, now_ms: int) -> bool:
        """Whether it may still be sent."""
        return is_valid(self.made_ms, now_ms, self.expires_ms)

    def weigh(self) -> None:
        self.cost = self.page.size + self.query_bytes + PAGE_OVERHEAD_BYTES


Owner = TypeVar("Owner", Series, str)


def _file(index: dict[Owner, dict[Key, _Entry]], owner: Owner, key: Key, entry: _Entry) -> None:
    index.setdefault(owner, {})[key] = entry


def _take_out(index: dict[Owner, dict[Key, _Entry]], owner: Owner, key: Key) -> None:
    del index[owner][key]
    if not index[owner]:
        del index[owner]


class _Entries:
    """LRU by bytes that knows the keys of each series."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.by_key: OrderedDict[Key, _Entry] = OrderedDict()
        """The page that was unused for the longest time comes first."""
        self.bytes = 0
        self.of_series: dict[Series, dict[Key, _Entry]] = {}
        self.live_of_symbol: dict[str, dict[Key, _Entry]] = {}
        self.evictions = 0

    def put(self, key: Key, entry: _Entry) -> None:
        """Add a page, at the cost of those that were unused for longest."""
        series = entry.answer.series
        self.by_key[key] = entry
        self.bytes += entry.cost
        _file(self.of_series, series, key, entry)
        if entry.answer.is_live:
            _file(self.live_of_symbol, series.name, key, entry)
        self._make_room()

    def remove(self, key: Key) -> None:
        """Forget a page, if it is here."""
        entry = self.by_key.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.cost
        series = entry.answer.series
        _take_out(self.of_series, series, key)
        if entry.answer.is_live:
            _take_out(self.live_of_symbol, series.name, key)

    def weigh(self, entry: _Entry) -> None:
        """A page has grown by its gzip variant."""
        self.bytes -= entry.cost
        entry.weigh()
        self.bytes += entry.cost
        self._make_room()

    def clear(self) -> None:
        """Forget everything."""
        self.by_key.clear()
        self.of_series.clear()
        self.live_of_symbol.clear()
        self.bytes = 0

    def _make_room(self) -> None:
        while self.bytes > self._bytes_max:
            self.evictions += 1
            self.remove(next(iter(self.by_key)))


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
        self._asked = Recent[Key, int](ASKED_BYTES_MAX)
        self.true_until_ms = END_OF_TIME_MS
        """When the pages can no longer be trusted unless it is put off: whoever drops pages may have lost touch."""
        self.hits = 0
        self.misses = 0
        self.not_modified = 0

    @property
    def bytes(self) -> int:
        """What the pages take, with headers, keys and index."""
        return self._entries.bytes

    @property
    def entries(self) -> int:
        """How many pages there are."""
        return len(self._entries.by_key)

    @property
    def evictions(self) -> int:
        """How many pages had to go for others."""
        return self._entries.evictions

    def ticket(self, series: Series) -> Ticket:
        """To be taken before an answer for `series` is computed."""
        return Ticket(self._changes.get(series, 0) + self._clears, self._moves.get(series.name, 0))

    def max_age_s(self, answer: Answer, now_ms: int) -> int:
        """For how long others may keep `answer`: not beyond its candle, and not at all while a live kline is in it."""
        if answer.is_live:
            return 0
        return max(0, min(self._ttl_s, (answer.valid_until_ms - now_ms - KEEPING_ERROR_MS) // 1000))

    def is_asked_again(self, key: Key, now_ms: int) -> bool:
        """Whether the same page was asked for a moment ago: only then one that costs little to make is worth keeping.

        Keeping it costs as much as making it, and takes the room of those that are wanted.
        """
        asked_ms = self._asked.get(key)
        if asked_ms is not None and now_ms - asked_ms < self._ttl_s * 1000:
            return True
        self._asked.add(key, now_ms, key[1])
        return False

    def put(self, key: Key, page: Page, answer: Answer, ticket: Ticket) -> None:
        """Keep the page of `answer`, unless it is no longer true or too large."""
        now_ms = self._clock.now_ms()
        changes, moves = self.ticket(answer.series)
        is_stale = changes != ticket.changes or (answer.is_live and moves != ticket.moves)
        entry = _Entry(page, answer, len(key[1]), now_ms, min(now_ms + self._ttl_s * 1000, answer.valid_until_ms))
        self._entries.remove(key)
        if not is_stale and entry.is_true(now_ms) and entry.cost <= self._page_bytes_max:
            self._entries.put(key, entry)

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
            self._entries.remove(key)

    def moved(self, symbol: str) -> None:
        """The live klines of `symbol` moved: forget the pages that show one. Costs next to nothing when there is none.

        It is told of every frame, and once for all intervals: all are made of the same minute.
        """
        self._moves[symbol] = self._moves.get(symbol, 0) + 1
        for key in tuple(self._entries.live_of_symbol.get(symbol, ())):
            self._entries.remove(key)

    def clear(self) -> None:
        """Forget every page, and those that are being made."""
        self._clears += 1
        self._entries.clear()

    def hit(self, key: Key, asked: Asked, now_ms: int) -> Hit | None:
        """What is sent without asking anybody, or None when no valid page is here; a miss is counted by who renders."""
        entries = self._entries
        entry = entries.by_key.get(key)
        if entry is None:
            return None
        if not entry.is_true(now_ms):
            entries.remove(key)
            return None
        if now_ms >= self.true_until_ms:
            return None
        entries.by_key.move_to_end(key)
        page, size = entry.page, entry.page.size
        status, variant = page.chosen(asked)
        if page.size != size:  # its gzip variant was made
            entries.weigh(entry)
            if entry.cost > self._page_bytes_max:
                entries.remove(key)
        self.hits += 1
        self.not_modified += status == NOT_MODIFIED
        return Hit(status, variant, self.max_age_s(entry.answer, now_ms))

    def reply(self, scope: Scope) -> Reply | None:
        """The same as ASGI messages, for a GET or HEAD."""
        hit = self.hit((scope["path"], scope["query_string"]), asked_by(scope["headers"]), self._clock.now_ms())
        if hit is None:
            self.misses += 1
            return None
        return reply_of(hit, is_head=scope["method"] == "HEAD")
