"""The composition root: settings → adapters → services → HTTP, and the node's life from start to stop."""

import asyncio
import contextlib
import random
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from app.domain.interval import INTERVALS, M1, MINUTE_MS
from app.domain.ledger import Source
from app.domain.span import Span, Spans
from app.events import CommitFailed, Event, LeaseChanged, NodeStarted, NodeStopped, Observe, RowsCommitted
from app.http import direct
from app.http.app import create_http_app
from app.http.direct import Timings
from app.http.page_cache import PageCache
from app.http.services import Services
from app.ports import Clock, Priority, Series, StoreUnavailable
from app.services.audit import Auditor
from app.services.backfill import Backfill
from app.services.close_lag import BOUNDS_S, CloseLag
from app.services.commit import Committer
from app.services.coverage import Coverage
from app.services.dispute import Disputes
from app.services.estimate import estimate
from app.services.exchange_clock import ExchangeClock
from app.services.fill import Filler
from app.services.freshness import Freshness
from app.services.health import Health
from app.services.holdings import Holdings
from app.services.in_progress import InProgress
from app.services.live import LiveIngest
from app.services.query import QueryService
from app.services.read_through import ReadThrough
from app.services.reconcile import Reconciler
from app.services.rolling import Rolling
from app.services.store_state import StoreState
from app.services.supervisor import Supervisor
from app.services.symbol_sync import SymbolSync
from app.services.tail import Tail
from app.services.verify import Verifier
from app.services.warm_up import WarmUp
from app.services.wish import Wish
from app.settings import Settings
from infra.binance.archive import BinanceArchive
from infra.binance.breaker import Breaker
from infra.binance.budget import WeightBudget
from infra.binance.rest import BinanceRest
from infra.binance.sockets import BinanceSockets
from infra.binance.stand_down import StandDownGuard
from infra.binance.standing_file import SharedStanding
from infra.clock import SystemClock
from infra.db.lease import WriterLease
from infra.db.migrate import SchemaTooNew
from infra.db.sqlite_store import SqliteReader, SqliteWriter
from infra.db.url import sqlite_path
from infra.telemetry import Sample, Telemetry

LEASE_RETRY_S: Final = 1.0  # how soon a waiting process takes over after the writer died
RELOAD_EVERY_S: Final = 5.0  # how often a process that does not write reads the ledger for health and coverage
LEDGER_AGE_MS_MAX: Final = 15_000  # a ledger that could not be read for longer says nothing about now
FLUSH_S_MAX: Final = 5.0  # of the ten seconds that a shutdown may take


class Node:
    """One process of klinenode. `app` is its ASGI application, whose lifespan starts and stops everything else."""

    def __init__(
        self,
        settings: Settings,
        *,
        machine_clock: Clock | None = None,
        seed: int | None = None,
        observers: Iterable[Observe] = (),
        extra_wishes_only: bool = False,
    ) -> None:
        self.settings = settings
        self._extra_wishes_only = extra_wishes_only
        self._seed = random.SystemRandom().getrandbits(32) if seed is None else seed
        self._url = "" if extra_wishes_only else _local_url(settings.host, settings.port)
        self.telemetry = Telemetry(settings.log_level, observers)
        self.clock = ExchangeClock(machine_clock or SystemClock())
        self.holdings = Holdings()
        self.tail = Tail(settings.tail_bytes_max)
        self.close_lag = CloseLag(self.clock)
        self.tail.arrived = self.close_lag.arrived
        self.rolling = Rolling(settings.interval_list)
        self.pages = PageCache(settings.cache_bytes_max, self.clock, settings.cache_ttl_sec_klines)
        self.database = sqlite_path(settings.db_url)
        self.timings = Timings()
        self.reader = SqliteReader(settings.db_url)
        self.lease = WriterLease(settings.db_url)
        self.store_state = StoreState(self.observe, self._store_changed)
        self._make_upstream()
        self._make_services()
        self.writer: SqliteWriter | None = None
        self.reconciler: Reconciler | None = None
        self.live: LiveIngest | None = None
        self._is_estimated = False
        self._loaded_ms = self._newest_ms = 0
        self.app = create_http_app(
            Services(self.query, self.symbols, self.health, self.coverage, self.backfill, self.verifier),
            pages=self.pages,
            clock=self.clock,
            instrument=self.telemetry.instrument,
            timings=self.timings,
            admin_token=settings.admin_token.get_secret_value() if settings.admin_token else None,
            only_final_default=settings.only_final_default,
            lifespan=lambda _: self.running(),
        )
        self._sample_metrics()

    # --- making -------------------------------------------------------------------------------------------------

    def _rng(self, name: str) -> random.Random:
        return random.Random(f"{self._seed}:{name}")  # noqa: S311  jitter, not secrets

    def _make_upstream(self) -> None:
        settings, observe = self.settings, self.observe
        beside = self.database.with_name(f"{self.database.name}.weight")
        self.standing = SharedStanding(beside, self.clock, observe)
        self.guard = StandDownGuard(self.clock, observe, self._save_stand_down, self.standing)
        self.breaker = Breaker(self.clock, observe, self.standing, self._seed)
        self.budget = WeightBudget(
            self.clock, settings.weight_per_minute, self.standing, self.guard, self.breaker, observe
        )
        self.rest = BinanceRest(
            settings.binance_rest_url,
            self.clock,
            self.budget,
            observe,
            seed=self._seed,
            proxy=settings.proxy_for(settings.binance_rest_url),
            asking=self.clock.asking,
        )
        self.archive = BinanceArchive(
            settings.binance_archive_url,
            self.clock,
            observe,
            seed=self._seed,
            proxy=settings.proxy_for(settings.binance_archive_url),
        )

    def _make_services(self) -> None:
        settings = self.settings
        self.supervisor = Supervisor(self.clock, self.observe, self._rng("supervisor"))
        self.symbols = SymbolSync(
            self.clock,
            self.observe,
            self.rest,
            fallback=settings.symbols,
            quote_assets=settings.quote_assets,
            auto=settings.auto_sync_symbols,
            every_s=settings.symbol_sync_interval_sec,
            rng=self._rng("symbols"),
            changed=self._symbols_changed,
        )
        self.coverage = Coverage(self.clock, self.holdings, self.wish)
        self.backfill = Backfill(self.holdings, self._wake)
        self.verifier = Verifier(
            self.clock, self.holdings, self.wish, self._rng("verify"), every_days=settings.verify_every_days
        )
        stale_ms_max = settings.read_stale_sec_max * 1000
        self.freshness = Freshness(self.clock, self.holdings, self.wish, stale_ms_max=stale_ms_max)
        self.freshness.as_of_ms = self._ledger_as_of_ms
        self.health = Health(self.clock, self.clock, self.symbols, self.freshness, self.supervisor, self._standing_down)
        self.health.upstream_complaints = self.budget.complaints
        self.read_through = ReadThrough(
            self.clock, self.rest, self.symbols, self.holdings, is_allowed=settings.read_through
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
        self.query.is_time_known = lambda: self.clock.is_trusted

    def wish(self) -> Wish:
        """What to hold at this moment."""
        return Wish(
            frozenset() if self._extra_wishes_only else self.symbols.wished_set,
            self.settings.interval_list,
            self.settings.backfill_days,
            self.symbols.listings,
            self.holdings.extra_wishes,
        )

    def observe(self, event: Event) -> None:
        """Where every part of the node reports what happened."""
        self.telemetry.observe(event)
        if isinstance(event, RowsCommitted) and event.source is Source.REST and self.live is not None:
            self.sockets.exists(Series(event.symbol, INTERVALS[event.interval]), event.span.end_ms)

    # --- living -------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything, and stop it in the right order at the end."""
        try:
            async with self.supervisor:
                await self._start()
                try:
                    yield
                finally:
                    await self._stop()
        finally:
            await self.close()
            self.observe(NodeStopped("asked to"))

    async def close(self) -> None:
        """Close connections and files and give the lease back."""
        await self.rest.aclose()
        await self.archive.aclose()
        if self.writer is not None:
            await self.writer.close()
        await self.reader.close()
        self.standing.close()
        self.lease.release()

    async def load_for_reading(self) -> None:
        """Learn what the database holds without starting anything. Raises StoreUnavailable."""
        await self.symbols.load(self.reader)
        await self._load_holdings()

    async def _start(self) -> None:
        if not await self._try_to_write():
            self.supervisor.start("follow", self._follow)
        self.supervisor.start("lease", self._keep_lease)
        self.supervisor.start("read-ahead", self.query.read_ahead.run)
        self.supervisor.start("probe", lambda: self.breaker.run(self.rest.probe))
        self.supervisor.start("clock", lambda: self.clock.run(self.rest, self._rng("clock")))
        self.observe(NodeStarted(self._url, self.settings.db_url, self.settings.binance_rest_url))

    async def _stop(self) -> None:
        await self.supervisor.stop("sockets", "ingest")
        if self.live is not None:
            await self.supervisor.stop("write")
            try:
                async with asyncio.timeout(FLUSH_S_MAX):
                    await self.live.flush()
            except (StoreUnavailable, TimeoutError) as error:
                self.observe(CommitFailed(self.live.queue_depth, f"at shutdown, will be fetched again: {error}"))

    async def _try_to_write(self) -> bool:
        """Become the writer if nobody else is and the database lets us."""
        try:
            is_ours = self.lease.try_acquire(self._url)
        except OSError as error:  # at the start of the process app/prepare.py has refused what will not pass by itself
            self.store_state.report(f"nothing can be written beside {self.settings.db_url}: {error.strerror or error}")
            return False
        if not is_ours:
            self.observe(LeaseChanged(is_writer=False, holder=self.lease.holder() or "unknown"))
            return False
        try:
            await self._become_writer()
        except (StoreUnavailable, SchemaTooNew, OSError) as error:
            self.lease.release()
            self.store_state.report(f"the database cannot be written: {error}")
            return False
        except BaseException:
            self.lease.release()
            raise
        self.observe(LeaseChanged(is_writer=True, holder=self._url))
        return True

    async def _keep_lease(self) -> None:
        """Become the writer as soon as nobody is; stop being it when its database or its lease is taken away."""
        while True:
            await self.clock.sleep(LEASE_RETRY_S)
            if self.writer is not None:
                if self.writer.is_replaced():
                    await self._step_down("the database file was deleted or replaced")
                elif not self.lease.is_held():
                    await self._step_down("the lock file was deleted or replaced")
            elif self.lease.holder() is None and await self._try_to_write():
                await self.supervisor.stop("follow")

    async def _step_down(self, reason: str) -> None:
        """Become a process that only reads. What was not written yet is asked for again by the next writer."""
        assert self.writer is not None, "only a writer can step down"
        self.store_state.report(f"{reason} while the node had it open; it starts over with what is there now")
        await self.supervisor.stop(*_WRITER_TASKS)
        writer, self.writer, self.reconciler, self.live = self.writer, None, None, None
        self.read_through.keep = self.backfill.store = self.health.sockets = self.health.reconciler = None
        self.verifier.auditor = None
        self.symbols.write_to(None)
        self.close_lag.follow(())
        self.in_progress.heard_ms = lambda series: None
        self.tail.forget_live()
        self.pages.clear()
        await writer.close()
        self.lease.release()
        self.holdings.load({}, {}, {})
        self.supervisor.start("follow", self._follow)

    async def _follow(self) -> None:
        """Keep up with what the writer knows: for health, coverage and the symbols."""
        while True:
            with contextlib.suppress(StoreUnavailable):  # there may be no database yet; reads say so themselves
                await self.load_for_reading()
                self._learn_time()
                if (standing := await self.reader.stand_down()) is not None:
                    self.budget.restore(*standing)
            await self.clock.sleep(RELOAD_EVERY_S)

    def _learn_time(self) -> None:
        """A writer that hears the exchange commits klines as they close: seeing that confirms our clock."""
        newest_ms = max((ledger.end_ms for ledger in self.holdings.all().values()), default=0)
        if 0 < self._newest_ms < newest_ms and 0 <= self.clock.now_ms() - newest_ms < MINUTE_MS:
            self.clock.confirm()
        self._newest_ms = newest_ms

    def _ledger_as_of_ms(self) -> int:
        """The moment that the ledger in memory speaks of: now, unless another process writes and we read lately."""
        now_ms = self.clock.now_ms()
        is_recent = self.writer is None and 0 <= now_ms - self._loaded_ms <= LEDGER_AGE_MS_MAX
        return self._loaded_ms if is_recent else now_ms

    async def _load_holdings(self) -> None:
        reader, loaded_ms = self.reader, self.clock.now_ms()
        self.holdings.load(await reader.ledgers(), await reader.anchors(), await reader.extra_wishes())
        self.holdings.load_checks(await reader.verifications(), await reader.disagreements(), await reader.revisions())
        self._loaded_ms = loaded_ms

    async def _become_writer(self) -> None:
        writer = await SqliteWriter.open(self.settings.db_url, self.clock, report=self.store_state.report)
        try:
            await self.load_for_reading()
            standing = await writer.stand_down()
        except BaseException:
            await writer.close()
            raise
        self.budget.restore(*(standing or (0, "")))
        self.writer = writer
        await self.guard.persist()  # one that was met while nobody could write
        self.symbols.write_to(writer)
        self.backfill.store = writer
        committer = Committer(writer, self.holdings, self.tail, self._drop, self.observe, self._rows_changed)
        filler = Filler(
            self.clock, self.observe, self.rest, self.archive, self.reader, committer, self.holdings, self.wish
        )
        self.verifier.auditor = Auditor(self.clock, self.observe, self.rest, writer, self.holdings, filler)
        self.reconciler = self._make_reconciler(filler)
        self.sockets = BinanceSockets(
            self.settings.binance_ws_url,
            self.clock,
            self.observe,
            seed=self._seed,
            proxy=self.settings.proxy_for(self.settings.binance_ws_url),
        )
        self.disputes = Disputes(self.clock, self.observe, self.rest, self.reader, self.holdings, filler.keep)
        self.live = LiveIngest(
            self.clock,
            self.observe,
            self.sockets,
            self.symbols,
            self.holdings,
            self.tail,
            self.rolling,
            committer,
            self._drop,
            self.pages.moved,
            self.disputes,
        )
        self._symbols_changed(())
        self.live.heard = self.clock.heard
        self.read_through.keep = filler.keep_read
        self.in_progress.heard_ms = self.sockets.heard_ms
        self.health.sockets, self.health.reconciler = self.sockets, self.reconciler
        self.health.queue_depth = lambda: self.live.queue_depth if self.live else 0
        self._start_writing(self.reconciler, self.live, self.sockets)

    def _make_reconciler(self, filler: Filler) -> Reconciler:
        return Reconciler(
            self.clock,
            self.observe,
            filler,
            self.holdings,
            self.wish,
            concurrency=self.settings.fetch_concurrency,
            rng=self._rng("reconcile"),
            disk_free_bytes=self.disk_free_bytes,
            disk_free_bytes_min=self.settings.disk_free_bytes_min,
        )

    def _start_writing(self, reconciler: Reconciler, live: LiveIngest, sockets: BinanceSockets) -> None:
        warm_up = WarmUp(self.clock, self.reader, self.symbols, self.holdings, self.rolling)
        start = self.supervisor.start
        start("reconcile", lambda: self._reconcile(reconciler))
        start("verify", self._verify)
        if self._extra_wishes_only:
            return
        start("symbols", self.symbols.run)
        start("write", live.write)
        start("disputes", self.disputes.run)
        start("ingest", live.ingest)
        start("sockets", sockets.run)
        start("warm-up", warm_up.run)

    async def _reconcile(self, reconciler: Reconciler) -> None:
        await self.clock.until_measured()  # which klines are closed is the exchange's time to say
        await reconciler.run()

    async def _verify(self) -> None:
        await self.clock.until_measured()
        await self.verifier.run()

    # --- reacting -----------------------------------------------------------------------------------------------

    def _symbols_changed(self, removed: Sequence[str]) -> None:
        for symbol in removed:
            self.tail.forget(symbol)
            self.rolling.forget(symbol)
        if self.reconciler is None or self.live is None:
            return
        self.close_lag.follow(self.symbols.wished)
        self.sockets.want([Series(symbol, M1) for symbol in self.symbols.wished])
        self.reconciler.wake()
        if not self._is_estimated and self.symbols.synced_ms is not None:
            self._is_estimated = True
            self.observe(
                estimate(
                    self.wish(),
                    self.holdings,
                    self.clock.now_ms(),
                    weight_per_minute=self.settings.weight_per_minute,
                    disk_free_bytes=self.disk_free_bytes(),
                )
            )

    def _drop(self, series: Series, span: Span) -> None:
        """Klines that open in `span` may have changed: forget what was made of them."""
        self.pages.drop(series, span)
        self.query.read_ahead.drop(series, span)

    def _rows_changed(self, series: Series, _changed: Spans) -> None:
        """Rows were replaced: buckets in progress that contain them start anew, and lost roll-ups are made again."""
        if series.interval == M1:
            self.rolling.forget(series.symbol)
        self._wake()

    def _store_changed(self) -> None:
        self.health.store_error = self.store_state.error
        if self.store_state.error is None and self.reconciler is not None:
            self.reconciler.store_recovered()

    def _wake(self) -> None:
        if self.reconciler is not None:
            self.reconciler.wake()

    def _standing_down(self) -> tuple[int, str] | None:
        active = self.guard.active()
        return (active.until_ms, active.reason) if active else None

    async def _save_stand_down(self, until_ms: int, reason: str) -> None:
        if self.writer is not None:
            await self.writer.save_stand_down(until_ms, reason)

    def disk_free_bytes(self) -> int:
        """Free disk where the database lies."""
        folder = self.database.parent
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _sample_metrics(self) -> None:
        def gauge(name: str, documentation: str, read: Callable[[], float]) -> None:
            self.telemetry.sample(name, documentation, lambda: [({}, read())])

        gauge("klinenode_page_cache_hits", "Klines answers from the page cache.", lambda: self.pages.hits)
        gauge(
            "klinenode_pages_read_ahead",
            "Pages of history that were read before they were asked for.",
            lambda: self.query.read_ahead.taken,
        )
        gauge("klinenode_page_cache_misses", "Klines answers that were rendered.", lambda: self.pages.misses)
        gauge("klinenode_page_cache_not_modified", "Hits answered with 304.", lambda: self.pages.not_modified)
        gauge("klinenode_page_cache_bytes", "Bytes of rendered answers.", lambda: self.pages.bytes)
        gauge("klinenode_page_cache_entries", "Rendered answers kept.", lambda: self.pages.entries)
        gauge(
            "klinenode_write_queue_depth", "Closed klines that wait to be written.", lambda: self.health.queue_depth()
        )
        gauge(
            "klinenode_intake_queue_depth",
            "Socket events that wait to be taken in.",
            lambda: self.sockets.queue_depth if self.live else 0,
        )
        gauge("klinenode_database_bytes", "Size of the database file.", lambda: _size_bytes(self.database))
        gauge(
            "klinenode_wal_bytes",
            "Size of the database's write-ahead log; it grows while a reader keeps a transaction open.",
            lambda: _size_bytes(self.database.with_name(f"{self.database.name}-wal")),
        )
        gauge("klinenode_disk_free_bytes", "Free disk where the database lies.", self.disk_free_bytes)
        gauge("klinenode_tail_rows", "Newest klines kept encoded in memory.", lambda: self.tail.rows)
        gauge("klinenode_upstream_weight_booked", "REST weight booked this minute by us.", lambda: self.budget.used)
        gauge(
            "klinenode_stand_down_until_seconds",
            "End of the last stand-down, Unix time.",
            lambda: self.guard.until_ms / 1000,
        )
        gauge("klinenode_exchange_silent", "1 while only probes are sent.", lambda: float(self.budget.is_silent))
        for name, documentation, read in (
            ("klinenode_upstream_weight_ceiling", "Weight a minute up to which requests leave.", self.budget.ceiling),
            ("klinenode_upstream_waiting", "Requests that wait for weight.", self.budget.waiting),
        ):
            self.telemetry.sample(name, documentation, _by_priority(read))
        gauge("klinenode_is_writer", "1 in the process that ingests.", lambda: float(self.writer is not None))
        self.telemetry.sample_histogram(
            "klinenode_klines_answer_seconds",
            "Time to answer klines requests that no page was there for.",
            direct.BOUNDS_S,
            lambda: [({}, self.timings.counts, self.timings.total_s)],
        )
        self.telemetry.sample_histogram(
            "klinenode_close_lag_seconds",
            "From a kline's close at the exchange until it can be served, by interval, whatever brought it.",
            BOUNDS_S,
            self.close_lag.histograms,
        )
        self.telemetry.sample(
            "klinenode_tail_lag_seconds",
            "Age of the newest held kline, worst symbol, by interval.",
            self.coverage.tail_lags,
        )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # none yet, or no longer readable; health says so


def _by_priority(read: Callable[[Priority], int]) -> Sample:
    return lambda: [({"priority": priority.name.lower()}, read(priority)) for priority in Priority]


def _local_url(host: str, port: int) -> str:
    """Where a program on this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  told apart, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_WRITER_TASKS: Final = ("sockets", "ingest", "disputes", "write", "warm-up", "symbols", "verify", "reconcile")
