"""What every process is made of, whatever its role: settings → adapters → services, made once and wired together."""

import contextlib
import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from app.domain.interval import INTERVALS
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span
from app.events import Event, Observe, RequestsRefused, RowsCommitted
from app.filling.absence import Absence
from app.filling.backfill import Backfill
from app.holding.close_lag import CloseLag
from app.holding.coverage import Coverage
from app.holding.freshness import Freshness
from app.holding.ledger_cache import LedgerCache
from app.holding.store_state import StoreState
from app.holding.symbol_sync import SymbolSync
from app.holding.tail import Tail
from app.holding.wish import Wish
from app.http.direct import Timings
from app.http.market_pages import MarketPages
from app.http.page_cache import PageCache
from app.ingest.rolling import Rolling
from app.kinds.klines import KLINES
from app.kinds.registry import held_beside, named
from app.market import book_mirror, mark_mirror, trade_mirror
from app.market.book_starts import BookStarts
from app.market.market_source import MarketSource
from app.market.stream_hub import Hub
from app.node.exchange_clock import ExchangeClock, KeptTime
from app.node.health import Health
from app.node.stores import store_of
from app.node.supervisor import Supervisor
from app.ports.clock import MachineClock
from app.ports.errors import StoreUnavailable
from app.querying.in_progress import InProgress
from app.querying.names import Names
from app.querying.query import QueryService
from app.querying.read_through import ReadThrough
from app.settings import Settings
from app.sockets.connections import Connections
from app.sockets.streams import StreamServer, streams_of
from app.verifying.verify import Verifier
from infra.binance.archive import BinanceArchive
from infra.binance.breaker import Breaker
from infra.binance.budget import WeightBudget
from infra.binance.rest import BinanceRest
from infra.binance.shared_rate_state import SharedRateState
from infra.binance.stand_down import StandDownGuard
from infra.binance.unpackers import processes_for
from infra.process.clock import SystemClock
from infra.process.runtime_dir import beside, shared_by
from infra.telemetry import Telemetry

KEPT_TIME: Final = "time"  # the document that says how the exchange's time follows from this machine's clocks


class WriterRole(Protocol):
    """What the parts tell the one who writes, while this process does."""

    @property
    def intake_depth(self) -> int:
        """Socket events that wait to be taken in."""
        ...

    def wake(self) -> None:
        """Wishes or what is held have changed: plan anew."""
        ...

    def symbols_changed(self) -> None:
        """The exchange's list was read."""
        ...

    def store_recovered(self) -> None:
        """The database takes again what it is given."""
        ...

    def streams_status(self) -> dict[str, object]:
        """The sockets that are open for streams somebody listens to."""
        ...

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`."""
        ...

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Keep a stand-down."""
        ...


class Parts:
    """The parts of one process. Those that only one role has (sockets, reconciler, …) are in `writing`."""

    def __init__(
        self,
        settings: Settings,
        machine_clock: MachineClock | None,
        seed: int | None,
        observers: Iterable[Observe],
        *,
        extra_wishes_only: bool,
    ) -> None:
        self.settings = settings
        self._others = held_beside(settings.price_klines, settings.price_klines_symbols)
        self.extra_wishes_only = extra_wishes_only
        self.seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self.role: WriterRole | None = None
        self.telemetry = Telemetry(settings.log_level, observers)
        self.clock = ExchangeClock(machine_clock or SystemClock())
        self.holdings = LedgerCache()
        self.tail = Tail(settings.tail_bytes_max)
        self.close_lag = CloseLag(self.clock)
        self.tail.arrived = self.close_lag.arrived
        self.tail.is_current = self.are_copies_current
        self.rolling = Rolling(settings.interval_list)
        self.pages = PageCache(settings.cache_bytes_max, self.clock, settings.cache_ttl_sec_klines)
        self.store = store_of(settings.db_url)
        self.database = self.store.place(settings.db_url)
        self.shared = shared_by(self.database, settings.runtime_dir)
        self.timings = Timings()
        self.connections = Connections(
            connections_max=settings.connections_max, report=lambda refused: self.observe(RequestsRefused(refused))
        )
        self.reader = self.store.reader(settings.db_url)
        self.lease = self.store.lease(settings.db_url)
        self.store_state = StoreState(self.observe, self._store_changed)
        self._make_upstream()
        self._make_services()

    def rng(self, name: str) -> random.Random:
        """Chance for one part, by the node's seed."""
        return random.Random(f"{self.seed}:{name}")  # noqa: S311  jitter, not secrets

    def _make_upstream(self) -> None:
        settings, observe = self.settings, self.observe
        self.rate_state = SharedRateState(beside(self.shared, "weight"), self.clock, observe)
        self.guard = StandDownGuard(self.clock, observe, self._save_stand_down, self.rate_state)
        self.breaker = Breaker(self.clock, observe, self.rate_state, self.seed)
        self.budget = WeightBudget(
            self.clock, settings.weight_per_minute, self.rate_state, self.guard, self.breaker, observe
        )
        self.rest = BinanceRest(
            settings.binance_rest_url,
            self.clock,
            self.budget,
            observe,
            seed=self.seed,
            egress=settings.egress_to(settings.binance_rest_url),
            asking=self.clock.asking,
        )
        self.archive = BinanceArchive(
            settings.binance_archive_url,
            self.clock,
            observe,
            seed=self.seed,
            processes=processes_for(settings.archive_processes),
            collect=self.store.collect,
            egress=settings.egress_to(settings.binance_archive_url),
        )

    def _make_services(self) -> None:
        settings = self.settings
        self.supervisor = Supervisor(self.clock, self.observe, self.rng("supervisor"))
        self.hub = Hub(self.clock)
        self.stream_server = StreamServer(
            self.hub,
            self.clock,
            clients_max=settings.stream_clients_max,
            queue_bytes_max=settings.stream_queue_bytes_max,
            streams_max=streams_of(settings.workers),
        )
        self.book_starts = BookStarts(self.hub)
        self.stream_server.joined = self.book_starts.joined
        self.stream_server.is_listed = self._is_listed
        self.symbols = SymbolSync(
            self.clock,
            self.observe,
            self.rest,
            fallback=settings.symbols,
            quote_assets=settings.quote_assets,
            contract_types=settings.contract_types,
            auto=settings.auto_sync_symbols,
            every_s=settings.symbol_sync_interval_sec,
            rng=self.rng("symbols"),
            named=settings.price_klines_symbols,
            changed=self._symbols_changed,
        )
        self.names = Names(self.clock, self.symbols)
        self.coverage = Coverage(self.clock, self.holdings, self.wish)
        self.backfill = Backfill(self.holdings, self.wake)
        self.verifier = Verifier(
            self.clock, self.holdings, self.wish, self.rng("verify"), every_days=settings.verify_every_days
        )
        stale_ms_max = settings.read_stale_sec_max * 1000
        self.freshness = Freshness(self.clock, self.holdings, self.wish, stale_ms_max=stale_ms_max)
        self.freshness.as_of_ms = self.ledger_as_of_ms
        self.health = Health(self.clock, self.clock, self.symbols, self.freshness, self.supervisor, self._standing_down)
        self.health.upstream_complaints = self.budget.complaints
        self.health.streams = self._streams_report
        self.absence = Absence(self.clock, self.holdings, self.symbols.listing, self.archive)
        self.read_through = ReadThrough(
            self.clock, self.rest, self.symbols, self.holdings, self.absence, is_allowed=settings.read_through
        )
        self.in_progress = InProgress(self.clock, self.read_through, self.tail, self.rolling)
        self.query = QueryService(
            self.clock,
            self.reader,
            self.read_through,
            self.symbols,
            self.holdings,
            self.tail,
            in_progress=self.in_progress,
            stale_ms_max=stale_ms_max,
        )
        self.market = MarketSource(self.clock, self.rest, is_allowed=settings.read_through)
        self.market.held[mark_mirror.PATH] = mark_mirror.MarkMirror(self.clock, self.hub, self.observe)
        self.market.held[book_mirror.PATH] = book_mirror.BookMirror(self.clock, self.hub, self.observe)
        self.market.newest[trade_mirror.PATH] = trade_mirror.TradeMirror(self.clock, self.hub, self.observe)
        self.market_pages = MarketPages(self.clock)
        self.market_pages.is_weight_short = self.market.is_weight_short = self.budget.is_short
        self.query.is_time_known = lambda: self.clock.is_trusted
        self.query.is_wished = lambda series: self.wish().has(series)

    def wish(self) -> Wish:
        """What to hold at this moment."""
        return Wish(
            frozenset() if self.extra_wishes_only else self._held_symbols(),
            self.settings.interval_list,
            self.settings.backfill_days,
            self.symbols.listings,
            self._undoubted(self.holdings.extra_wishes),
            {} if self.extra_wishes_only else self._others,
            self.holdings.since_ms,
            self.holdings.doubted,
        )

    def _undoubted(self, wishes: Mapping[Series, Span]) -> Mapping[Series, Span]:
        """The wishes without those for names of which nobody knows whose klines are held."""
        if not self.holdings.doubted:
            return wishes
        return {series: span for series, span in wishes.items() if series.symbol not in self.holdings.doubted}

    def _held_symbols(self) -> frozenset[str]:
        """The symbols that are followed, and those delivered lately of which something is held."""
        symbols, found = self.symbols, self.symbols.wished_set
        if symbols.settled:
            found |= symbols.settled & self.holdings.names()
        return found - self.holdings.doubted if self.holdings.doubted else found

    def observe(self, event: Event) -> None:
        """Where every part of the node reports what happened."""
        self.telemetry.observe(event)
        if isinstance(event, RowsCommitted) and event.source is Source.REST and self.role is not None:
            self.role.exists(named(event.symbol, INTERVALS[event.interval]), event.span.end_ms)

    def drop(self, series: Series, span: Span) -> None:
        """Klines that open in `span` may have changed: forget what was made of them."""
        self.pages.drop(series, span)
        self.query.read_ahead.drop(series, span)
        self.read_through.memory.forget(series)

    def wake(self) -> None:
        """Wishes or what is held have changed: whoever writes plans anew."""
        if self.role is not None:
            self.role.wake()

    async def recall(self) -> None:
        """Learn from the store what must be known before anything is asked: our clock's error, and a stand-down."""
        with contextlib.suppress(StoreUnavailable):  # there may be no database yet
            if (kept := await self.reader.document(KEPT_TIME)) is not None:
                self.clock.assume(KeptTime.decoded(kept[0]))
            if (stand_down := await self.reader.stand_down()) is not None:
                self.budget.restore(*stand_down)

    async def load_for_reading(self) -> None:
        """Learn what the database holds without starting anything. Raises StoreUnavailable."""
        await self.symbols.load(self.reader)
        reader = self.reader
        self.holdings.load(await reader.ledgers(), await reader.anchors(), await reader.extra_wishes())
        self.holdings.set_listings((await reader.listings()).values())
        await self.load_checks()

    async def load_checks(self) -> None:
        """Learn what the database says of comparisons with the exchange. Raises StoreUnavailable."""
        reader = self.reader
        self.holdings.load_checks(await reader.verifications(), await reader.disagreements(), await reader.revisions())

    def forget_copies(self, *, but_tails: bool = False) -> None:
        """Nobody knows whether tails and pages are still what the store holds: they are made anew."""
        if not but_tails:
            self.tail.clear()
        self.pages.clear()
        self.query.read_ahead.clear()
        self.read_through.memory.clear()

    def are_copies_current(self) -> bool:
        """Whether tails are those of what the store holds."""
        return True

    def ledger_as_of_ms(self) -> int:
        """The moment that the ledger in memory speaks of."""
        return self.clock.now_ms()

    def disk_free_bytes(self) -> int:
        """Free disk where the database lies."""
        folder = self.database.parent
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _symbols_changed(self, removed: Sequence[str]) -> None:
        for symbol in removed:
            for interval in INTERVALS.values():
                self.tail.forget(Series(KLINES, symbol, interval))
            self.rolling.forget(symbol)
        self.stream_server.listed_changed()
        if self.role is not None:
            self.role.symbols_changed()

    def _is_listed(self, symbol: str) -> bool | None:
        """Whether the exchange lists a symbol; None while its list was never read."""
        return symbol in self.symbols.listings if self.symbols.synced_ms is not None else None

    def _store_changed(self) -> None:
        self.health.store_error = self.store_state.error
        if self.store_state.error is None and self.role is not None:
            self.role.store_recovered()

    def _streams_report(self) -> dict[str, object]:
        served = self.stream_server
        return {
            "clients": len(served.clients),
            "wanted": served.streams,
            "subscribed": self.hub.streams,
            "frames_sent": served.frames_out,
            "conflated": served.conflated,
            "cut": served.cut_total,
            "upstream": self.role.streams_status() if self.role is not None else {},
        }

    def _standing_down(self) -> tuple[int, str] | None:
        active = self.guard.active()
        return (active.until_ms, active.reason) if active else None

    async def _save_stand_down(self, until_ms: int, reason: str) -> None:
        if self.role is not None:
            await self.role.save_stand_down(until_ms, reason)
