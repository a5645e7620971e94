"""Forty days of gathering from the sandbox's REST in virtual time, with the node down for six of them."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from app.domain.interval import DAY_MS, HOUR_MS, INTERVALS, Grid
from app.domain.ledger import Ledger, Source
from app.domain.series import Series
from app.domain.span import Span
from app.filling.gathering import Gathering
from app.holding.inventory import Inventory
from app.holding.wish import REACH_MARGIN_MS, Wish
from app.kinds.metrics import METRICS, REACH_MS
from app.ports.exchange import Priority
from infra.binance.rest import BinanceRest
from infra.sandbox import truth
from infra.sandbox.faults import Fault
from infra.sandbox.server import SandboxApp, create_app
from tests.binance.upstream import Upstream
from tests.fakes import Rig, Store, listing, rig, running
from tests.net.loopback import to

M5: Final = INTERVALS["5m"]
STEP_MS: Final = M5.grid.step_ms
LIVES_MS: Final = (17 * DAY_MS, 17 * DAY_MS)
DOWN_MS: Final = 6 * DAY_MS
STRIDE_MS: Final = 4 * HOUR_MS
"""The clock goes on by this much at once while nothing is under way: each time the newest rows are due."""
AWAKE_S: Final = 15
OLD, YOUNG = "BTCUSDT", "YOUNGUSDT"
SYMBOLS: Final = (OLD, YOUNG)
START_MS: Final = 1_795_235_400_000  # 2026-11-21 04:30 UTC
LISTED_MS: Final = START_MS - 10 * DAY_MS  # of YOUNG
LATE: Final = METRICS["takerlongshortRatio"]
"""The endpoint that gives nothing before the node is down: what it had at first has passed out of its reach then."""


class Counted:
    """REST whose requests count as work of the store, which the rig's clock waits for."""

    def __init__(self, rest: BinanceRest, store: Store) -> None:
        self._rest, self._store = rest, store

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        asking = self._rest.klines(series, grid, window, limit, priority, newest=newest)
        return await self._store.counted(asking)


class Life:
    """A node between two starts."""

    def __init__(self, on: Rig, sandbox: SandboxApp) -> None:
        self.rig, self.sandbox = on, sandbox
        budget = Upstream(on.clock, path=None).budget
        transport = httpx.ASGITransport(app=sandbox)
        self.rest = BinanceRest(to("http://sandbox"), on.runtime, budget, transport=transport)
        self.wish = Wish(
            frozenset(), (), 30, {each: listing(each, self.listed_ms(each)) for each in SYMBOLS}, {},
            dict.fromkeys(METRICS.values(), SYMBOLS),
        )  # fmt: skip
        self.gathering = Gathering(
            on.runtime,
            Counted(self.rest, on.store),
            on.committer,
            Inventory(on.holdings, lambda: self.wish),
            is_data_shared=True,
        )

    def listed_ms(self, symbol: str) -> int:
        found = self.sandbox.exchange.universe.find(symbol, START_MS)
        assert found is not None
        return found.onboard_ms

    async def last(self, life_ms: int) -> None:
        """Let `life_ms` pass: a quarter of an hour bit by bit, in which history is fetched, and the rest in strides."""
        end_ms = self.rig.clock.ms + life_ms
        for _ in range(60):
            await self.rig.advance(AWAKE_S)
        while self.rig.clock.ms < end_ms:
            await self.rig.advance(AWAKE_S)
            self.rig.clock.ms = min(end_ms, self.rig.clock.ms + STRIDE_MS)
        await self.rig.advance(AWAKE_S)

    def series(self) -> list[Series]:
        return self.wish.gathered()

    def ledger(self, series: Series) -> Ledger:
        """What is held of `series`."""
        return self.rig.holdings.ledger(series)

    def begin_ms(self, series: Series) -> int:
        """When the exchange's first row of `series` opens."""
        item = self.sandbox.exchange.universe.find(series.symbol, START_MS)
        assert item is not None
        return self.sandbox.exchange.statistics.ends_ms(item, STEP_MS, 0, START_MS)[0] - STEP_MS

    async def compare(self, series: Series, spans: Sequence[Span]) -> None:
        """Assert that the rows held of `spans` print to the bytes of the exchange's."""
        for span in spans:
            rows = truth.statistics(self.sandbox.exchange, series.symbol, series.kind.name, *span)
            _, body = await self.rig.store.read_encoded(series, span, 10_000)
            assert series.kind.finished(body, series.symbol) == orjson.dumps(rows), f"{series} {span}"


@asynccontextmanager
async def life(folder: Path, now_ms: int, *faults: Fault) -> AsyncIterator[Life]:
    """A node that starts at `now_ms` with what its database holds."""
    async with rig(folder, now_ms=now_ms) as on:
        on.holdings.load(await on.store.ledgers(), {}, {})
        sandbox = create_app(on.clock, seed=1, symbols=4)
        sandbox.exchange.universe.list_symbol(YOUNG, LISTED_MS)
        for fault in faults:
            sandbox.faults.add(fault, now_ms)
        made = Life(on, sandbox)
        try:
            async with running(*(partial(made.gathering.run, limit) for limit in made.gathering.limits())):
                yield made
        finally:
            await made.rest.aclose()


async def test_an_outage_of_six_days_leaves_no_hole_that_the_exchange_still_had_rows_for(tmp_path: Path) -> None:
    down = Fault(kind="http_5xx", path=LATE.rest.path, status=503)
    async with life(tmp_path, START_MS, down) as first:
        await first.last(LIVES_MS[0])
        stopped_ms = first.rig.clock.ms
        assert not [each for each in first.series() if each.kind is LATE and first.ledger(each).known]
    async with life(tmp_path, stopped_ms + DOWN_MS) as then:
        back_ms = then.rig.clock.ms
        await then.last(LIVES_MS[1])
        now_ms = then.rig.clock.ms
        assert now_ms - START_MS == sum(LIVES_MS) + DOWN_MS + 2 * AWAKE_S * 1_000
        rng = random.Random(4)
        for series in then.series():
            asked_ms = back_ms if series.kind is LATE else START_MS
            lost_ms = M5.grid.ceil(asked_ms - REACH_MS + REACH_MARGIN_MS) + STEP_MS
            had = Span(max(lost_ms, then.begin_ms(series)), M5.grid.floor(now_ms - 2 * STEP_MS))
            ledger = then.ledger(series)
            assert ledger.held.covers(had), f"{series} {ledger.held.complement(had)}"
            assert ledger.held.hull.start_ms >= had.start_ms - STEP_MS, "what the exchange no longer had"
            assert {entry.source for entry in ledger.entries} <= {Source.REST, Source.ABSENT}
            starts_ms = [rng.randrange(had.start_ms, had.end_ms - HOUR_MS) for _ in range(10)]
            times_ms = [had.start_ms, stopped_ms - HOUR_MS, back_ms - HOUR_MS, had.end_ms - 3 * HOUR_MS, *starts_ms]
            spans = [Span(M5.grid.ceil(each_ms), M5.grid.ceil(each_ms) + 3 * HOUR_MS) for each_ms in times_ms]
            await then.compare(series, [each for each in spans if each.start_ms >= had.start_ms])
