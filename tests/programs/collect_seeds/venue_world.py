"""One seed against the sandbox: exchange, network, stream, and the collector that is killed and begun again."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Final

from app.domain.instrument import Instrument
from app.domain.records import DataType, Feed
from infra.sandbox.exchange import Exchange
from infra.sandbox.faults import FaultBoard, parse_fault
from infra.sandbox.listings import Listings
from infra.sandbox.market import Market
from infra.sandbox.options import Options
from infra.sandbox.universe import Universe
from infra.sandbox.venue import Answer
from infra.sandbox.venues import Venues
from tests.programs.collect_seeds.jetstream import JetStream
from tests.programs.collect_seeds.venue_net import NetFaults
from tests.programs.collect_seeds.venue_plan import LASTING_MS, VenuePlan
from tests.programs.collect_seeds.venue_process import Given, Machine, Process, venue_of
from tests.programs.sim.loop import SimLoop
from tests.programs.sim.world import TrueClock

SANDBOX_SEED: Final = 1
SYMBOLS: Final = 10
RESTART_MS: Final = (300, 45_000)


@cache
def _universe() -> tuple[Universe, Market]:
    """What is the same in all seeds and takes long to compute."""
    return Universe(SANDBOX_SEED, SYMBOLS), Market()


@cache
def _listings(exchange: str, rate: float) -> Listings:
    return Listings(exchange, SANDBOX_SEED, rate)


@dataclass
class VenueWorld:
    """Everything of one seed; `venue_check.py` judges what is stored."""

    plan: VenuePlan
    failures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        plan = self.plan
        self.chance = Random(f"world {plan.exchange} {plan.seed}")
        self.loop = SimLoop()
        self.clock = TrueClock(self.loop, plan.begin_ms)
        universe, market = _universe()
        self.venues = Venues(
            Exchange(self.clock, universe, Options(rate=plan.rate, book_ticks=plan.book_ticks), market), FaultBoard()
        )
        self.venues.okx.listings = _listings("okx", plan.rate)
        self.venues.deribit.listings = _listings("deribit", plan.rate)
        self.stream = JetStream(self.clock, Random(self.chance.random()), self.later)
        self.machine = Machine()
        self.net_faults = NetFaults()
        self.instruments = self._instruments()
        self.feeds = frozenset(self._wished())
        self.processes: list[Process] = []
        self._context = Context()
        self._given = Given(self.loop, self.clock, self.machine, self.stream, self.venues, self.net_faults, self.later)

    @property
    def now_ms(self) -> int:
        """The time, which all clocks show."""
        return self.clock.now_ms()

    @property
    def process(self) -> Process:
        """The newest process."""
        return self.processes[-1]

    def run(self) -> None:
        """Play the seed."""
        plan = self.plan
        self._begin()
        for time_ms, kind in plan.mishaps:
            self.later(time_ms - plan.begin_ms, lambda kind=kind: self._mishap(kind))  # type: ignore[misc]
        self.later(plan.active_ms, self._calm)
        self.later(plan.end_ms - plan.begin_ms, self.loop.stop)
        self.later(plan.tick_ms - plan.begin_ms % plan.tick_ms, self._tick)
        self.loop.run_forever()
        self.process.counts.update(self.process.session.status().counters)
        for process in self.processes:
            self.counts.update(process.counts)
            self.failures += process.failures
        self._end()

    def later(self, after_ms: float, call: Callable[[], None]) -> None:
        """Call something later, whatever happens to a process."""
        self.loop.call_later(after_ms / 1_000, call, context=self._context)

    def _end(self) -> None:
        """Leave all tasks where they are: the seed is over."""
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    # --- the exchange

    def _instruments(self) -> list[Instrument]:
        venue, found = venue_of(self.plan), []
        for request in venue.instrument_requests():
            answer = self.venues.answer(request.path, dict(request.params), self.plan.begin_ms)
            found += venue.read_instruments(answer.body)
        by_native = {instrument.native: instrument for instrument in found}
        return [by_native[native] for native in self.plan.instruments]

    def _wished(self) -> list[Feed]:
        venue = venue_of(self.plan)
        whole, partly = self.instruments
        wished = [Feed(whole, each, "1m" if each is DataType.KLINE else "") for each in self.plan.types]
        if self.plan.is_double:
            wished += [Feed(partly, DataType.TRADE), Feed(partly, DataType.KLINE, "1m")]
        found = []
        for feed in wished:
            try:
                venue.channels(feed)
            except LookupError:
                continue
            found.append(feed)
        return found

    def _tick(self) -> None:
        if not self.process.is_dead:
            self.process.net.push()
        self.later(self.plan.tick_ms - self.now_ms % self.plan.tick_ms, self._tick)

    # --- mishaps

    def _begin(self) -> None:
        self.processes.append(Process(self.plan, len(self.processes), self._given, self.instruments))
        self.process.start(self.feeds)

    def _calm(self) -> None:
        self.venues.faults.clear()
        self.stream.state = "up"
        self.net_faults.slow_until_ms = self.net_faults.requests_lost_until_ms = 0

    def _inject(self, **wish: object) -> None:
        self.venues.inject(parse_fault({"venue": self.plan.exchange, **wish}), self.now_ms)

    def _mishap(self, kind: str) -> None:
        self.counts[f"mishap {kind}"] += 1
        chance = self.chance
        lasting_ms = min(chance.randint(*LASTING_MS), self.plan.quiet_from_ms - self.now_ms)
        lasting_s = lasting_ms / 1_000
        match kind:
            case "gap" | "duplicate" | "reorder" | "malformed_frame":
                self._inject(kind=kind, count=chance.randint(1, 8), probability=0.3, seed=chance.randrange(1 << 30))
            case "silence":
                self._inject(kind=kind, stream=chance.choice(_PATTERNS[self.plan.exchange]), duration_s=lasting_s)
            case "cut" | "half_open":
                self._inject(kind=kind, count=1)
            case "rotation":
                self._inject(kind=kind, delay_s=chance.uniform(1, 20))
            case "cut_all" if not self.process.is_dead:
                self.process.net.cut_all()
            case "slow_network":
                self.net_faults.slow_until_ms = self.now_ms + lasting_ms
            case "refuse":
                self._inject(kind=kind, duration_s=lasting_s)
            case "handshake_hang":
                self._inject(kind=kind, count=chance.randint(1, 2))
            case "error_answer":
                self._inject(kind=kind, count=chance.randint(1, 4), probability=0.5, seed=chance.randrange(1 << 30))
            case "snapshot_missing" | "reset":
                self._inject(kind=kind, **({"count": chance.randint(1, 3)} if kind == "snapshot_missing" else {}))
            case "http_5xx":
                self._inject(kind=kind, duration_s=lasting_s)
            case "malformed":
                self._inject(kind=kind, duration_s=lasting_s, shape=chance.choice(("truncated", "html", "empty")))
            case "http_429":
                self._inject(kind=kind, count=chance.randint(1, 3), retry_after_s=chance.randint(1, 20))
            case "slow":
                self._inject(kind=kind, duration_s=lasting_s, delay_s=chance.uniform(0.5, 14))
            case "rest_lost":
                self.net_faults.requests_lost_until_ms = self.now_ms + lasting_ms
            case "unfollow" if not self.process.is_dead:
                kept = sorted(self.feeds, key=str)
                self.process.follow(frozenset(chance.sample(kept, chance.randint(1, len(kept)))))
                self.later(lasting_ms, self._follow_all)
            case "kill" if not self.process.is_dead:
                self.process.kill()
                self.later(min(chance.randint(*RESTART_MS), lasting_ms), self._begin)
            case "stream_away" | "stream_unsure" | "stream_full" | "stream_killed":
                if kind == "stream_killed":
                    self.stream.kill()
                else:
                    self.stream.state = kind.partition("_")[2]
                self.later(lasting_ms, self._stream_up)

    def _follow_all(self) -> None:
        if not self.process.is_dead:
            self.process.follow(self.feeds)

    def _stream_up(self) -> None:
        self.stream.state = "up"

    def ask(self, path: str, **params: object) -> Answer:
        """What REST answers at the end, to somebody who has not asked before and is under no limit."""
        self.counts["asked at the end"] += 1
        query = {name: str(value) for name, value in params.items()}
        return self.venues.answer(path, query, self.now_ms, f"stranger {self.counts['asked at the end']}")


_PATTERNS: Final = {
    "binance": ("*@aggTrade", "*@depth*", "*@kline*", "*@ticker", "*"),
    "okx": ("trades-all:*", "books:*", "candle*", "tickers:*", "*"),
    "deribit": ("trades.*", "book.*", "chart.*", "ticker.*", "*"),
}
