"""Disputes: minutes of which the sockets say two different things, settled by what REST says."""

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

DISPUTES_MAX: Final = 2_000  # minutes at once; three minutes of the whole market. More are left to verification
DOUBTS_MAX: Final = 1_000  # finals at once that wait to be compared with the store
ASK_ROWS_MAX: Final = 99  # minutes a request may span: it costs weight 1
ASK_DELAY_MS: Final = CLOSE_GRACE_MS + 2_000  # after the close: REST's row is final by then
AGAIN_MS: Final = 10 * MINUTE_MS  # REST has spoken: what the sockets say of the minute until then changes nothing
TRIES_MAX: Final = 5  # answers that lack the minute; then the reconciler and verification have to do
RETRY_S_MIN: Final = 2.0
RETRY_S_MAX: Final = 120.0

Keep = Callable[[Series, Grid, Sequence[Kline], Source], Awaitable[object]]
"""Commits klines that the exchange gave (`Filler.keep`)."""


class Disputes:
    """Collects disputed minutes and settles them; both bounded. REST's row outranks the sockets' and replaces it."""

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
        """Minutes that wait for REST's word."""
        return len(self._open)

    def dispute(self, series: Series, open_ms: int) -> None:
        """A final kline came that differs from the one held or served."""
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
        """A final kline came whose minute only the store holds: it is compared there, and disputed if unlike."""
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
        """Settle what is disputed, for ever."""
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
        """Compare the doubted finals with the store's rows. Raises StoreUnavailable; what was not compared stays."""
        while self._doubts:
            (series, open_ms), kline = next(iter(self._doubts.items()))
            snapshot = await self._store.read(series, Span(open_ms, open_ms + MINUTE_MS), 1)
            del self._doubts[series, open_ms]
            if snapshot.rows and snapshot.rows[0] != kline:
                self.dispute(series, open_ms)

    async def _settle_next(self) -> None:
        """Ask REST for the oldest dispute and its neighbours, and commit what it says.

        Raises UpstreamError and StoreUnavailable: then they stay disputed.
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
        """Whether the disputed row is written: only then what was made of it is made again when it is replaced."""
        series, open_ms = key
        return self._holdings.ledger(series).held.span_at(open_ms) is not None

    def _neighbours(self, series: Series, first_ms: int) -> list[int]:
        """The disputed minutes of `series`, ascending, that one cheap request can ask for together with `first_ms`."""
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
        """Put unsettled minutes at the end of the line, and give up on those that were tried often enough."""
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
