"""A sandbox exchange and nodes in one process, on a clock that runs fast and can be stopped."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson

from app.binance import rest_rows
from app.domain.series import Series
from app.events import Event, GapsCounted
from app.kinds.klines import KLINES
from app.node.node import Node
from app.node.parts import Parts
from app.ports.clock import MachineClock
from app.settings import Settings, load
from infra.sandbox.journal import Entry
from infra.sandbox.server import SandboxServer
from tests.fast_clock import ScaledClock
from tests.patience import PATIENCE_S

START_MS = 1_795_235_400_000  # 2026-11-21 04:30 UTC: yesterday's archive files are not published yet


class HeldClock(ScaledClock):
    """A fast clock that can be stopped, so that two answers can be compared at the same moment."""

    def __init__(self, start_ms: int, speed: float) -> None:
        super().__init__(start_ms, speed)
        self._held_ms: int | None = None

    def now_ms(self) -> int:
        return super().now_ms() if self._held_ms is None else self._held_ms

    def hold(self) -> int:
        """Stop the clock; return its time (ms)."""
        self._held_ms = self.now_ms()
        return self._held_ms

    def move_to(self, time_ms: int) -> None:
        """Set the clock forward to `time_ms` at once, and stop it there."""
        assert time_ms >= self.now_ms(), "a clock that is put back is another test"
        self._held_ms = time_ms


def is_whole(event: Event) -> bool:
    """Whether the event says that a plan found nothing missing."""
    return isinstance(event, GapsCounted) and event.missing_klines == 0


class Watched:
    """A node, and the events it reported."""

    def __init__(self, settings: Settings, clock: MachineClock) -> None:
        self.events: list[Event] = []
        self._waiting: list[tuple[Callable[[Event], bool], asyncio.Event]] = []
        self.node = Node(Parts(settings, clock, 1, [self._observe]))

    def _observe(self, event: Event) -> None:
        self.events.append(event)
        for wanted, seen in self._waiting:
            if wanted(event):
                seen.set()

    async def until(self, wanted: Callable[[Event], bool]) -> None:
        """Wait for the next event that `wanted` accepts."""
        waiting = (wanted, asyncio.Event())
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await waiting[1].wait()
        finally:
            self._waiting.remove(waiting)

    async def until_whole(self) -> None:
        """Wait until a plan finds nothing missing."""
        await self.until(is_whole)

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)

    def http(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.node.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://node", timeout=30)


@dataclass
class World:
    """The exchange, the clock and the folder of the nodes' databases."""

    clock: HeldClock
    sandbox: SandboxServer
    folder: Path

    def settings(self, **changes: object) -> Settings:
        return load(
            {
                "binance_rest_url": self.sandbox.base_url,
                "binance_ws_url": self.sandbox.ws_url,
                "binance_archive_url": self.sandbox.base_url,
                "db_url": f"sqlite:///{self.folder}/klinenode.db",
                "backfill_days": 3,
                "disk_free_bytes_min": 0,
                "log_level": "ERROR",
                "verify_every_days": 0,  # tests count requests; tests of verification turn it on
                **changes,
            },
            env_file=None,
        )

    @asynccontextmanager
    async def node(self, *, machine_clock: MachineClock | None = None, **changes: object) -> AsyncIterator[Watched]:
        """A running node."""
        watched = Watched(self.settings(**changes), machine_clock or self.clock)
        async with watched.node.running():
            yield watched

    async def hold_whole(self, watched: Watched, *, if_: Callable[[], bool] = lambda: True) -> int:
        """Stop the clock at the moment in which a plan finds nothing missing and `if_` holds; return its time (ms).

        A test that waited for the plan and then stopped the clock would do so minutes later when time is fast and the
        machine busy. Klines that became due while the plan was made must be held too.
        """

        def is_held(event: Event) -> bool:
            found = is_whole(event) and if_() and not watched.node.parts.coverage.report(None, None, 0, 1)["missing"]
            if found:
                self.clock.hold()
            return found

        await watched.until(is_held)
        return self.clock.now_ms()

    def truth(self, series: Series, start_ms: int, end_ms: int) -> bytes:
        """The exchange's rows of a span, as it prints them."""
        rows = self.sandbox.exchange.rows(series.symbol, series.interval.code, start_ms, end_ms)
        return orjson.dumps(rows)

    async def differing(self, watched: Watched) -> list[str]:
        """The wished series whose rows in the store are not, byte for byte, the exchange's."""
        node, now_ms, wrong = watched.node, self.clock.now_ms(), []
        wish = node.parts.wish()
        for series in wish.series():
            grid = node.parts.holdings.grid(series)
            for span in wish.spans(series, grid, now_ms):
                rows = (await node.parts.reader.read(series, span, 1_000_000)).rows
                mine = rest_rows.join(KLINES.encode(k, grid.shift(k.open_ms, 1) - 1) for k in rows)
                if mine != self.truth(series, *span):
                    wrong.append(f"{series.symbol} {series.interval}")
        return wrong

    def requests(self, path: str = "/fapi/v1/klines") -> list[Entry]:
        """The requests for `path` that the exchange has received."""
        return [entry for entry in self.sandbox.journal.since(0) if entry.path == path]

    def klines_requests(self) -> Counter[str]:
        """The number of klines requests that the exchange has received, by interval."""
        return Counter(entry.query["interval"] for entry in self.requests())


@asynccontextmanager
async def world(
    folder: Path, *, speed: float = 20.0, symbols: int = 10, weight_limit: int = 2400, start_ms: int = START_MS
) -> AsyncIterator[World]:
    """A running exchange, in which nodes can be started."""
    clock = HeldClock(start_ms, speed)
    async with SandboxServer(clock, seed=1, symbols=symbols, weight_limit=weight_limit) as sandbox:
        yield World(clock, sandbox, folder)
