"""The parts of every process, whatever its role: settings → adapters → services, made once and wired together."""

import contextlib
import random
import secrets
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from app.access.key_file import KeyFile
from app.access.key_gate import KeyGate
from app.collecting.collector import Collector
from app.domain.interval import INTERVALS
from app.domain.kind import Kind
from app.domain.ledger import Source
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.events import Event, Observe, RequestsRefused, RowsCommitted
from app.exporting.progress import ExportProgress
from app.filling.absence import Absence
from app.filling.backfill import Backfill
from app.holding.close_lag import CloseLag
from app.holding.copies import Copies
from app.holding.coverage import Coverage
from app.holding.freshness import Freshness
from app.holding.inventory import Inventory
from app.holding.ledger_cache import LedgerCache
from app.holding.metrics_looks import looks_of
from app.holding.rest_forms import RestForms
from app.holding.rolling import Rolling
from app.holding.seen_changes import OwnJournal, SeenChanges
from app.holding.store_state import StoreState
from app.holding.symbol_sync import Selection, SymbolSync
from app.holding.tail import Tail
from app.holding.wish import Wish
from app.http.direct import Timings
from app.http.klines import PATH as KLINES_PATH
from app.http.market_pages import MarketPages
from app.http.page_cache import PageCache
from app.kinds.klines import KLINES
from app.kinds.registry import KINDS, funding_of, held_beside, metrics_of, named
from app.market import book_mirror, depth_mirror, mark_mirror, trade_mirror
from app.market.book_starts import PATHS, BookStarts
from app.market.depth_mirror import no_book
from app.market.market_source import MarketSource
from app.market.stream_hub import Hub
from app.node.caches import cache_of
from app.node.exchange_clock import ExchangeClock, KeptTime
from app.node.follower import Follower
from app.node.health import Health, Vitals
from app.node.log_style import log_style
from app.node.role import Role
from app.node.shared_path import shared_path
from app.node.stores import Reading, store_of
from app.node.supervisor import Supervisor
from app.node.tracing import traces_of
from app.node.upstream import Upstream
from app.ports.clock import MachineClock
from app.ports.coordination import RpcRequest, RpcResponse, StreamFanoutClient, StreamFanoutServer, WriterRpc
from app.ports.errors import StoreDamaged, StoreUnavailable
from app.ports.store import EVERYTHING, OpenWriter
from app.querying.archived_rows import ByOrigin
from app.querying.as_of import AsOf
from app.querying.events import Events
from app.querying.gather import Gatherer
from app.querying.in_progress import InProgress
from app.querying.names import Names
from app.querying.prove import Prover
from app.querying.query import QueryService
from app.querying.read_through import ReadThrough
from app.querying.shared_live import SharedLive
from app.querying.shared_rows import SharedRows
from app.querying.statistics import Statistics
from app.runtime import Runtime
from app.setting_values import local_url
from app.settings import ALL_SYMBOLS, Settings
from app.sockets.connections import Connections
from app.sockets.streams import StreamLimits, StreamServer, streams_of
from app.verifying.verify import Verifier
from infra.binance.archive import BinanceArchive
from infra.binance.unpack import Gathered
from infra.binance.unpackers import processes_for
from infra.lines import stream_fanout, writer_rpc
from infra.lines.stream_fanout import LineStreamFanoutClient, LineStreamFanoutServer
from infra.lines.writer_rpc import LineWriterRpc
from infra.local.quota_counter import LocalQuotaCounter
from infra.local.time_file import TimeFile
from infra.local.token_file import TokenFile
from infra.local.unix_socket import UnixSocket
from infra.process.clock import SystemClock
from infra.remote.lines import Holder, RemoteLine, RemoteLines
from infra.telemetry import Telemetry

GENERATION: Final = "cache-generation"  # the stored document with the name of what this writer's nodes share
KEPT_TIME: Final = "time"  # the stored document with the clock correction (KeptTime)


class Parts:
    """The parts of one process. Those that only a writer has (sockets, reconciler, …) are in `Writer`."""

    def __init__(
        self,
        settings: Settings,
        machine_clock: MachineClock | None = None,
        seed: int | None = None,
        observers: Iterable[Observe] = (),
        *,
        extra_wishes_only: bool = False,
    ) -> None:
        self.settings = settings
        self._others = held_beside(settings.price_klines, settings.price_klines_symbols)
        self.extra_wishes_only = extra_wishes_only
        self.url = settings.node_url or local_url(settings.host, settings.port)
        self.traces = traces_of(self.url)
        observers = (*observers, *self.traces.observers)
        self.telemetry = Telemetry(settings.log_level, observers, log_style(settings, self.traces.ids))
        self.clock = ExchangeClock(machine_clock or SystemClock())
        self.runtime = Runtime(
            self.clock,
            self.observe,
            random.SystemRandom().getrandbits(32) if seed is None else seed,
            self.traces.work,
        )
        self.store = store_of(settings.db_url, timescale=settings.timescale)
        self.database = self.store.file(settings.db_url)
        self.shared = shared_path(settings)
        self.reader = self.store.reader(
            Reading(settings.db_url, self.repair, settings.db_read_url, lambda: self.follower.change_seen, self.observe)
        )
        self.feed = self.store.change_feed(settings.db_url)
        self.lease = self.store.lease(settings.db_url)
        self.store_state = StoreState(self.observe, self._store_changed)
        self._make_lines()
        self.token_file = TokenFile(self.shared)
        self.time_file = TimeFile(self.shared)
        self.quotas = LocalQuotaCounter(self.shared, self.observe) if settings.api_keys_file else None
        self.gate = None if self.quotas is None else KeyGate(self.clock, self.quotas)
        self.key_file = (
            None
            if self.gate is None
            else KeyFile(Path(settings.api_keys_file), self.clock, self.observe, self.gate.use)
        )
        self.collector: Collector | None = None
        """What collects other market data onto NATS; in the process that runs it only."""
        self.held_book: depth_mirror.BookOf = no_book
        """The order books that it holds."""
        self.supervisor = Supervisor(self.clock, self.observe, self.runtime.rng("supervisor"))
        self._make_upstream()
        self._make_memory()
        self._make_shared()
        self._make_services()
        self._make_streams()
        self.follower = Follower(self)
        self.role: Role = self.follower
        """The role of this process; only `Node` (through `Writer`) swaps it."""

    def _make_lines(self) -> None:
        """How this process reaches the writer, and others this one: on this machine, and at NODE_URL from elsewhere."""
        settings = self.settings
        token = settings.cluster_token.get_secret_value() if settings.cluster_token else None
        holder = Holder(lambda: self.lease.holder(), self.url, token)
        names = writer_rpc.ENDING, stream_fanout.ENDING
        line, self._streams_line = (RemoteLine(name, UnixSocket(self.shared, name), holder) for name in names)
        self.writer_rpc: WriterRpc = LineWriterRpc(line)
        self.lines = RemoteLines(dict(zip(names, (line, self._streams_line), strict=True)), token)

    def _make_upstream(self) -> None:
        settings = self.settings
        self.upstream = Upstream(settings, self.runtime, self.shared, self._keep_stand_down, self.clock.asking)
        self.guard, self.budget, self.rest = self.upstream.guard, self.upstream.budget, self.upstream.rest
        self.archive = BinanceArchive(
            settings.destination(settings.binance_archive_url),
            self.runtime,
            processes=processes_for(settings.archive_processes),
            collect=self.store.collect if settings.seal_after_days else Gathered,
        )

    def _make_memory(self) -> None:
        settings = self.settings
        self.close_lag = CloseLag(self.clock)
        self.pages = PageCache(settings.cache_bytes_max, self.clock, settings.cache_ttl_sec_klines)
        self.symbols = SymbolSync(
            self.clock,
            self.observe,
            self.rest,
            Selection(
                settings.symbols,
                settings.quote_assets,
                settings.contract_types,
                settings.auto_sync_symbols,
                (*settings.price_klines_symbols, *({*settings.metrics, *settings.funding} - {ALL_SYMBOLS})),
            ),
            lambda body, received_ms: self.role.keep_symbols(body, received_ms),
            self._symbols_changed,
        )
        self.holdings = LedgerCache()
        self.tail = Tail(settings.tail_bytes_max, lambda: self.role.are_copies_current(), self.close_lag.arrived)
        self.rolling = Rolling(settings.interval_list)
        self.copies = Copies(self.symbols, self.holdings, self.tail, self.rolling, self.drop, self.pages.moved)
        self.inventory = Inventory(self.holdings, self.wish)

    def _make_shared(self) -> None:
        """What processes share beside the database: klines in progress, and by CACHE_URL what they have read."""
        self.generation: str | None = None
        self.cache = cache_of(self.settings.cache_url, self.clock, self.observe, self.runtime.seed)
        self.seen = SeenChanges(self.clock)
        self.own_journal = OwnJournal(self.clock, self.feed, self.seen, lambda: self.role.is_writer)
        self.shared_live = SharedLive(
            self.clock, self.cache, self.ask, lambda: self.generation, lambda: self.role.is_writer
        )
        self.shared_rows = SharedRows(self.reader, self.cache, self.seen, lambda: self.generation)

    def _make_services(self) -> None:
        settings, clock = self.settings, self.clock
        stale_ms_max = settings.read_stale_sec_max * 1000
        self.timings = Timings()
        self.exports = ExportProgress()
        self.connections = Connections(
            connections_max=settings.connections_max, report=lambda refused: self.observe(RequestsRefused(refused))
        )
        self.names = Names(clock, self.symbols, self._look_for)
        self.rest_forms = RestForms(clock, self.reader, self.observe, self._form_changed)
        self.coverage = Coverage(clock, self.inventory, self.rest_forms.of, partial(looks_of, self.reader))
        self.backfill = Backfill(self.holdings, lambda: self.role.store, self.wake)
        self.verifier = Verifier(
            clock,
            self.inventory,
            self.runtime.rng("verify"),
            lambda: self.role.auditors,
            every_days=settings.verify_every_days,
            traced=self.traces.work,
        )
        freshness = Freshness(lambda: self.role.ledger_as_of_ms(), self.inventory, stale_ms_max=stale_ms_max)
        vitals = Vitals(
            role=lambda: self.role,
            store_error=lambda: self.store_state.error,
            stand_down=self._standing_down,
            upstream_complaints=self.budget.complaints,
            streams=self._streams_report,
            notes=self._notes,
            gathered=self.coverage.gathered,
            collector=lambda: None if self.collector is None else self.collector.health,
        )
        self.health = Health(clock, self.symbols, freshness, self.supervisor, vitals)
        self.absence = Absence(clock, self.holdings, self.symbols.listing, self.archive)
        self.read_through = ReadThrough(
            clock,
            self.rest,
            self.copies,
            self.absence,
            lambda series, grid, span, rows: self.role.keep_read(series, grid, span, rows),
            is_allowed=settings.read_through,
        )
        self.in_progress = InProgress(
            clock,
            self.read_through,
            self.tail,
            self.rolling,
            lambda series: self.role.last_seen_ms(series),
            self.shared_live,
        )
        self.gatherer = Gatherer(clock, self.reader, self.copies, self.shared_rows.read if settings.cache_url else None)
        prover = Prover(clock, self.read_through, self.holdings, stale_ms_max=stale_ms_max)
        self.statistics = Statistics(
            clock,
            self.reader,
            ByOrigin(self.reader, self.rest_forms),
            self.holdings,
            lambda series: Spans(self.wish().spans(series, self.holdings.grid(series), clock.now_ms())),
            lambda series, grid, span, rows: self.role.keep_read(series, grid, span, rows),
            lambda: self.role.are_copies_current(),
            is_retention_strict=settings.strict_retention,
        )
        self.events = Events(
            clock,
            self.reader,
            self.holdings,
            lambda series: self.wish().has(series),
            lambda series, grid, span, rows: self.role.keep_read(series, grid, span, rows),
            lambda: self.role.are_copies_current(),
        )
        self.as_of = AsOf(clock, self.reader, self.inventory, self.rest_forms)
        self.query = QueryService(clock, self.copies, self.gatherer, prover, self.in_progress, self.wish)

    def _make_streams(self) -> None:
        settings, clock = self.settings, self.clock
        self.hub = Hub(clock)
        self.stream_fanout_server: StreamFanoutServer = LineStreamFanoutServer(self._streams_line)
        self.stream_fanout_client: StreamFanoutClient = LineStreamFanoutClient(
            self._streams_line, clock, self.hub.deliver
        )
        self.book_starts = BookStarts(self.hub, clock)
        limits = StreamLimits(
            settings.stream_clients_max, settings.stream_queue_bytes_max, streams_of(settings.workers)
        )
        self.stream_server = StreamServer(self.hub, clock, limits, self.names, self.book_starts.joined)
        self.market = MarketSource(
            clock,
            self.rest,
            {
                mark_mirror.PATH: mark_mirror.MarkMirror(clock, self.hub, self.observe),
                depth_mirror.PATH: depth_mirror.DepthMirror(
                    clock,
                    lambda symbol: self.held_book(symbol),
                    lambda symbol: self.book_starts.started_ms(PATHS[depth_mirror.PATH], symbol),
                ),
                book_mirror.PATH: book_mirror.BookMirror(clock, self.hub, self.observe),
            },
            {trade_mirror.PATH: trade_mirror.TradeMirror(clock, self.hub, self.observe)},
            self.budget.is_short,
            is_allowed=settings.read_through,
        )
        self.market_pages = MarketPages(clock, self.budget.is_short)

    def wish(self) -> Wish:
        """The current wish."""
        return Wish(
            frozenset() if self.extra_wishes_only else self._held_symbols(),
            self.settings.interval_list,
            self.settings.backfill_days,
            self.symbols.listings,
            self._undoubted(self.holdings.extra_wishes),
            {} if self.extra_wishes_only else self._wished_beside(),
            self.holdings.since_ms,
            self.holdings.doubted,
        )

    def _wished_beside(self) -> Mapping[Kind, Collection[str]]:
        """By kind: the symbols, or pairs, of the series that are wished beside klines of trades."""
        found: dict[Kind, Collection[str]] = dict(self._others)
        for names, kinds_of in ((self.settings.metrics, metrics_of), (self.settings.funding, funding_of)):
            if names:
                found |= kinds_of(self._held_symbols() if names == (ALL_SYMBOLS,) else names)
        return found

    def _undoubted(self, wishes: Mapping[Series, Span]) -> Mapping[Series, Span]:
        """The wishes without those for doubted names, whose held klines may belong to another listing."""
        if not self.holdings.doubted:
            return wishes
        return {series: span for series, span in wishes.items() if series.symbol not in self.holdings.doubted}

    def _held_symbols(self) -> frozenset[str]:
        """The wished symbols, and recently delivered ones of which klines are held, without doubted names."""
        symbols, found = self.symbols, self.symbols.wished_set
        if symbols.settled:
            found |= symbols.settled & self.holdings.names()
        return found - self.holdings.doubted if self.holdings.doubted else found

    def observe(self, event: Event) -> None:
        """Receive the events of every part of the node and pass them to telemetry."""
        self.telemetry.observe(event)
        if isinstance(event, RowsCommitted) and event.source is Source.REST:
            self.role.exists(named(event.symbol, INTERVALS[event.interval]), event.span.end_ms)

    def drop(self, series: Series, span: Span) -> None:
        """Invalidate everything derived from klines that open in `span`, which may have changed (`Copies.drop`)."""
        if self.settings.cache_url and self.role.is_writer:
            self.seen.changed(series, span)
        self.pages.drop(series, span)
        self.gatherer.read_ahead.drop(series, span)
        self.read_through.memory.forget(series)

    def _form_changed(self, symbol: str) -> None:
        """Invalidate answers with rows from the archive, which are printed in another form from now on."""
        kinds = [kind for kind in KINDS.values() if kind.archived_form is not None]
        for kind in kinds:
            for interval in kind.intervals:
                self.drop(Series(kind, symbol, interval), EVERYTHING)
        self.market_pages.drop({kind.rest.path for kind in kinds}, symbol)

    def repair(self, error: StoreDamaged) -> None:
        """Have the writer give up a damaged block that a read has met, and fetch its rows again."""
        self.role.repair(error)

    def wake(self) -> None:
        """Make the writer plan again: wishes or held klines have changed."""
        self.role.wake()

    async def recall(self) -> bool:
        """Load what must be known before the first request to the exchange: the clock correction and a stand-down.

        Returns whether the database could be read; there may be none yet.
        """
        if (noted := self._noted_time()) is not None:
            self.clock.assume(noted)
        with contextlib.suppress(StoreUnavailable):
            if noted is None and (kept := await self.reader.document(KEPT_TIME)) is not None:
                self.clock.assume(KeptTime.decoded(kept[0]))
            if (stand_down := await self.reader.stand_down()) is not None:
                await self.budget.restore(*stand_down)
            return True
        return False

    async def keep_time(self, kept: KeptTime) -> None:
        """Keep the clock correction on this machine, and, as the writer, in the store. Raises StoreUnavailable."""
        self.time_file.write(kept.encoded())
        await self.role.keep_time(kept)

    def _noted_time(self) -> KeptTime | None:
        noted = self.time_file.read()
        try:
            return None if noted is None else KeptTime.decoded(noted)
        except ValueError:  # not what a node wrote
            return None

    async def load_for_reading(self) -> None:
        """Load symbols, ledgers, wishes and checks from the store. Raises StoreUnavailable."""
        await self.symbols.load(self.reader)
        reader = self.reader
        self.holdings.load(await reader.ledgers(), await reader.anchors(), await reader.extra_wishes())
        self.holdings.set_listings((await reader.listings()).values())
        await self.load_checks()

    async def load_checks(self) -> None:
        """Load the results of comparisons with the exchange from the store. Raises StoreUnavailable."""
        reader = self.reader
        self.holdings.load_checks(await reader.verifications(), await reader.disagreements(), await reader.revisions())

    async def begin_generation(self, store: OpenWriter) -> None:
        """As the writer: give a new name to what is shared from now on. Raises StoreUnavailable.

        A database that was restored from a copy has change numbers that were in use before, with other changes.
        """
        if self.settings.cache_url:
            name = secrets.token_hex(8)
            await store.save_document(GENERATION, name.encode(), self.clock.now_ms())
            self.generation = name

    async def load_generation(self) -> None:
        """As a follower: read the name of what is shared. Raises StoreUnavailable."""
        if self.settings.cache_url and (stored := await self.reader.document(GENERATION)) is not None:
            self.generation = stored[0].decode(errors="replace")

    def forget_copies(self, *, but_tails: bool = False) -> None:
        """Invalidate pages, and tails unless `but_tails`: they may no longer match the store."""
        if not but_tails:
            self.tail.clear()
        self.pages.clear()
        self.gatherer.read_ahead.clear()
        self.read_through.memory.clear()
        self.rest_forms.clear()

    # --- requests to the writer process -------------------------------------------------------------------------

    async def is_elsewhere(self) -> bool:
        """Whether another process writes."""
        return not self.role.is_writer and await self.lease.holder() is not None

    async def ask(self, request: RpcRequest) -> RpcResponse:
        """Forward a request to the writer process and return its response. Raises WriterUnreachable."""
        return await self.writer_rpc.ask(request)

    async def _look_for(self, name: str) -> None:
        """Fetch the exchange's list again, which may have `name` by now; the writer fetches it for all processes."""
        if not await self.is_elsewhere():
            await self.symbols.refresh()
            return
        query = urlencode({"symbol": name, "interval": "1m", "limit": 1})
        await self.ask(RpcRequest("GET", KLINES_PATH, query, "", [], b""))
        await self.symbols.load(self.reader)

    def disk_free_bytes(self) -> int | None:
        """Free bytes of the disk that holds the database; None when a server keeps it."""
        if self.database is None:
            return None
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
        self.role.symbols_changed()

    def _store_changed(self) -> None:
        if self.store_state.error is None:
            self.role.store_recovered()

    def _notes(self) -> list[str]:
        notes = [] if (note := self.store.library().note) is None else [note]
        notes += [f"no traces are sent: {self.traces.fault}"] if self.traces.fault else []
        if self.key_file is not None and self.key_file.trouble is not None:
            notes.append(f"API_KEYS_FILE is not in force as it is: {self.key_file.trouble}")
        return notes

    def _streams_report(self) -> dict[str, object]:
        served = self.stream_server
        return {
            "clients": len(served.clients),
            "wanted": served.streams,
            "subscribed": self.hub.streams,
            "frames_sent": served.frames_out,
            "conflated": served.conflated,
            "cut": served.cut_total,
            "upstream": self.role.streams_status(),
        }

    def _standing_down(self) -> tuple[int, str] | None:
        active = self.guard.active()
        return (active.until_ms, active.reason) if active else None

    async def _keep_stand_down(self, until_ms: int, reason: str) -> None:
        await self.role.keep_stand_down(until_ms, reason)
