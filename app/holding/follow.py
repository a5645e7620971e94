"""Following: how the tails, ledgers and pages of a process that does not write stay those of the one that does."""

from collections.abc import Mapping
from typing import Final, Protocol

from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.ledger_cache import LedgerCache
from app.holding.tail import Tail
from app.ports.clock import Clock
from app.ports.coordination import Change, ChangeFeed
from app.ports.errors import StoreUnavailable
from app.ports.store import EVERYTHING, StoreReader

POLL_S: Final = 0.1  # what the writer commits is seen after this long; a look costs 0.2 ms when nothing happened
TRUST_MS: Final = 1_000  # copies are good for this long after the last look; then the store itself is asked


class Listener(Protocol):
    """Who owns the copies that a change feed keeps up to date."""

    def drop(self, series: Series, span: Span) -> None:
        """Forget what was made of klines that open in `span`: they may have changed."""
        ...

    async def reload(self) -> None:
        """Load everything again: the feed does not reach back to what was last seen. Raises StoreUnavailable."""
        ...

    def looked(self, until_ms: int) -> None:
        """The copies are those of the store, and good until `until_ms`."""
        ...

    def closed(self, end_ms: int) -> None:
        """The newest klines that the writer has committed end at `end_ms`."""
        ...


class ChangeFollower:
    """Looks into the change feed and brings what this process keeps up to date.

    Copies hold as of the last look: they may be used for `TRUST_MS` after it, whatever keeps the next one from coming.
    """

    def __init__(
        self,
        clock: Clock,
        feed: ChangeFeed,
        store: StoreReader,
        holdings: LedgerCache,
        tail: Tail,
        listener: Listener,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._store = store
        self._holdings = holdings
        self._tail = tail
        self._listener = listener
        self._last: int | None = None
        self.looked_ms: int | None = None
        """When the store was last looked into; None when the copies are not of what it holds."""

    def is_current(self) -> bool:
        """Whether the copies may be used."""
        return is_fresh(self.looked_ms, self._clock.now_ms(), TRUST_MS)

    def forget(self) -> None:
        """Begin anew with the next look: what was followed is no longer what is there."""
        self._last = self.looked_ms = None

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await self.try_to_look()
            await self._clock.sleep(POLL_S)

    async def try_to_look(self) -> None:
        """Look, and begin anew with the next look when this one fails."""
        try:
            await self.look()
        except StoreUnavailable:  # reads say so themselves; there may be no database yet
            self.forget()
        except Exception:
            self.forget()
            raise

    async def look(self) -> None:
        """Take over what was committed since the last time. Raises StoreUnavailable."""
        now_ms = self._clock.now_ms()
        changes = await self._feed.changes(self._last)
        if not changes.is_whole:
            self.looked_ms = None
            await self._listener.reload()  # what is committed from here on is in the journal after `changes.last`
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
            if is_whole and span == wanted.get(series):  # else the tail has grown backwards meanwhile
                for kline in found:
                    self._tail.append(series, grid, kline)
            else:
                self._tail.lose(series)
        self._listener.closed(max(min(change.span.end_ms, change.ledger.end_ms) for change in changed.values()))

    def _wanted(self, series: Series, change: Change) -> Span:
        """The klines to read for the tail of a series after a change: empty when the change does not concern it."""
        if change.span.end_ms == EVERYTHING.end_ms:
            self._tail.lose(series)
            return _NOTHING
        if not self._holdings.is_anchored(series):
            return _NOTHING
        grid = self._holdings.grid(series)
        tail = self._tail.kept(series)
        end_ms = grid.ceil(change.span.end_ms)
        if tail is None or not tail.rows:
            return _NOTHING if end_ms < change.ledger.end_ms else Span(grid.shift(end_ms, -1), end_ms)
        start_ms = grid.ceil(max(change.span.start_ms, tail.start_ms))
        if grid.count(start_ms, end_ms) > self._tail.rows_max(series.interval):
            self._tail.lose(series)  # more than it keeps has changed: the next one who asks brings it back
            return _NOTHING
        return Span(start_ms, end_ms) if start_ms < end_ms else _NOTHING


_NOTHING: Final = Span(0, 0)
