"""How old gathered rows are: gathering, the real budget and clients' own questions against a strict exchange.

Time is virtual. `python -m tests.filling.gathering_pace` prints the figures of 600 symbols for both forms of the limit.
"""

import random
import sys
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any, Final, TypeVar
from unittest.mock import patch

from app.binance import rate_state
from app.domain.interval import HOUR_MS, INTERVALS, MINUTE_MS, Grid
from app.domain.kind import Bucket, Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.filling.gathering import Gathering
from app.holding.inventory import Inventory
from app.holding.ledger_cache import LedgerCache
from app.holding.wish import Wish
from app.kinds.metrics import METRICS, REACH_MS
from app.ports.errors import BucketFull
from app.ports.exchange import Priority
from app.runtime import Runtime
from infra.binance.budget import WeightBudget
from tests.binance.upstream import Upstream
from tests.clocks import START_MS, VirtualClock
from tests.fakes import running

T = TypeVar("T")
Main = Callable[[], Awaitable[None]]
M5: Final = INTERVALS["5m"]
GRANTED: Final = 1_000
WINDOW_MS: Final = 5 * MINUTE_MS
LATENCY_S: Final = (0.03, 0.2)
PUBLISHED_MS: Final = (5_000, 50_000)
"""How long after the end of its five minutes the exchange has a series' row."""
SAMPLE_S: Final = 30.0


class Exceeded(AssertionError):
    """The exchange has been asked more often than it grants."""


class Limit:
    """Counts requests in every rolling five minutes and in those of the clock; more than granted is an error."""

    def __init__(self, granted: int) -> None:
        self._granted = granted
        self._rolling: deque[int] = deque()
        self._period = self._in_period = 0
        self.most = 0

    def count(self, now_ms: int) -> None:
        """Count a request that arrives now."""
        while self._rolling and self._rolling[0] <= now_ms - WINDOW_MS:
            self._rolling.popleft()
        self._rolling.append(now_ms)
        period = now_ms // WINDOW_MS
        self._in_period = self._in_period + 1 if period == self._period else 1
        self._period = period
        self.most = max(self.most, len(self._rolling), self._in_period)
        if self.most > self._granted:
            raise Exceeded(f"{self.most} requests in five minutes, {self._granted} are granted")


@dataclass
class StrictExchange:
    """Rows that follow from their time, and limits that count what arrives. It is `RowPages` and asks for clients."""

    clock: VirtualClock
    budget: WeightBudget
    is_shared: bool
    granted: int
    chance: random.Random
    limits: dict[str, Limit] = field(default_factory=dict)
    answered: int = 0
    refused: int = 0

    async def request(self, path: str, bucket: Bucket, priority: Priority) -> None:
        """Send one request. Raises BucketFull."""
        async with self.budget.spend(0, priority, bucket=bucket) as ticket:
            latency_s = self.chance.uniform(*LATENCY_S)
            await self.clock.sleep(latency_s / 2)
            limit = "shared" if self.is_shared else path
            self.limits.setdefault(limit, Limit(self.granted)).count(self.clock.now_ms())
            await self.clock.sleep(latency_s / 2)
            ticket.answered(None, is_success=True)

    async def klines(
        self, series: Series, grid: Grid, window: Span | None, limit: int, priority: Priority, *, newest: bool = False
    ) -> Sequence[Any]:
        """The rows of a window that are published."""
        pages = series.kind.rest
        assert window is not None
        assert pages.bucket is not None
        assert window.start_ms >= self.clock.now_ms() - REACH_MS
        await self.request(pages.path, pages.bucket, priority)
        late_ms = random.Random(f"{series.symbol} {series.kind.name}").randint(*PUBLISHED_MS)
        end_ms = min(window.end_ms, grid.floor(self.clock.now_ms() - late_ms))
        return [series.kind.row(at, "1", "1", "1") for at in grid.opens(window.start_ms, end_ms)]

    async def ask_for_basis(self) -> None:
        """A client's own question, of a kind that the node does not hold, every second (of 1,000 granted)."""
        while True:
            try:
                await self.request("/futures/data/basis", Bucket.BASIS, Priority.USER)
                self.answered += 1
            except BucketFull:
                self.refused += 1
            await self.clock.sleep(GRANTED / self.granted)

    async def show_the_weight(self) -> None:
        """Requests for klines, whose answers say how much of the minute's weight is used, as those of any node."""
        while True:
            async with self.budget.spend(1, Priority.TAIL) as ticket:
                await self.clock.sleep(0.05)
                ticket.answered(1, is_success=True)
            await self.clock.sleep(5)


class Ledgers:
    """A committer that keeps what is held of each series, without its rows."""

    def __init__(self) -> None:
        self.cache = LedgerCache()

    async def commit(self, batches: Sequence[Batch]) -> list[Any]:
        """Record the spans of `batches`."""
        for batch in batches:
            self.cache.set_ledger(batch.series, self.cache.ledger(batch.series).record(batch.spans, batch.source))
        return []


@dataclass
class Pace:
    """What was seen."""

    cold_s: dict[str, list[float]]
    """By endpoint, ascending: after how many seconds each series had its newest row."""
    filling_s: dict[str, list[float]]
    """By endpoint, ascending: ages of the newest held rows (since the end of their five minutes), for two hours while
    the 30 days are fetched."""
    filled_s: dict[str, list[float]]
    """The same once they are held."""
    history_rows: int
    """Rows fetched in the two hours of `filling_s`."""
    answered: int
    refused: int
    """Clients' own questions, of which one is asked every second."""
    most: dict[str, int]
    """By limit: the most requests in five minutes."""


@dataclass
class Node:
    """Gathering with what it needs."""

    symbols: int
    is_shared: bool
    granted: int = GRANTED

    def __post_init__(self) -> None:
        self.clock = VirtualClock(START_MS, turns=3)
        budget = Upstream(self.clock, is_data_shared=self.is_shared).budget
        self.exchange = StrictExchange(self.clock, budget, self.is_shared, self.granted, random.Random(5))
        self.ledgers = Ledgers()
        wish = Wish(frozenset(), (), 30, {}, {}, dict.fromkeys(METRICS.values(), self._names()))
        self.series = wish.gathered()
        runtime = Runtime(self.clock, lambda event: None, 1)
        inventory = Inventory(self.ledgers.cache, lambda: wish)
        committer: Any = self.ledgers
        self.gathering = Gathering(runtime, self.exchange, committer, inventory, is_data_shared=self.is_shared)

    def _names(self) -> list[str]:
        return [f"S{number}USDT" for number in range(self.symbols)]

    def runs(self) -> list[Main]:
        """What a node runs."""
        gathering = [partial(self.gathering.run, limit) for limit in self.gathering.limits()]
        return [*gathering, self.exchange.show_the_weight]

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` in virtual time."""
        with patch.dict(rate_state.GRANTED, dict.fromkeys(Bucket, self.granted)):
            return self.clock.run(main)

    def fill(self) -> None:
        """Make all that the exchange has up to now held."""
        now_ms = self.clock.now_ms()
        span = Span(M5.grid.floor(now_ms - REACH_MS), M5.grid.floor(now_ms - MINUTE_MS))
        for series in self.series:
            ledger = self.ledgers.cache.ledger(series)
            self.ledgers.cache.set_ledger(series, ledger.record(Spans([span]), Source.REST))

    def rows(self) -> int:
        """How many rows are held."""
        ledgers = (self.ledgers.cache.ledger(series) for series in self.series)
        return sum(M5.grid.count(*span) for ledger in ledgers for span in ledger.held)

    async def cold(self) -> dict[str, list[float]]:
        """From an empty store until each series has its newest row."""
        begun_ms, cold_s = self.clock.now_ms(), dict[Series, float]()
        while len(cold_s) < len(self.series):
            await self.clock.sleep(5)
            passed_s = (self.clock.now_ms() - begun_ms) / 1_000
            assert passed_s < 3_600, "it never ends"
            for series in self.series:
                if series not in cold_s and self.ledgers.cache.ledger(series).held:
                    cold_s[series] = passed_s
        return {kind.name: sorted(cold_s[each] for each in self.of(kind)) for kind in METRICS.values()}

    async def ages(self, hours: float) -> dict[str, list[float]]:
        """The ages that are seen in the next hours."""
        end_ms = self.clock.now_ms() + int(hours * HOUR_MS)
        ages_s: dict[str, list[float]] = {kind.name: [] for kind in METRICS.values()}
        while self.clock.now_ms() < end_ms:
            await self.clock.sleep(SAMPLE_S)
            for series in self.series:
                end = self.ledgers.cache.ledger(series).end_ms
                ages_s[series.kind.name].append((self.clock.now_ms() - end) / 1_000)
        return {name: sorted(ages) for name, ages in ages_s.items()}

    def of(self, kind: Kind) -> Iterator[Series]:
        """The series of a kind."""
        return (series for series in self.series if series.kind is kind)


def cold(symbols: int, *, is_shared: bool, granted: int = GRANTED) -> dict[str, list[float]]:
    """As Pace.cold_s, of a node that nobody asks anything."""
    node = Node(symbols, is_shared, granted)

    async def main() -> dict[str, list[float]]:
        async with running(*node.runs()):
            return await node.cold()

    return node.run(main())


def measured(symbols: int, *, is_shared: bool, granted: int = GRANTED, hours: float = 2.0) -> Pace:
    """Run a node from an empty store, then for `hours` while history is fetched, then for `hours` when it is held.

    Meanwhile a client asks a question of its own every second. `granted`: the requests that the exchange grants in five
    minutes. A tenth of them for a tenth of the symbols is much the same, in a hundredth of the work.
    """
    node = Node(symbols, is_shared, granted)

    async def main() -> Pace:
        exchange = node.exchange
        async with running(*node.runs(), exchange.ask_for_basis):
            cold_s = await node.cold()
            rows = node.rows()
            filling_s = await node.ages(hours)
            rows = node.rows() - rows
            node.fill()
            await node.clock.sleep(20 * 60)
            filled_s = await node.ages(hours)
            most = {name: limit.most for name, limit in exchange.limits.items()}
            return Pace(cold_s, filling_s, filled_s, rows, exchange.answered, exchange.refused, most)

    return node.run(main())


def quantile(values: Sequence[float], share: float) -> float:
    """The least of `values`, which ascend, that `share` of them do not exceed."""
    return values[max(0, ceil(share * len(values)) - 1)]


def print_figures(symbols: int, granted: int = GRANTED) -> None:
    """Print what is measured for both forms of the limit, in minutes."""
    for is_shared in (True, False):
        out = [f"DATA_BUCKET={'shared' if is_shared else 'endpoint'}, {symbols} symbols"]
        pace = measured(symbols, is_shared=is_shared, granted=granted)
        undisturbed = cold(symbols, is_shared=is_shared, granted=granted)
        for name, cold_s in (("nobody asks", undisturbed), ("a client asks every second", pace.cold_s)):
            every_s = sorted(passed for each in cold_s.values() for passed in each)
            reached = {minutes: bisect_left(every_s, minutes * 60 + 0.1) for minutes in (2.5, 5, 10, 15, 20, 25, 30)}
            counts = ", ".join(f"{count} after {minutes} min" for minutes, count in reached.items())
            out.append(f"series with their newest row when {name}: {counts}; all after {every_s[-1] / 60:.1f} min")
        out.append("endpoint | all have their newest row after | age p50, p99 while filling | when filled")
        for name in METRICS:
            filling, filled = pace.filling_s[name], pace.filled_s[name]
            figures = [pace.cold_s[name][-1]]
            figures += [quantile(ages, share) for ages in (filling, filled) for share in (0.5, 0.99)]
            out.append(f"{name} | " + " | ".join(f"{figure / 60:.1f}" for figure in figures))
        out.append(f"rows fetched while filling: {pace.history_rows}")
        out.append(f"questions of a client's own, one a second: {pace.answered} answered, {pace.refused} refused")
        out.append(f"most requests in five minutes: {pace.most}")
        sys.stdout.write("\n".join(out) + "\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    print_figures(*(map(int, sys.argv[1:]) if sys.argv[1:] else (600,)))
