"""The changes that this process has seen in the journal, by which it judges what other processes have read.

A process that reads rows of the store states the number of the newest change it had seen before (`stamp`): the rows are
as of that change, or later. Whoever gets these rows has seen changes too. They are as good as his own if he knows all
changes since that number, and none of them touches the rows (`is_unchanged`). Example: rows of 10:00 to 12:00 were read
as of change 700. A process that has seen changes 650 to 720 uses them if no change from 701 on touches 10:00 to 12:00.
A process that has seen changes from 710 on does not know, and reads the store; one that has seen 690 as its last might
not know what 700 was about, and does so too.

This relies on what page caches rely on as well: a read that begins after a look at the journal sees all that the look
has seen.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.holding.follow import POLL_S, TRUST_MS
from app.ports.clock import Clock
from app.ports.coordination import ChangeFeed, Changes
from app.ports.errors import StoreUnavailable

CHANGES_MAX: Final = 4
"""Changes remembered of a series. The two oldest become one that touches all between them, and counts as the later."""
OWN_MS: Final = 2_000
"""For how long what this process changed itself counts as changed by a later number than any that was seen: the
journal has it once it is committed, and is read within TRUST_MS after that."""


class _Seen(NamedTuple):
    number: int
    span: Span


class _Own(NamedTuple):
    span: Span
    until_ms: int


class SeenChanges:
    """What was read of the journal since the process began to, without a gap."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first = 0
        self._last: int | None = None
        self._looked_ms: int | None = None
        self._of_series: dict[Series, list[_Seen]] = {}
        self._own: dict[Series, _Own] = {}

    @property
    def last(self) -> int | None:
        """The number of the newest change seen; None before the first look."""
        return self._last

    def saw(self, after: int | None, changes: Changes, looked_ms: int) -> None:
        """Take what a look at `looked_ms` has read after the change `after`; after a gap, begin again with it."""
        if after is None or after != self._last or not changes.is_whole:
            self._of_series.clear()
            self._first = changes.last
        else:
            for series, change in changes.series.items():
                self._add(series, _Seen(changes.last, change.span))
        self._last, self._looked_ms = changes.last, looked_ms
        for series in [series for series, own in self._own.items() if own.until_ms < looked_ms]:
            del self._own[series]

    def changed(self, series: Series, span: Span) -> None:
        """This process itself has changed rows of `span`, or is about to: the journal does not show it yet."""
        own = self._own.get(series)
        if own is not None:
            span = _hull(own.span, span)
        self._own[series] = _Own(span, self._clock.now_ms() + OWN_MS)

    def stamp(self) -> int | None:
        """The change as of which the store is read from now on; None if the last look is too long ago."""
        return self._last if is_fresh(self._looked_ms, self._clock.now_ms(), TRUST_MS) else None

    def is_unchanged(self, series: Series, span: Span, since: int) -> bool:
        """Whether rows of `span`, read as of the change `since`, are as good as read now; False if it is not known."""
        last = self.stamp()
        if last is None or not self._first <= since <= last:
            return False
        if (own := self._own.get(series)) is not None and own.span.clip(span):
            return False
        return not any(seen.number > since and seen.span.clip(span) for seen in self._of_series.get(series, ()))

    def _add(self, series: Series, seen: _Seen) -> None:
        known = self._of_series.setdefault(series, [])
        known.append(seen)
        if len(known) > CHANGES_MAX:
            oldest, second = known[:2]
            known[:2] = [_Seen(second.number, _hull(oldest.span, second.span))]


class OwnJournal:
    """Reads the journal in the process that writes it, for its SeenChanges: followers read it anyway."""

    def __init__(self, clock: Clock, feed: ChangeFeed, seen: SeenChanges, is_writer: Callable[[], bool]) -> None:
        self._clock = clock
        self._feed = feed
        self._seen = seen
        self._is_writer = is_writer

    async def run(self) -> None:
        """Look every POLL_S seconds while this process writes, for ever."""
        while True:
            if self._is_writer():
                await self.look()
            await self._clock.sleep(POLL_S)

    async def look(self) -> None:
        """Look once; if the store cannot be read, nothing is known from TRUST_MS after the last look on."""
        now_ms, after = self._clock.now_ms(), self._seen.last
        try:
            changes = await self._feed.changes(after)
        except StoreUnavailable:
            return
        self._seen.saw(after, changes, now_ms)


def _hull(one: Span, other: Span) -> Span:
    return Span(min(one.start_ms, other.start_ms), max(one.end_ms, other.end_ms))
