"""Disputes: minutes for which sockets delivered two different final klines, settled by REST's row."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from app.domain.backoff import ceiling_s
from app.domain.interval import M1, MINUTE_MS, Grid
from app.domain.kline import Kline
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.domain.validity import is_fresh
from app.events import DisputeSettled, GarbageDropped, KlineDisputed, Observe
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import CLOSE_GRACE_MS
from app.ports.clock import Clock
from app.ports.errors import StandDown, StoreUnavailable, UpstreamError, UpstreamGarbage, UpstreamRejected
from app.ports.exchange import Priority, RestApi
from app.ports.store import StoreReader

DISPUTES_MAX: Final = 2_000  # disputed minutes at once: three minutes of the whole market; verification finds the rest
DOUBTS_MAX: Final = 1_000  # final klines that wait at once to be compared with the store
ASK_ROWS_MAX: Final = 99  # minutes per request: the most that cost weight 1
ASK_DELAY_MS: Final = CLOSE_GRACE_MS + 2_000  # after the close; by then REST's row is final
AGAIN_MS: Final = 10 * MINUTE_MS  # after REST settled a minute, socket klines cannot dispute it again for this long
TRIES_MAX: Final = 5  # answers without the minute; after that it is left to the reconciler and verification
RETRY_S_MIN: Final = 2.0
RETRY_S_MAX: Final = 120.0

Keep = Callable[[Series, Grid, Sequence[Kline], Source], Awaitable[object]]
"""Commits klines fetched from the exchange (`Filler.keep`)."""


class Disputes:
    """Collects disputed minutes, up to a limit, and settles each: REST's row outranks and replaces the sockets'."""

    def __init__(
        self, clock: Clock, observe: Observe, rest: RestApi, store: StoreReader, holdings: LedgerCache, keep: Keep
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._rest = rest
        self._store = store
        self._holdings = holdings
        self._keep = keep
        self._open: dict[tuple[Series, int], int] = {}  # tries so far
        self._doubts: dict[tuple[Series, int], Kline] = {}
        self._settled: dict[tuple[Series, int], int] = {}  # when
        self._changed = asyncio.Event()
        self._is_overflowing = False

    @property
    def open(self) -> int:
        """The number of disputed minutes that wait for REST's row."""
        return len(self._open)

    def dispute(self, series: Series, open_ms: int) -> None:
        """Open a dispute: a final kline arrived that differs from the one held or served. `run` settles it by REST."""
        key = series, open_ms
        settled_ms = self._settled.get(key)
        if key in self._open or is_fresh(settled_ms, self._clock.now_ms(), AGAIN_MS):
            return
        if len(self._open) >= DISPUTES_MAX:
            self._overflow(f"more than {DISPUTES_MAX} disputed minutes at once; the rest is left to verification")
            return
        self._is_overflowing = False
        self._open[key] = 0
        self._observe(KlineDisputed(series.name, open_ms, self._holdings.ledger(series).source_at(open_ms)))
        self._changed.set()

    def doubt(self, series: Series, kline: Kline) -> None:
        """Queue a final kline for comparison with the store, which alone has its minute; a difference is disputed."""
        if len(self._doubts) >= DOUBTS_MAX:
            self._overflow(f"more than {DOUBTS_MAX} late finals at once; the rest is not compared with the store")
            return
        self._doubts.setdefault((series, kline.open_ms), kline)
        self._changed.set()

    def _overflow(self, reason: str) -> None:
        if not self._is_overflowing:
            self._is_overflowing = True
            self._observe(GarbageDropped("dispute", reason))

    async def run(self) -> None:
        """Compare doubted klines and settle disputes, forever."""
        failures = 0
        while True:
            if not self._open and not self._doubts:
                self._changed.clear()
                await self._changed.wait()
            try:
                await self._compare()
                await self._settle_next()
                failures = 0
            except StandDown as error:
                await self._clock.sleep(max(RETRY_S_MIN, (error.until_ms - self._clock.now_ms()) / 1_000))
            except (UpstreamError, StoreUnavailable):
                failures += 1
                await self._clock.sleep(ceiling_s(failures, RETRY_S_MIN, RETRY_S_MAX))

    async def _compare(self) -> None:
        """Compare the doubted klines with the store's rows. Raises StoreUnavailable; the remaining ones stay queued."""
        while self._doubts:
            (series, open_ms), kline = next(iter(self._doubts.items()))
            snapshot = await self._store.read(series, Span(open_ms, open_ms + MINUTE_MS), 1)
            del self._doubts[series, open_ms]
            if snapshot.rows and snapshot.rows[0] != kline:
                self.dispute(series, open_ms)

    async def _settle_next(self) -> None:
        """Fetch the oldest dispute and its neighbours from REST, and commit the rows.

        Raises UpstreamError and StoreUnavailable; the minutes stay disputed then.
        """
        if not self._open:
            return
        found = next(filter(self._is_held, self._open), None)
        if found is None:
            await self._clock.sleep(RETRY_S_MIN)
            return
        series, first_ms = found
        wait_ms = first_ms + MINUTE_MS + ASK_DELAY_MS - self._clock.now_ms()
        if wait_ms > 0:
            await self._clock.sleep(wait_ms / 1_000)
        opens_ms = self._neighbours(series, first_ms)
        window = Span(opens_ms[0], opens_ms[-1] + MINUTE_MS)
        try:
            klines = await self._rest.klines(series, M1.grid, window, M1.grid.count(*window), Priority.TAIL)
        except UpstreamRejected as error:
            self._give_up(series, opens_ms, str(error))
            return
        except UpstreamGarbage as error:
            self._count_try(series, opens_ms, str(error))
            raise
        closed_ms = self._clock.now_ms() - CLOSE_GRACE_MS
        said = [kline for kline in klines if kline.open_ms in opens_ms and kline.open_ms + MINUTE_MS <= closed_ms]
        await self._keep(series, M1.grid, said, Source.REST)
        for kline in said:
            self._settle(series, kline.open_ms)
        heard_of = {kline.open_ms for kline in said}
        self._count_try(series, [each for each in opens_ms if each not in heard_of], "REST's answer lacks it")

    def _is_held(self, key: tuple[Series, int]) -> bool:
        """Whether the disputed row is in the store: only replacing a stored row makes its roll-ups be built again."""
        series, open_ms = key
        return self._holdings.ledger(series).held.span_at(open_ms) is not None

    def _neighbours(self, series: Series, first_ms: int) -> list[int]:
        """`first_ms` and the later due disputes of `series` that the same request of weight 1 can cover, ascending."""
        due_ms = self._clock.now_ms() - MINUTE_MS - ASK_DELAY_MS
        last_ms = first_ms + (ASK_ROWS_MAX - 1) * MINUTE_MS
        opens_ms = (open_ms for each, open_ms in self._open if each == series and self._is_held((each, open_ms)))
        return sorted({first_ms, *(each for each in opens_ms if first_ms < each <= min(last_ms, due_ms))})

    def _settle(self, series: Series, open_ms: int) -> None:
        del self._open[series, open_ms]
        self._settled[series, open_ms] = self._clock.now_ms()
        while len(self._settled) > DISPUTES_MAX:
            del self._settled[next(iter(self._settled))]
        self._observe(DisputeSettled(series.name, open_ms))

    def _count_try(self, series: Series, opens_ms: Sequence[int], reason: str) -> None:
        """Move unsettled minutes to the end of the queue, and give up on those tried TRIES_MAX times."""
        for open_ms in opens_ms:
            tries = self._open.pop((series, open_ms)) + 1
            self._open[series, open_ms] = tries
            if tries >= TRIES_MAX:
                self._give_up(series, [open_ms], reason)

    def _give_up(self, series: Series, opens_ms: Sequence[int], reason: str) -> None:
        for open_ms in opens_ms:
            del self._open[series, open_ms]
        self._observe(
            GarbageDropped("dispute", f"{series.name} {opens_ms[0]} and {len(opens_ms) - 1} more unsettled: {reason}")
        )
