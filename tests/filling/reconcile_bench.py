"""A reconciler on a rig, with everything that a test can vary."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from app.domain.interval import INTERVALS, M1, Interval
from app.domain.kind import Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.domain.store_rules import Batch
from app.events import GapsCounted
from app.filling.absence import Absence
from app.filling.fill import Filler
from app.filling.reconcile import Reconciler
from app.filling.room import ROW_DISK_BYTES, Room
from app.holding.inventory import Inventory
from app.holding.wish import Wish
from app.kinds.klines import KLINES
from app.ports import exchange as ports
from tests.fakes import (
    BTC,
    NOW_MS,
    Exchange,
    Rig,
    encoded,
    listing,
    rig,
)

HOURS = Series(KLINES, "BTCUSDT", INTERVALS["1h"])
FIVES = Series(KLINES, "BTCUSDT", INTERVALS["5m"])
NOTHING = Spans()


class Options(TypedDict, total=False):
    """What a test can set."""

    codes: tuple[str, ...]
    days: int
    symbols: set[str]
    onboard_ms: int
    free_bytes: int
    concurrency: int
    others: Mapping[Kind, Collection[str]]


@dataclass
class Bench:
    """A reconciler on a rig, and the settings of a test."""

    rig: Rig
    codes: tuple[str, ...] = ("1m", "5m", "1h")
    days: int = 1
    symbols: set[str] = field(default_factory=lambda: {"BTCUSDT"})
    onboard_ms: int = 0
    free_bytes: int = 10**12
    concurrency: int = 2
    others: Mapping[Kind, Collection[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rig = self.rig
        self.absence = Absence(rig.clock, rig.holdings, lambda symbol: self.wish().listings.get(symbol), rig.vault)
        self.inventory = Inventory(rig.holdings, self.wish)
        self.filler = Filler(
            rig.runtime,
            ports.Exchange(rig.exchange, rig.vault),
            rig.store,
            rig.committer,
            self.inventory,
            self.absence,
        )
        self.reconciler = Reconciler(
            rig.runtime,
            self.filler,
            self.inventory,
            Room(lambda: self.free_bytes, 10**6, ROW_DISK_BYTES),
            concurrency=self.concurrency,
        )

    def wish(self) -> Wish:
        listings = {symbol: listing(symbol, self.onboard_ms) for symbol in self.symbols}
        extra = self.rig.holdings.extra_wishes
        return Wish(frozenset(self.symbols), self.intervals, self.days, listings, extra, self.others)

    @property
    def intervals(self) -> list[Interval]:
        return [interval for code, interval in INTERVALS.items() if code in self.codes]

    @property
    def missing(self) -> int:
        return self.rig.seen(GapsCounted)[-1].missing_klines

    async def until_whole(self, seconds: int = 180) -> None:
        """Let up to `seconds` pass until a plan finds nothing missing; raises AssertionError if none does."""
        for _ in range(seconds):
            await self.rig.advance(1)
            if self.missing == 0:
                return
        raise AssertionError(f"{self.missing} klines are still missing: {self.reconciler.last_error}")

    async def holds_the_truth(self) -> None:
        """Assert that the store holds every wished kline exactly as the exchange has it."""
        rig, wish = self.rig, self.wish()
        for series in wish.series():
            grid = rig.holdings.grid(series)
            for span in wish.spans(series, grid, rig.clock.ms):
                mine = (await rig.store.read(series, span, 1_000_000)).rows
                theirs = [rig.exchange.kline(series, each) for each in rig.exchange.opens(series, span)]
                assert encoded(series, mine) == encoded(series, theirs), series

    async def fill(self, upto_ms: int, *, but: Spans = NOTHING) -> None:
        """Commit every wished minute before `upto_ms`, apart from `but`, as if it came from sockets."""
        spans = Spans(self.wish().spans(BTC, M1.grid, self.rig.clock.ms)).clip(Span(0, upto_ms)) - but
        rows = [self.rig.exchange.kline(BTC, each) for span in spans for each in M1.grid.opens(*span)]
        await self.rig.committer.commit([Batch(BTC, Source.WS, spans, rows)])


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    now_ms: int = NOW_MS,
    first_ms: int = 0,
    exchange: type[Exchange] = Exchange,
    **options: Unpack[Options],
) -> AsyncIterator[Bench]:
    async with rig(folder, now_ms=now_ms, first_ms=first_ms, exchange=exchange) as made:
        yield Bench(made, **options)
