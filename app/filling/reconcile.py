"""The reconciler: closes the gaps between wish and ledger, newest first, by the cheapest source, for ever."""

import asyncio
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from app.domain.backoff import ceiling_s, spread_s
from app.domain.interval import M1, MINUTE_MS
from app.domain.kline import BadKline
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.events import BackfillPaused, BackfillResumed, GapsCounted
from app.filling.absence import Unproven
from app.filling.fill import Filler
from app.filling.plan import Download, Fetch, Job, LearnAnchor, Planner, RollUp
from app.filling.room import Room
from app.holding.gaps import SeriesGap, survey
from app.holding.inventory import Inventory
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.errors import StandDown, StoreUnavailable, UpstreamAway, UpstreamError
from app.runtime import Runtime

RETRY_DELAY_S_MIN: Final = 2.0
RETRY_DELAY_S_MAX: Final = 15 * 60.0
STORE_RETRY_S_MIN: Final = 1.0
STORE_RETRY_S_MAX: Final = 30.0  # on a full disk each worker probes this often and fetches nothing else
TICK_S: Final = 1.0  # how often the clock is read; everything below waits for events
JITTER_MS_MAX: Final = 1_000  # spreads the nodes of one exchange over the second after a close
PLAN_SLICE: Final = 200  # series surveyed without a pause; between slices the event loop serves requests


@dataclass(slots=True)
class _Failure:
    window: Span
    count: int
    not_before_ms: int


_Place = tuple[int, int, int, Job]
"""A job with its sort key: its turn within its wish, the negated end of its window (newest first), a serial number."""


class _Pool:
    """The jobs of one kind (tail or history) as a heap, the next job first."""

    def __init__(self) -> None:
        self.heap: list[_Place] = []
        self.wake = asyncio.Event()


class Reconciler:
    """Plans every minute (and whenever something changed) and keeps `concurrency` jobs of each kind under way.

    The tail has its own workers, so that it never waits behind history that waits for weight.
    """

    def __init__(self, runtime: Runtime, filler: Filler, inventory: Inventory, room: Room, *, concurrency: int) -> None:
        self._clock = runtime.clock
        self._observe = runtime.observe
        self._filler = filler
        self._holdings = inventory.ledgers
        self._wish = inventory.wish
        self._concurrency = concurrency
        self._rng = runtime.rng("reconcile")
        self._room = room
        self._pools = {True: _Pool(), False: _Pool()}
        self._planning = asyncio.Lock()
        self._is_stale = True
        self._under_way: dict[Series, list[Span]] = {}
        self._failures: dict[tuple[Series, bool], list[_Failure]] = {}
        self._rest_blocked_until_ms = 0
        self._store_blocked_until_ms = 0
        self._store_failures = 0
        self.paused: str | None = None
        self.last_error: str | None = None
        self.missing_klines: int | None = None
        """Klines that the last plan found missing; None before the first one."""

    def is_idle(self) -> bool:
        """Whether no job is under way. A job may be under way although nothing is missing, when sockets were faster."""
        return not self._under_way

    def wake(self) -> None:
        """Plan again now: the wish changed, or held klines were lost."""
        self._is_stale = True
        for pool in self._pools.values():
            pool.wake.set()

    def store_recovered(self) -> None:
        """Resume at once: the database accepts writes again."""
        self._store_blocked_until_ms = self._store_failures = 0
        self.wake()

    async def run(self) -> None:
        """Close gaps for ever."""
        self._under_way.clear()
        async with asyncio.TaskGroup() as group:
            for is_tail in self._pools:
                for number in range(self._concurrency):
                    name = f"reconcile-{'tail' if is_tail else 'history'}-{number}"
                    group.create_task(self._work(is_tail=is_tail), name=name)
            group.create_task(self._tick(), name="reconcile-tick")

    async def _tick(self) -> None:
        """Plan after every minute's close, when its klines are due, and when a failed job may be tried again."""
        due_ms = before_ms = 0
        while True:
            now_ms = self._clock.now_ms()
            if now_ms < before_ms:  # the exchange reported that our clock was ahead: times recorded by it are wrong
                due_ms = self._store_blocked_until_ms = 0
                self._failures.clear()
            is_retry_due = any(before_ms < each.not_before_ms <= now_ms for each in self._all_failures())
            before_ms = now_ms
            blocks_ms = (self._rest_blocked_until_ms, self._store_blocked_until_ms)
            if now_ms >= due_ms or is_retry_due or any(0 < until_ms <= now_ms for until_ms in blocks_ms):
                if self._rest_blocked_until_ms <= now_ms:
                    self._rest_blocked_until_ms = 0
                if self._store_blocked_until_ms <= now_ms:
                    self._store_blocked_until_ms = 0
                minute_ms = M1.grid.floor(now_ms - CLOSE_GRACE_MS)
                due_ms = minute_ms + MINUTE_MS + CLOSE_GRACE_MS + int(self._rng.random() * JITTER_MS_MAX)
                self.wake()
            await self._clock.sleep(TICK_S)

    async def _work(self, *, is_tail: bool) -> None:
        pool = self._pools[is_tail]
        while True:
            job = await self._next(pool)
            if job is None:
                await pool.wake.wait()
                continue
            spans = self._under_way.setdefault(job.series, [])
            spans.append(job.window)
            try:
                await self._attempt(job)
            finally:
                spans.remove(job.window)
                if not spans:
                    self._under_way.pop(job.series, None)
            if not pool.heap:
                self.wake()

    # --- choosing -----------------------------------------------------------------------------------------------

    async def _next(self, pool: _Pool) -> Job | None:
        if self._is_stale:
            async with self._planning:
                if self._is_stale:
                    await self._plan()
        now_ms = self._clock.now_ms()
        while pool.heap:
            *_, job = heapq.heappop(pool.heap)
            if not job.is_tail:
                self._check_disk()  # the history fetched between two plans can exceed the free disk
                if self.paused is not None:
                    continue
            if self._is_needed(job) and self._may(job, now_ms):
                return job
        if not self._is_stale:  # someone may have woken us while another worker planned
            pool.wake.clear()
        return None

    def _is_needed(self, job: Job) -> bool:
        """Whether the job still has something to do: another job may have done it while the plan was made."""
        if isinstance(job, LearnAnchor):
            return not self._holdings.is_anchored(job.series)
        if isinstance(job, Download) and self._filler.is_spent(job.file):
            return False
        return bool(self._lacking(job))

    def _may(self, job: Job, now_ms: int) -> bool:
        if any(span.clip(job.window) for span in self._under_way.get(job.series, ())):
            return False
        return not self._is_deferred(job, now_ms)

    def _is_deferred(self, job: Job, now_ms: int) -> bool:
        if now_ms < self._store_blocked_until_ms:
            return True
        if isinstance(job, Fetch | LearnAnchor) and now_ms < self._rest_blocked_until_ms:
            return True
        return any(now_ms < failure.not_before_ms for failure in self._failures_of(job))

    async def _plan(self) -> None:
        self._is_stale = False
        now_ms = self._clock.now_ms()
        wish = self._wish()
        self._forget_the_past(now_ms)
        was_paused = self.paused is not None
        planner = Planner(
            wish,
            self._holdings,
            now_ms,
            self._filler.is_spent,
            lambda job: self._is_deferred(job, now_ms),
            is_history_paused=was_paused,
        )
        heap: list[_Place] = []
        history: dict[Span | None, list[Job]] = {}
        missing = spans = wished = number = 0
        for position, series in enumerate(wish.planned(), start=1):
            gap = survey(wish, self._holdings, series, now_ms)
            wished += sum(gap.grid.count(*span) for span in gap.wished)
            missing += sum(gap.grid.count(*span) for span in gap.missing)
            spans += len(gap.missing)
            for extra, part in _by_wish(gap, wish.extra.get(series)):
                for job in planner.jobs(part):
                    number += 1
                    if job.is_tail:
                        heap.append((0, -job.window.end_ms, number, job))
                    else:
                        history.setdefault(extra, []).append(job)
            if position % PLAN_SLICE == 0:
                await self._clock.sleep(0)
        self._room.plan(missing)  # the number of missing klines is known only now
        self._check_disk()
        if self.paused is not None:
            history.clear()
        for is_tail, jobs in ((True, heap), (False, _in_turn(history))):
            heapq.heapify(jobs)
            self._pools[is_tail].heap = jobs
            if jobs:
                self._pools[is_tail].wake.set()
        if was_paused is not (self.paused is not None):
            self.wake()  # whether tails wait for minutes of history has changed
        self.missing_klines = missing
        self._observe(GapsCounted(missing, spans, wished))

    def _forget_the_past(self, now_ms: int) -> None:
        """Drop outdated entries about failures, files and holes."""
        self._filler.forget_the_past(now_ms)
        old_ms = now_ms - int(RETRY_DELAY_S_MAX * 1000)
        for key, failures in list(self._failures.items()):
            self._failures[key] = [failure for failure in failures if failure.not_before_ms > old_ms]
            if not self._failures[key]:
                del self._failures[key]

    def _check_disk(self) -> None:
        before, self.paused = self.paused, self._room.refusal()
        if before is None and self.paused is not None:
            self._observe(BackfillPaused(self.paused))
        elif before is not None and self.paused is None:
            self._observe(BackfillResumed())

    # --- doing --------------------------------------------------------------------------------------------------

    async def _attempt(self, job: Job) -> None:
        lacking = self._lacking(job)
        try:
            await self._filler.fill(job)
            self._store_failures = 0
            if isinstance(job, Fetch | RollUp) and self._lacking(job) == lacking:
                self._fail(job, f"{job.series.name} {job.series.interval}: nothing was gained by {job}")
                return
            for failure in self._failures_of(job):
                self._failures[job.series, job.is_tail].remove(failure)
        except StandDown as error:
            self._rest_blocked_until_ms = max(self._rest_blocked_until_ms, error.until_ms)
        except UpstreamAway as error:  # the job is not to blame and waits only while the exchange is unreachable
            self._rest_blocked_until_ms = max(self._rest_blocked_until_ms, error.until_ms)
            self.last_error = str(error)
        except StoreUnavailable as error:
            self._hold(str(error))
        except Unproven as error:  # not a failure of the job: the exchange must repeat its claim
            self._failure_of(job).not_before_ms = error.until_ms
        except (UpstreamError, BadKline) as error:
            self._fail(job, str(error))

    def _hold(self, reason: str) -> None:
        """Block all jobs for a growing delay: the database accepted no write, so fetched klines would be lost."""
        self.last_error = reason
        now_ms = self._clock.now_ms()
        if now_ms >= self._store_blocked_until_ms:  # otherwise another worker has counted this failure
            self._store_failures += 1
            delay_s = ceiling_s(self._store_failures, STORE_RETRY_S_MIN, STORE_RETRY_S_MAX)
            self._store_blocked_until_ms = now_ms + int(delay_s * 1000)

    def _lacking(self, job: Job) -> Spans:
        wanted = job.windows if isinstance(job, Download) else Spans([job.window])
        return wanted - self._holdings.ledger(job.series).known

    def _fail(self, job: Job, reason: str) -> None:
        self.last_error = reason
        failure = self._failure_of(job)
        failure.count += 1
        delay_s = spread_s(self._rng, failure.count, RETRY_DELAY_S_MIN, RETRY_DELAY_S_MAX)
        failure.not_before_ms = self._clock.now_ms() + int(delay_s * 1000)

    def _failure_of(self, job: Job) -> _Failure:
        """The recent failure whose window overlaps that of `job`, created if there is none."""
        known = self._failures_of(job)
        if known:
            failure = known[0]
        else:
            failure = _Failure(job.window, 0, 0)
            self._failures.setdefault((job.series, job.is_tail), []).append(failure)
        failure.window = job.window
        return failure

    def _failures_of(self, job: Job) -> list[_Failure]:
        """Recent failures whose windows overlap that of `job`: a hole that cannot be filled delays no other window."""
        failures = self._failures.get((job.series, job.is_tail), ())
        return [failure for failure in failures if failure.window.clip(job.window)]

    def _all_failures(self) -> Iterator[_Failure]:
        return chain.from_iterable(self._failures.values())


def _by_wish(gap: SeriesGap, extra: Span | None) -> list[tuple[Span | None, SeriesGap]]:
    """Split the gap of a series: the part of its extra wish, and the rest under None."""
    asked = Spans()
    if extra is not None:  # whole klines: jobs are on the grid
        asked = gap.missing.clip(Span(gap.grid.ceil(extra.start_ms), gap.grid.ceil(extra.end_ms)))
    rest = gap.missing - asked
    if not asked or not rest:
        return [(extra if asked else None, gap)]
    return [(None, replace(gap, missing=rest)), (extra, replace(gap, missing=asked))]


def _in_turn(history: Mapping[Span | None, list[Job]]) -> list[_Place]:
    """The jobs of each wish newest first, one of each wish in turn: a large backfill does not delay a small one."""
    places: list[_Place] = []
    for jobs in history.values():
        for turn, job in enumerate(sorted(jobs, key=lambda each: -each.window.end_ms)):
            places.append((turn, -job.window.end_ms, len(places), job))
    return places
