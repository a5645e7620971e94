"""Gathering: rows that the exchange grants by a bucket of requests, fetched in turn, the series furthest behind first.

The exchange grants fewer requests in five minutes than there are series that get a row in that time. So each request
fetches all rows that a page holds. The series whose newest row is oldest is first, and one that clients have asked for
counts as if it were ASKED_FACTOR times as far behind. While rows are missing further back, one of HISTORY_TURN requests
fetches them, newest first. A row that the exchange lacks is asked for again after half an hour, three hours and a day;
if it still lacks then, it is recorded absent. An exchange that has lost its history for some hours looks the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from app.domain.backoff import spread_s
from app.domain.columns import Columns
from app.domain.interval import HOUR_MS, MINUTE_MS
from app.domain.kind import Bucket
from app.domain.kline import BadKline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.holding.commit import Committer
from app.holding.gaps import survey
from app.holding.inventory import Inventory
from app.holding.wish import REACH_MARGIN_MS
from app.ports.errors import BucketFull, StandDown, StoreUnavailable, UpstreamAway, UpstreamError
from app.ports.exchange import Priority, RestApi
from app.runtime import Runtime

HISTORY_TURN: Final = 4
ASKED_FACTOR: Final = 4
ASKED_MS: Final = 15 * MINUTE_MS  # how long a client's question about a series counts
ASKED_MAX: Final = 4_096
NEW_ROW_RETRY_MS: Final = MINUTE_MS  # a series whose due row is late is asked for again after this long, then twice it
RETRY_S_MIN: Final = 5.0
RETRY_S_MAX: Final = 15 * 60.0
NOT_BEFORE_MS_MAX: Final = 40 * MINUTE_MS  # the longest time for which a series is not asked for
ABSENT_AGE_MS: Final = 10 * MINUTE_MS  # a younger row may be late
RECHECKS_MS: Final = (30 * MINUTE_MS, 3 * HOUR_MS, 24 * HOUR_MS)
"""When a row that was first seen to lack is asked for again; if it lacks after the last, it is absent."""
IDLE_S: Final = 1.0
ROUND_MAX: Final = 50  # requests until all series are surveyed again: about a quarter of a minute's
SURVEY_SLICE: Final = 200  # series surveyed without a pause


@dataclass(frozen=True, slots=True)
class _Suspect:
    """Rows that the exchange lacked: since when (ms), and how often they were asked for again."""

    since_ms: int
    rechecks: int = 0

    def waits(self, now_ms: int) -> bool:
        """Whether it is too early to ask again."""
        return 0 <= now_ms - self.since_ms < RECHECKS_MS[self.rechecks]

    def lacked_again(self, now_ms: int) -> "_Suspect | None":
        """What is known after the exchange lacked them once more; None when they are absent."""
        if not now_ms - self.since_ms >= 0:
            return _Suspect(now_ms)  # the clock was set back
        done = sum(now_ms - self.since_ms >= recheck_ms for recheck_ms in RECHECKS_MS)
        return None if done == len(RECHECKS_MS) else _Suspect(self.since_ms, done)


@dataclass(slots=True)
class _State:
    """What was seen of one series."""

    failures: int = 0
    not_before_ms: int = 0
    asked_ms: int = 0
    """When a client last asked for it."""
    suspects: dict[Span, _Suspect] = field(default_factory=dict)
    """By span: what the exchange has lacked."""

    def waits(self, now_ms: int) -> bool:
        """Whether it is too early to ask; a longer time than is ever set means that the clock was set back."""
        return 0 < self.not_before_ms - now_ms <= NOT_BEFORE_MS_MAX


@dataclass(frozen=True, slots=True)
class _Lack:
    """What one series lacks: the span of its newest rows, and spans further back."""

    series: Series
    newest: Span
    behind_ms: int
    history: Spans


class Gathering:
    """Fetches rows of gathered kinds (`Kind.is_gathered`), for ever. Only the process that writes has one."""

    def __init__(self, runtime: Runtime, rest: RestApi, committer: Committer, inventory: Inventory) -> None:
        self._clock = runtime.clock
        self._rng = runtime.rng("gathering")
        self._rest = rest
        self._committer = committer
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._states: dict[Series, _State] = {}
        self._turn = 0
        self.last_error: str | None = None

    def asked(self, series: Series) -> None:
        """A client has asked for rows of `series`: fetch its newest rows more often for a while."""
        if series in self._states or len(self._states) < ASKED_MAX:
            self._state(series).asked_ms = self._clock.now_ms()

    async def run(self, bucket: Bucket) -> None:
        """Fetch the rows of all series in `bucket`, for ever."""
        while True:
            lacks = await self._survey(bucket)
            if not lacks:
                await self._clock.sleep(IDLE_S)
            for lack, span, priority in islice(self._chosen(lacks), ROUND_MAX):
                if not await self._attempt(lack.series, span, priority):
                    break  # nothing can be asked for the moment: what is furthest behind may be another one then

    # --- what is next -----------------------------------------------------------------------------------------------

    async def _survey(self, bucket: Bucket) -> list[_Lack]:
        """Every series of `bucket` that lacks rows and may be asked for."""
        wish, now_ms = self._wish(), self._clock.now_ms()
        series = [each for each in wish.series() if each.kind.is_gathered and each.kind.rest.bucket is bucket]
        for gone in self._states.keys() - set(series):
            del self._states[gone]
        found = []
        for number, each in enumerate(series, start=1):
            if not self._state(each).waits(now_ms):
                missing = survey(wish, self._holdings, each, now_ms).missing.clip(self._reach(each, now_ms))
                if missing and (missing := missing - self._suspected(each, now_ms)):
                    found.append(self._lack(each, missing, now_ms))
            if number % SURVEY_SLICE == 0:
                await self._clock.sleep(0)
        return found

    def _reach(self, series: Series, now_ms: int) -> Span:
        """The open times of which the exchange still has rows."""
        reach_ms = series.kind.rest.reach_ms
        begin_ms = 0 if reach_ms is None else self._holdings.grid(series).ceil(now_ms - reach_ms + REACH_MARGIN_MS)
        return Span(begin_ms, now_ms)

    def _suspected(self, series: Series, now_ms: int) -> Spans:
        """What the exchange lacked lately."""
        return Spans(span for span, suspect in self._state(series).suspects.items() if suspect.waits(now_ms))

    def _lack(self, series: Series, missing: Spans, now_ms: int) -> _Lack:
        grid, held = self._holdings.grid(series), self._holdings.ledger(series).held
        last = next(reversed(missing))
        held_end_ms = next(reversed(held)).end_ms if held else 0
        if last.end_ms <= held_end_ms:
            return _Lack(series, Span(0, 0), 0, missing)
        start_ms = max(last.start_ms, grid.shift(last.end_ms, -series.kind.rest.rows_max))
        newest = Span(start_ms, last.end_ms)
        return _Lack(series, newest, now_ms - held_end_ms, missing - Spans([newest]))

    def _chosen(self, lacks: list[_Lack]) -> Iterator[tuple[_Lack, Span, Priority]]:
        """The requests of one round: each series' newest rows once, with older rows of some in between."""
        now_ms = self._clock.now_ms()
        newest = sorted((lack for lack in lacks if lack.newest), key=lambda lack: -self._urgency(lack, now_ms))
        history = sorted((lack for lack in lacks if lack.history), key=lambda lack: -lack.history.hull.end_ms)
        older = iter(history)
        for lack in newest:
            self._turn += 1
            if self._turn % HISTORY_TURN == 0 and (one := next(older, None)) is not None:
                yield one, self._page(one), Priority.TAIL
            yield lack, lack.newest, Priority.TAIL
        if not newest:
            for lack in older:
                yield lack, self._page(lack), Priority.BACKFILL

    def _urgency(self, lack: _Lack, now_ms: int) -> int:
        asked_ms = self._state(lack.series).asked_ms
        return lack.behind_ms * (ASKED_FACTOR if 0 <= now_ms - asked_ms < ASKED_MS else 1)

    def _page(self, lack: _Lack) -> Span:
        last = next(reversed(lack.history))
        grid = self._holdings.grid(lack.series)
        return Span(max(last.start_ms, grid.shift(last.end_ms, -lack.series.kind.rest.rows_max)), last.end_ms)

    # --- doing it -----------------------------------------------------------------------------------------------

    async def _attempt(self, series: Series, span: Span, priority: Priority) -> bool:
        """Fetch the rows of `span`; returns whether the next request may follow at once."""
        state = self._state(series)
        try:
            await self._fetch(series, span, priority)
        except (BucketFull, StandDown, UpstreamAway) as error:
            self.last_error = str(error)
            await self._clock.sleep(max(IDLE_S, (error.until_ms - self._clock.now_ms()) / 1000))
            return False
        except StoreUnavailable as error:
            self.last_error = str(error)
            await self._clock.sleep(RETRY_S_MIN)
            return False
        except (UpstreamError, BadKline) as error:
            self.last_error = str(error)
            state.failures += 1
            delay_s = spread_s(self._rng, state.failures, RETRY_S_MIN, RETRY_S_MAX)
            state.not_before_ms = self._clock.now_ms() + int(delay_s * 1000)
        return True

    async def _fetch(self, series: Series, span: Span, priority: Priority) -> None:
        grid, state = self._holdings.grid(series), self._state(series)
        rows = Columns.of(await self._rest.klines(series, grid, span, grid.count(*span), priority))
        given = rows.spans(grid)
        await self._committer.commit([Batch(series, Source.REST, given, rows)] if rows else [])
        now_ms = self._clock.now_ms()
        lacking = Spans([span]) - given
        if not lacking:
            state.failures, state.not_before_ms = 0, 0
            return
        await self._judge(series, lacking, now_ms)
        if not given:
            state.failures += 1
        pause_ms = NEW_ROW_RETRY_MS * 2 ** min(state.failures, 5)
        state.not_before_ms = now_ms + int(pause_ms * self._rng.uniform(1.0, 1.2))

    async def _judge(self, series: Series, lacking: Spans, now_ms: int) -> None:
        """Record as absent what has lacked through all rechecks, and what lies before the listing."""
        state, grid = self._state(series), self._holdings.grid(series)
        listing = self._wish().listings.get(series.symbol)
        listed_ms = 0 if listing is None else grid.floor(listing.onboard_ms)
        proven = list(lacking.clip(Span(0, listed_ms)))
        old = lacking.clip(Span(listed_ms, grid.floor(now_ms - ABSENT_AGE_MS)))
        seen: dict[Span, _Suspect] = {}
        for span in old:
            before = [suspect for known, suspect in state.suspects.items() if known.clip(span) == span]
            suspect = min(before, key=lambda each: each.since_ms).lacked_again(now_ms) if before else _Suspect(now_ms)
            if suspect is None:
                proven.append(span)
            else:
                seen[span] = suspect
        open_ = self._reach(series, now_ms)
        known = self._holdings.ledger(series).known
        kept = {
            span: suspect
            for span, suspect in state.suspects.items()
            if span.clip(open_) and not known.covers(span) and not any(span.clip(each) for each in old)
        }
        state.suspects = kept | seen
        if proven:
            await self._committer.commit([Batch(series, Source.ABSENT, Spans(proven), [])])

    def _state(self, series: Series) -> _State:
        return self._states.setdefault(series, _State())
