"""The cache of rendered klines answers (pages), bounded in bytes; a change of a shown kline invalidates its pages."""

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

PAGE_OVERHEAD_BYTES: Final = 2560  # measured without the bodies: 1.6 kB a page, 2.2 kB once it has a gzip variant
KEEPING_ERROR_MS: Final = 1_100
"""How much longer than its max-age another cache may serve a page: nginx counts whole seconds, including the first and
the last; 0.1 s are for the way to it."""
PAGE_SHARE_MAX: Final = 8  # one page may take an eighth of the cache; the largest answer is 0.3 MB
ASKED_BYTES_MAX: Final = 2 * 1024 * 1024  # for requests seen once whose page is not cached: 4,000 usual ones

Key = tuple[str, bytes]  # path and raw query string


class SeriesVersion(NamedTuple):
    """How often a series has changed, and how often a frame has changed a kline in progress of its name."""

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
        """Whether the page is still valid at `now_ms`."""
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
    """An LRU of pages, bounded in bytes, with an index of the keys of each series."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.by_key: OrderedDict[Key, _Entry] = OrderedDict()
        """The least recently used page comes first."""
        self.bytes = 0
        self.of_series: dict[Series, dict[Key, _Entry]] = {}
        self.live_of_name: dict[str, dict[Key, _Entry]] = {}
        """The pages with a kline in progress, by the name of their series, which all its intervals share."""
        self.evictions = 0

    def drop_expired(self, now_ms: int) -> None:
        """Drop the expired pages from the least recently used one up to the first that is valid.

        Whatever page was last used longer ago than pages are valid is dropped.
        """
        while self.by_key and not (oldest := next(iter(self.by_key.items())))[1].is_true(now_ms):
            self.remove(oldest[0])

    def put(self, key: Key, entry: _Entry) -> None:
        """Add a page and evict the least recently used ones above the bound."""
        series = entry.answer.series
        self.by_key[key] = entry
        self.bytes += entry.cost
        _file(self.of_series, series, key, entry)
        if entry.answer.is_live:
            _file(self.live_of_name, series.name, key, entry)
        self._make_room()

    def remove(self, key: Key) -> None:
        """Drop a page, if it is cached."""
        entry = self.by_key.pop(key, None)
        if entry is None:
            return
        self.bytes -= entry.cost
        series = entry.answer.series
        _take_out(self.of_series, series, key)
        if entry.answer.is_live:
            _take_out(self.live_of_name, series.name, key)

    def weigh(self, entry: _Entry) -> None:
        """Account for the growth of a page whose gzip variant was made."""
        self.bytes -= entry.cost
        entry.weigh()
        self.bytes += entry.cost
        self._make_room()

    def clear(self) -> None:
        """Drop every page."""
        self.by_key.clear()
        self.of_series.clear()
        self.live_of_name.clear()
        self.bytes = 0

    def _make_room(self) -> None:
        while self.bytes > self._bytes_max:
            self.evictions += 1
            self.remove(next(iter(self.by_key)))


class PageCache:
    """Pages by path and raw query string.

    To add a page, take the `version` before the answer is computed and pass it to `put`. If the series changed in
    between, the answer may be outdated and `put` does not keep it.
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
        """When pages stop being served unless the follower postpones it: without its drops they may be outdated."""
        self.hits = 0
        self.misses = 0
        self.not_modified = 0

    @property
    def bytes(self) -> int:
        """The bytes that the pages take, with headers, keys and index."""
        return self._entries.bytes

    @property
    def entries(self) -> int:
        """How many pages are cached."""
        return len(self._entries.by_key)

    @property
    def evictions(self) -> int:
        """How many pages were evicted for newer ones."""
        return self._entries.evictions

    def version(self, series: Series) -> SeriesVersion:
        """The version of `series` now; take it before an answer about it is computed."""
        return SeriesVersion(self._changes.get(series, 0) + self._clears, self._moves.get(series.name, 0))

    def max_age_s(self, answer: Answer, now_ms: int) -> int:
        """For how long others may cache `answer`: until its newest kline is outdated, 0 with a kline in progress."""
        if answer.is_live:
            return 0
        return max(0, min(self._ttl_s, (answer.valid_until_ms - now_ms - KEEPING_ERROR_MS) // 1000))

    def is_asked_again(self, key: Key, now_ms: int) -> bool:
        """Whether the same page was requested within the last `ttl_s`; otherwise record this request.

        Only then is a page from memory cached: caching it costs as much as making it, and takes the room of others.
        """
        asked_ms = self._asked.get(key)
        if asked_ms is not None and now_ms - asked_ms < self._ttl_s * 1000:
            return True
        self._asked.add(key, now_ms, key[1])
        return False

    def put(self, key: Key, page: Page, answer: Answer, version: SeriesVersion) -> None:
        """Cache the page of `answer`, unless its series changed since `version`, it is outdated or it is too large."""
        now_ms = self._clock.now_ms()
        changes, moves = self.version(answer.series)
        is_stale = changes != version.changes or (answer.is_live and moves != version.moves)
        entry = _Entry(page, answer, len(key[1]), now_ms, min(now_ms + self._ttl_s * 1000, answer.valid_until_ms))
        self._entries.remove(key)
        if not is_stale and entry.is_true(now_ms) and entry.cost <= self._page_bytes_max:
            self._entries.put(key, entry)

    def drop(self, series: Series, span: Span) -> None:
        """Invalidate the pages of `series` that touch `span`, in which klines have changed."""
        self._changes[series] = self._changes.get(series, 0) + 1
        now_ms = self._clock.now_ms()
        self._entries.drop_expired(now_ms)  # here, because klines close whether somebody asks or not
        gone = [
            key
            for key, entry in self._entries.of_series.get(series, {}).items()
            if entry.answer.touches.clip(span) or not entry.is_true(now_ms)
        ]
        for key in gone:
            self._entries.remove(key)

    def moved(self, name: str) -> None:
        """Invalidate the pages that show a kline in progress of the series called `name`: a frame has changed it.

        Called for each frame, once for all intervals, since all are made of the same minute. Costs next to nothing
        when there is no such page.
        """
        self._moves[name] = self._moves.get(name, 0) + 1
        if pages := self._entries.live_of_name.get(name):
            for key in tuple(pages):
                self._entries.remove(key)

    def clear(self) -> None:
        """Drop every page, and keep none whose answer is being computed now."""
        self._clears += 1
        self._entries.clear()

    def hit(self, key: Key, asked: Asked, now_ms: int) -> Hit | None:
        """The answer from a valid cached page, or None; the caller that renders the page counts the miss."""
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
        """The ASGI messages for a GET or HEAD from a valid cached page; None, counted as a miss, without one."""
        hit = self.hit((scope["path"], scope["query_string"]), asked_by(scope["headers"]), self._clock.now_ms())
        if hit is None:
            self.misses += 1
            return None
        return reply_of(hit, is_head=scope["method"] == "HEAD")
