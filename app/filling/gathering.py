"""Gathering: rows that the exchange grants by a bucket of requests, fetched in turn, the series furthest behind first.

The exchange grants fewer requests in five minutes than there are series that get a row in that time. So each request
fetches all rows that a page holds. The series whose newest row is oldest is first, and one that clients have asked for
counts as if it were ASKED_FACTOR times as far behind. While rows are missing further back, one of HISTORY_TURN requests
fetches them, newest first, but none before every series has had its turn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from app.domain.backoff import ceiling_s, spread_s
from app.domain.columns import Columns
from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.kind import Bucket, Kind
from app.domain.kline import BadKline
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling.event_pages import EventPages
from app.filling.lacking import Lacking
from app.holding.commit import Committer
from app.holding.gaps import survey
from app.holding.inventory import Inventory
from app.holding.wish import REACH_MARGIN_MS, Wish
from app.kinds.registry import KINDS
from app.ports.errors import BucketFull, StandDown, StoreUnavailable, UpstreamAway, UpstreamError, UpstreamRejected
from app.ports.exchange import Priority, RowPages
from app.runtime import Runtime

HISTORY_TURN: Final = 4
ASKED_FACTOR: Final = 4
DUE_FACTOR: Final = 2  # of a sparse series of which an event is expected, and not only the news that there is none
ASKED_MS: Final = 15 * MINUTE_MS  # how long a client's question about a series counts
ASKED_MAX: Final = 4_096
LATE_RETRY_S: Final = 60.0  # a series whose due row is late is asked for again after this long, then twice it
LATE_RETRY_S_MAX: Final = 13.5 * 60
RETRY_S_MIN: Final = 5.0
RETRY_S_MAX: Final = 15 * 60.0
KIND_FAILURES: Final = 3  # failures in a row after which all series of a kind wait: its endpoint is down
ROUND_MAX: Final = 50  # requests until all series are surveyed again: about a quarter of a minute's
SURVEY_SLICE: Final = 100  # series surveyed without a pause
QUIET_MS_MAX: Final = MINUTE_MS  # how long it is not looked at again that a series has nothing to ask for
IDLE_S: Final = 10.0  # until the next survey when nothing can be asked for
STORE_RETRY_S: Final = 5.0
WAIT_S_MIN: Final = 1.0  # for the end of a stand-down, or room in the bucket


@dataclass(slots=True)
class _Pause:
    """Failures in a row, and until when (ms) nothing is asked because of them."""

    failures: int = 0
    until_ms: int = 0

    def waits(self, now_ms: int) -> bool:
        """Whether it is too early to ask; a longer time than is ever set means that the clock was set back."""
        return 0 < self.until_ms - now_ms <= RETRY_S_MAX * 1_000

    def clear(self) -> None:
        """Forget the failures."""
        self.failures = self.until_ms = 0


@dataclass(slots=True)
class _State:
    """What was seen of one series."""

    newest: _Pause = field(default_factory=_Pause)
    history: _Pause = field(default_factory=_Pause)
    asked_ms: int = 0
    """When a client last asked for it."""
    lacking: Lacking = field(default_factory=Lacking)
    quiet: tuple[Ledger, int, int] | None = None
    """A ledger with which there was nothing to ask for, and from when to when (ms) that need not be found out again."""

    def is_quiet(self, ledger: Ledger, now_ms: int) -> bool:
        """Whether it is known that there is nothing to ask for."""
        return self.quiet is not None and self.quiet[0] is ledger and self.quiet[1] <= now_ms < self.quiet[2]


@dataclass(frozen=True, slots=True)
class _Lack:
    """What one series lacks: the span to ask for its newest rows (empty: none is due), and spans further back."""

    series: Series
    newest: Span
    behind_ms: int
    history: Spans
    is_cold: bool
    """Whether no row of it is held."""


@dataclass(slots=True)
class _Turns:
    """Whose turn it is among the series whose requests are limited by the bucket `limit`."""

    limit: Bucket
    turn: int = 0
    share: _Pause = field(default_factory=_Pause)
    """Set while history has used its share of the bucket."""


class Gathering:
    """Fetches rows of gathered kinds (`Kind.is_gathered`), for ever. Only the process that writes has one."""

    def __init__(
        self, runtime: Runtime, rest: RowPages, committer: Committer, inventory: Inventory, *, is_data_shared: bool
    ) -> None:
        """`is_data_shared`: whether the exchange counts the requests of all endpoints of /futures/data together."""
        self._clock = runtime.clock
        self._rng = runtime.rng("gathering")
        self._rest = rest
        self._committer = committer
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._events = EventPages(runtime.clock, rest, committer, inventory)
        self._states: dict[Series, _State] = {}
        self._kinds: dict[Kind, _Pause] = {}
        self._is_data_shared = is_data_shared
        self.last_error: str | None = None

    def asked(self, series: Series) -> None:
        """A client has asked for rows of `series`: fetch its newest rows more often for a while."""
        if series in self._states or len(self._states) < ASKED_MAX:
            self._state(series).asked_ms = self._clock.now_ms()

    def limits(self) -> Sequence[Bucket]:
        """The buckets that limit requests for gathered rows; `run` is to be called once with each."""
        return sorted({limit for kind in KINDS.values() if (limit := self._limit(kind)) is not None})

    async def run(self, limit: Bucket) -> None:
        """Fetch the rows of all series whose requests are limited by the bucket `limit`, for ever."""
        turns = _Turns(limit)
        while True:
            has_asked = False
            for lack, span, priority in islice(self._chosen(turns, await self._survey(limit)), ROUND_MAX):
                if self._kind(lack.series).waits(self._clock.now_ms()):
                    continue  # its endpoint has failed since the survey
                has_asked = True
                if not await self._attempt(turns, lack.series, span, priority, is_newest=span == lack.newest):
                    break  # nothing can be asked for the moment: what is furthest behind may be another one then
            if not has_asked:
                await self._clock.sleep(IDLE_S)

    # --- what is next -----------------------------------------------------------------------------------------------

    def _limit(self, kind: Kind) -> Bucket | None:
        """The bucket that limits requests for rows of `kind`; None if it is not gathered."""
        bucket = kind.rest.bucket if kind.is_gathered else None
        return None if bucket is None else bucket.limit(is_data_shared=self._is_data_shared)

    async def _survey(self, limit: Bucket) -> list[_Lack]:
        """Every series that is limited by `limit`, lacks rows and may be asked for."""
        wish = self._wish()
        gathered = wish.gathered()
        gone = self._states.keys() - set(gathered)
        self._events.forget(gone)
        for each in gone:
            del self._states[each]
        series = [each for each in gathered if self._limit(each.kind) is limit]
        found = []
        for number, each in enumerate(series, start=1):
            if (lack := self._lack(wish, each)) is not None:
                found.append(lack)
            if number % SURVEY_SLICE == 0:
                await self._clock.sleep(0)
        return found

    def _lack(self, wish: Wish, series: Series) -> _Lack | None:
        now_ms, state = self._clock.now_ms(), self._state(series)
        if self._kind(series).waits(now_ms):
            return None
        ledger = self._holdings.ledger(series)
        if state.is_quiet(ledger, now_ms):
            return None
        reach = self._reach(series, now_ms)
        gap = survey(wish, self._holdings, series, now_ms)
        missing = gap.missing.clip(reach) - state.lacking.waiting(now_ms)
        held_end_ms = next(reversed(ledger.held)).end_ms if ledger.held else 0
        newest, behind_ms = Span(0, 0), 0
        if missing and missing.hull.end_ms > held_end_ms and not state.newest.waits(now_ms):
            newest, behind_ms = self._newest_page(wish, series, missing, reach), now_ms - held_end_ms
        history = Spans()
        if not state.history.waits(now_ms) and (ledger.held or not newest):
            older = missing - Spans([Span(held_end_ms, reach.end_ms)]) if held_end_ms else missing
            again = gap.wished & ledger.held if series.kind.is_sparse else ledger.absent.clip(reach)
            history = (older | state.lacking.to_recheck(again, now_ms)) - Spans([newest])
        if not newest and not history:
            next_ms = wish.next_due_ms(series, self._holdings.grid(series), now_ms)
            state.quiet = ledger, now_ms, min(next_ms, now_ms + QUIET_MS_MAX)
            return None
        return _Lack(series, newest, behind_ms, history, is_cold=not ledger.held)

    def _reach(self, series: Series, now_ms: int) -> Span:
        """The open times of which the exchange still has rows."""
        reach_ms = series.kind.rest.reach_ms
        begin_ms = 0 if reach_ms is None else self._holdings.grid(series).ceil(now_ms - reach_ms + REACH_MARGIN_MS)
        return Span(begin_ms, now_ms)

    def _newest_page(self, wish: Wish, series: Series, wanted: Spans, reach: Span) -> Span:
        """The span of one request for the newest of `wanted`; of a sparse kind, also for what is held before them."""
        if series.kind.is_sparse:
            return self._events.newest(wish, series, wanted.hull.end_ms)
        return self._page(series, wanted, reach)

    def _page(self, series: Series, wanted: Spans, reach: Span) -> Span:
        """The span of one request for the newest of `wanted`, and for all others that fit on its page."""
        if series.kind.is_sparse:
            return self._events.older(self._wish(), series, wanted)
        grid, end_ms = self._holdings.grid(series), wanted.hull.end_ms
        page = Span(max(reach.start_ms, grid.shift(end_ms, -series.kind.rest.rows_max)), end_ms)
        return wanted.clip(page).hull

    def _chosen(self, turns: _Turns, lacks: list[_Lack]) -> Iterator[tuple[_Lack, Span, Priority]]:
        """The requests of one round: each series' newest rows once, with older rows of some in between."""
        now_ms = self._clock.now_ms()
        newest = sorted((lack for lack in lacks if lack.newest), key=lambda lack: -self._urgency(lack, now_ms))
        history = sorted((lack for lack in lacks if lack.history), key=lambda lack: -lack.history.hull.end_ms)
        older = iter(() if any(lack.is_cold for lack in newest) else history)
        for lack in newest:
            turns.turn += 1
            if turns.turn % HISTORY_TURN == 0 and (one := next(older, None)) is not None:
                yield one, self._history_page(one), Priority.TAIL
            yield lack, lack.newest, Priority.TAIL
        if not newest and not turns.share.waits(now_ms):
            for lack in older:
                yield lack, self._history_page(lack), Priority.BACKFILL

    def _history_page(self, lack: _Lack) -> Span:
        return self._page(lack.series, lack.history, self._reach(lack.series, self._clock.now_ms()))

    def _urgency(self, lack: _Lack, now_ms: int) -> int:
        asked_ms = self._state(lack.series).asked_ms
        due = DUE_FACTOR if self._events.is_due(lack.series, lack.newest.end_ms) else 1
        return lack.behind_ms * due * (ASKED_FACTOR if 0 <= now_ms - asked_ms < ASKED_MS else 1)

    # --- doing it -----------------------------------------------------------------------------------------------

    async def _attempt(self, turns: _Turns, series: Series, span: Span, priority: Priority, *, is_newest: bool) -> bool:
        """Fetch the rows of `span`; returns whether the next request may follow at once."""
        state = self._state(series)
        pause = state.newest if is_newest else state.history
        try:
            if series.kind.is_sparse:
                is_whole = await self._fetch_events(series, span, priority, is_newest=is_newest)
            else:
                is_whole = await self._fetch(series, span, priority)
        except BucketFull as error:  # no failure: this is how the requests are shared out
            if priority is Priority.BACKFILL:
                turns.share.until_ms = error.until_ms  # newest rows may use what is left
            else:
                await self._wait(error.until_ms)
            return False
        except (StandDown, UpstreamAway) as error:
            self.last_error = str(error)
            await self._wait(error.until_ms)
            return False
        except StoreUnavailable as error:
            self.last_error = str(error)
            await self._clock.sleep(STORE_RETRY_S)
            return False
        except (UpstreamError, BadKline) as error:
            self.last_error = str(error)
            self._fail(pause)
            if not isinstance(error, UpstreamRejected):
                self._fail(self._kind(series), KIND_FAILURES)
            return True
        self._kind(series).clear()
        if is_whole:
            pause.clear()
        elif is_newest:
            self._late(pause)
        return True

    async def _wait(self, until_ms: int) -> None:
        await self._clock.sleep(max(WAIT_S_MIN, (until_ms - self._clock.now_ms()) / 1000))

    def _fail(self, pause: _Pause, beyond: int = 1) -> None:
        """Count a failure; from `beyond` in a row on, wait for a growing time."""
        pause.failures += 1
        if pause.failures >= beyond:
            delay_s = spread_s(self._rng, pause.failures - beyond + 1, RETRY_S_MIN, RETRY_S_MAX)
            pause.until_ms = self._clock.now_ms() + int(delay_s * 1000)

    def _late(self, pause: _Pause) -> None:
        """Wait for a row that is due and has not appeared, longer each time."""
        delay_s = ceiling_s(pause.failures, LATE_RETRY_S, LATE_RETRY_S_MAX)
        pause.failures += 1
        pause.until_ms = self._clock.now_ms() + int(delay_s * self._rng.uniform(1.0, 1.1) * 1000)

    async def _fetch_events(self, series: Series, span: Span, priority: Priority, *, is_newest: bool) -> bool:
        """Fetch the events of `span` and keep them; returns whether all of `span` is known now."""
        known = await self._events.fetch(series, span, priority, is_newest=is_newest)
        if known:
            self._state(series).lacking.note(Spans(), Spans([known]), known, self._clock.now_ms())
        return known == span

    async def _fetch(self, series: Series, span: Span, priority: Priority) -> bool:
        """Fetch the rows of `span` and keep those that are not held; returns whether its newest row was there."""
        grid, state = self._holdings.grid(series), self._state(series)
        rows = Columns.of(await self._rest.klines(series, grid, span, grid.count(*span), priority))
        given, now_ms = rows.spans(grid), self._clock.now_ms()
        batches = []
        if new := given - self._holdings.ledger(series).held:
            batches.append(Batch(series, Source.REST, new, rows.within(new)))
        listing, held = self._wish().listings.get(series.symbol), self._holdings.ledger(series).held | given
        listed_ms = 0 if listing is None else grid.floor(listing.onboard_ms)
        settled_ms = held.hull.end_ms if held else now_ms - HOUR_MS  # what comes after all others may still come
        lacking = (Spans([span]) - given).clip(Span(0, settled_ms))
        before = lacking.clip(Span(0, listed_ms))
        absent = before | state.lacking.note(lacking - before, given, Span(*span), now_ms)
        if absent := absent - self._holdings.ledger(series).known:
            batches.append(Batch(series, Source.ABSENT, absent, []))
        if batches:
            await self._committer.commit(batches)
        state.lacking.keep(self._reach(series, now_ms))
        return given.covers(Span(grid.shift(span.end_ms, -1), span.end_ms))

    def _state(self, series: Series) -> _State:
        return self._states.setdefault(series, _State())

    def _kind(self, series: Series) -> _Pause:
        return self._kinds.setdefault(series.kind, _Pause())
