"""Following: a process that does not write keeps its tails, ledgers and pages equal to the writer's."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from app.domain.interval import MINUTE_MS
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock
from app.ports.coordination import Change, ChangeFeed, Changes
from app.ports.errors import StoreUnavailable
from app.ports.store import EVERYTHING, StoreReader

POLL_S: Final = 0.1  # the writer's commits are seen after at most this long; a look costs 0.2 ms when nothing changed
CLOSING_POLL_S: Final = 0.03  # the same while klines close: in the first CLOSE_GRACE_MS of each minute
TRUST_MS: Final = 1_000  # copies are valid for this long after the last look; after that, readers ask the store


class Listener(Protocol):
    """The owner of the copies that a ChangeFollower keeps up to date."""

    def drop(self, series: Series, span: Span) -> None:
        """Invalidate everything derived from klines that open in `span`: they may have changed."""
        ...

    async def reload(self) -> None:
        """Load everything again: the feed no longer has all changes since the last look. Raises StoreUnavailable."""
        ...

    def looked(self, until_ms: int) -> None:
        """The copies equal the store and are valid until `until_ms`."""
        ...

    def closed(self, end_ms: int) -> None:
        """The newest klines that the writer committed end at `end_ms`."""
        ...


Saw = Callable[[int | None, Changes, int], None]
"""Called with each look at the journal: the change number that it was read from, what it found, and when (ms)."""


def _nobody_saw(after: int | None, changes: Changes, looked_ms: int) -> None:
    """The default of `saw`: remembers nothing."""


class ChangeFollower:
    """Reads the change feed and updates the copies of this process.

    The copies show the store as of the last look. They may be used for `TRUST_MS` after it, even if no later look
    succeeds.
    """

    def __init__(
        self,
        clock: Clock,
        feed: ChangeFeed,
        store: StoreReader,
        holdings: LedgerCache,
        tail: Tail,
        listener: Listener,
        saw: Saw = _nobody_saw,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._store = store
        self._holdings = holdings
        self._tail = tail
        self._listener = listener
        self._saw = saw
        self._last: int | None = None
        self.looked_ms: int | None = None
        """When the change feed was last read; None when the copies may differ from the store."""
        self.change_seen: int | None = None
        """A change number that covers everything in the copies; None when there is none."""

    def is_current(self) -> bool:
        """Whether the copies may be used."""
        return is_fresh(self.looked_ms, self._clock.now_ms(), TRUST_MS)

    def forget(self) -> None:
        """Let the next look reload everything: the store that was followed may have been replaced."""
        self._last = self.looked_ms = self.change_seen = None

    async def run(self) -> None:
        """Look every `POLL_S` seconds, more often while klines close, or when the store tells of a commit; forever."""
        while True:
            await self.try_to_look()
            is_closing = self._clock.now_ms() % MINUTE_MS < CLOSE_GRACE_MS
            await self._feed.wait(self._clock, CLOSING_POLL_S if is_closing else POLL_S)

    async def try_to_look(self) -> None:
        """Look once; when the look fails, the next one reloads everything."""
        try:
            await self.look()
        except StoreUnavailable:  # reads report it themselves; the database may not exist yet
            self.forget()
        except Exception:
            self.forget()
            raise

    async def look(self) -> None:
        """Apply what was committed since the last look. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        changes = await self._feed.changes(self._last)
        self.change_seen = changes.last  # the rows of these changes are read below
        self._saw(self._last, changes, now_ms)
        if not changes.is_whole:
            self.looked_ms = self.change_seen = None  # what is loaded may be newer: the next look tells
            await self._listener.reload()  # later commits are in the journal after `changes.last`
        elif changes.series:
            await self._take(changes.series)
        self._last, self.looked_ms = changes.last, now_ms
        self._listener.looked(now_ms + TRUST_MS)

    async def _take(self, changed: Mapping[Series, Change]) -> None:
        if any(change.span.end_ms == EVERYTHING.end_ms for change in changed.values()):
            self._holdings.set_listings((await self._store.listings()).values())
            self._holdings.load_wishes(await self._store.anchors(), await self._store.extra_wishes())
        wanted = {series: span for series, change in changed.items() if (span := self._wanted(series, change))}
        rows = await self._store.read_spans(wanted) if wanted else {}
        for series, change in changed.items():
            span = self._wanted(series, change)
            if change.ledger.entries or series in self._holdings.all():
                self._holdings.set_ledger(series, change.ledger)
            self._listener.drop(series, change.span)
            if not span:
                continue
            grid, found = self._holdings.grid(series), rows.get(series, [])
            is_whole = len(found) == grid.count(*span) and change.ledger.held.covers(span)
            if is_whole and span == wanted.get(series):  # otherwise the tail was extended backwards during the read
                for kline in found:
                    self._tail.append(series, grid, kline)
            else:
                self._tail.lose(series)
        self._listener.closed(max(min(change.span.end_ms, change.ledger.end_ms) for change in changed.values()))

    def _wanted(self, series: Series, change: Change) -> Span:
        """The klines to read for a series' tail after a change; empty when the change does not affect the tail."""
        if change.span.end_ms == EVERYTHING.end_ms:
            self._tail.lose(series)
            return _NOTHING
        if series.kind.is_gathered or not self._holdings.is_anchored(series):
            return _NOTHING  # series of gathered kinds have no tails
        grid = self._holdings.grid(series)
        tail = self._tail.kept(series)
        end_ms = grid.ceil(change.span.end_ms)
        if tail is None or not tail.rows:
            return _NOTHING if end_ms < change.ledger.end_ms else Span(grid.shift(end_ms, -1), end_ms)
        start_ms = grid.ceil(max(change.span.start_ms, tail.start_ms))
        if grid.count(start_ms, end_ms) > self._tail.rows_max(series.interval):
            self._tail.lose(series)  # more rows changed than the tail keeps: the next request seeds it again
            return _NOTHING
        return Span(start_ms, end_ms) if start_ms < end_ms else _NOTHING


_NOTHING: Final = Span(0, 0)
