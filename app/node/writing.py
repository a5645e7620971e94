"""The writer's role: what a process runs from the moment the lease is its own until it is not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from app.domain.interval import M1
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Spans
from app.events import CommitFailed, SymbolsReplaced
from app.filling.estimate import estimate
from app.filling.fill import Filler
from app.filling.reconcile import Reconciler
from app.holding.commit import Committer
from app.holding.symbol_sync import nothing_more
from app.ingest.dispute import Disputes
from app.ingest.live import LiveIngest
from app.ingest.relisting import Relistings
from app.ingest.warm_up import WarmUp
from app.kinds.klines import KLINES
from app.node.exchange_clock import KeptTime
from app.node.parts import KEPT_TIME, Parts
from app.ports.errors import StoreUnavailable
from app.ports.store import OpenWriter
from app.querying.answer import END_OF_TIME_MS
from app.verifying.absence_audit import AbsenceAuditor
from app.verifying.audit import Auditor
from infra.binance.market_streams import MarketStreams
from infra.binance.sockets import BinanceSockets

FLUSH_S_MAX: Final = 5.0  # of the ten seconds that a shutdown may take


class Writing:
    """Ingests, backfills, verifies and keeps what is read through. `begin` makes one; `end` takes it apart again."""

    def __init__(self, parts: Parts, store: OpenWriter, listings: Mapping[str, Listing]) -> None:
        """For `begin`."""
        self._parts = parts
        self._is_estimated = False
        self.store = store
        settings, clock, observe = parts.settings, parts.clock, parts.observe
        committer = Committer(store, parts.holdings, parts.tail, parts.drop, observe, self._rows_changed)
        self._filler = Filler(
            clock,
            observe,
            parts.rest,
            parts.archive,
            parts.reader,
            committer,
            parts.holdings,
            parts.wish,
            parts.absence,
        )
        self._auditor = Auditor(clock, observe, parts.rest, store, parts.holdings, self._filler)
        self._absence_auditor = AbsenceAuditor(clock, observe, parts.rest, store, parts.holdings, committer)
        self.reconciler = Reconciler(
            clock,
            observe,
            self._filler,
            parts.holdings,
            parts.wish,
            concurrency=settings.fetch_concurrency,
            rng=parts.rng("reconcile"),
            disk_free_bytes=parts.disk_free_bytes,
            disk_free_bytes_min=settings.disk_free_bytes_min,
        )
        egress = settings.egress_to(settings.binance_ws_url)
        self.sockets = BinanceSockets(settings.binance_ws_url, clock, observe, seed=parts.seed, egress=egress)
        self.streams = MarketStreams(
            settings.binance_ws_url, clock, observe, parts.hub.deliver, self.sockets, seed=parts.seed, egress=egress
        )
        self.relistings = Relistings(
            clock,
            observe,
            parts.rest,
            store,
            committer,
            parts.symbols,
            parts.holdings,
            parts.tail,
            parts.rolling,
            parts.drop,
            listings,
            self.wake,
        )
        self._disputes = Disputes(clock, observe, parts.rest, parts.reader, parts.holdings, self._filler.keep)
        self.live = LiveIngest(
            clock,
            observe,
            self.sockets,
            parts.symbols,
            parts.holdings,
            parts.tail,
            parts.rolling,
            committer,
            parts.drop,
            parts.pages.moved,
            self._disputes,
        )
        self.live.heard = clock.heard

    # --- from the lease to its loss -----------------------------------------------------------------------------

    @classmethod
    async def begin(cls, parts: Parts, hand_over: Callable[[], Awaitable[bool]]) -> "Writing":
        """Open the database and start everything that writes. Raises StoreUnavailable, SchemaTooNew, OSError.

        `hand_over` ends what moved the tails until now: only our own commits may. It says whether they are up to date.
        """
        store = await parts.store.writer(parts.settings.db_url, parts.clock, parts.store_state.report)
        parts.forget_copies(but_tails=await hand_over())
        parts.pages.true_until_ms = END_OF_TIME_MS
        try:
            await parts.load_for_reading()
            stand_down = await store.stand_down()
            listings = await store.listings()
        except BaseException:
            await store.close()
            raise
        parts.budget.restore(*(stand_down or (0, "")))
        writing = parts.role = cls(parts, store, listings)
        try:
            await parts.guard.persist()  # one that was met while nobody could write
        except BaseException:
            parts.role = None
            await store.close()
            raise
        writing._take_over()
        writing._start()
        return writing

    async def end(self, reason: str) -> None:
        """Go back to reading only. What was not written yet is asked for again by the next writer."""
        parts = self._parts
        parts.store_state.report(f"{reason} while the node had it open; it starts over with what is there now")
        await parts.supervisor.stop(*_TASKS)
        parts.role = None
        parts.read_through.keep = parts.backfill.store = parts.health.sockets = parts.health.reconciler = None
        parts.health.queue_depth = lambda: 0
        parts.health.log_complaint = lambda: None
        parts.verifier.auditor = parts.verifier.absence_auditor = None
        parts.symbols.write_to(None)
        parts.symbols.before_saving = nothing_more
        parts.clock.keep = None
        parts.close_lag.follow(())
        parts.hub.take_from(None)
        parts.in_progress.heard_ms = lambda series: None
        parts.forget_copies()
        await self.store.close()

    async def flush(self) -> None:
        """At shutdown: take in nothing more and write what was taken in."""
        await self._parts.supervisor.stop("sockets", "ingest", "write")
        try:
            async with asyncio.timeout(FLUSH_S_MAX):
                await self.live.flush()
        except (StoreUnavailable, TimeoutError) as error:
            reason = f"at shutdown, will be fetched again: {error}"
            self._parts.observe(CommitFailed(self.live.queue_depth, reason))

    def _take_over(self) -> None:
        """Give the parts what only a writer has."""
        parts = self._parts
        parts.symbols.write_to(self.store)
        parts.symbols.before_saving = self.relistings.save
        parts.clock.keep = self._keep_time
        parts.backfill.store = self.store
        parts.verifier.auditor = self._auditor
        parts.verifier.absence_auditor = self._absence_auditor
        self.symbols_changed()
        parts.read_through.keep = self._filler.keep_read
        parts.in_progress.heard_ms = self.sockets.heard_ms
        parts.hub.take_from(self.streams)
        parts.health.sockets, parts.health.reconciler = self.sockets, self.reconciler
        parts.health.queue_depth = lambda: self.live.queue_depth
        parts.health.log_complaint = self.store.log_complaint

    def _start(self) -> None:
        parts = self._parts
        warm_up = WarmUp(parts.clock, parts.reader, parts.symbols, parts.holdings, parts.rolling)
        start = parts.supervisor.start
        start("reconcile", self._reconcile)
        start("verify", self._verify)
        start("relistings", self.relistings.run)
        if parts.extra_wishes_only:
            return
        start("symbols", parts.symbols.run)
        start("write", self.live.write)
        start("disputes", self._disputes.run)
        start("ingest", self.live.ingest)
        start("sockets", self.sockets.run)
        start("streams", self.streams.run)
        start("warm-up", warm_up.run)

    async def _reconcile(self) -> None:
        await self._parts.clock.until_measured()  # which klines are closed is the exchange's time to say
        await self.reconciler.run()

    async def _verify(self) -> None:
        await self._parts.clock.until_measured()
        await self._parts.verifier.run()

    # --- what it is asked and told ------------------------------------------------------------------------------

    @property
    def intake_depth(self) -> int:
        """Socket events that wait to be taken in."""
        return self.sockets.queue_depth

    def wake(self) -> None:
        """Wishes or what is held have changed: plan anew."""
        self.reconciler.wake()

    def store_recovered(self) -> None:
        """The database takes again what it is given."""
        self.reconciler.store_recovered()

    def streams_status(self) -> dict[str, object]:
        """The sockets that are open for streams somebody listens to."""
        return self.streams.status()

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`."""
        self.sockets.exists(series, closed_ms)

    async def save_stand_down(self, until_ms: int, reason: str) -> None:
        """Keep a stand-down."""
        await self.store.save_stand_down(until_ms, reason)

    async def _keep_time(self, kept: KeptTime) -> None:
        await self.store.save_document(KEPT_TIME, kept.encoded(), self._parts.clock.now_ms())

    def symbols_changed(self) -> None:
        """The exchange's list was read: stream what it has, plan anew, and say once what that will cost."""
        parts = self._parts
        self.relistings.look()
        parts.close_lag.follow(parts.symbols.wished)
        self.sockets.want([Series(KLINES, symbol, M1) for symbol in parts.symbols.wished])
        self.streams.ingested_changed()
        self.reconciler.wake()
        if not self._is_estimated and parts.symbols.synced_ms is not None:
            self._is_estimated = True
            self._say_what_it_costs()

    def _say_what_it_costs(self) -> None:
        parts, settings = self._parts, self._parts.settings
        is_named = settings.symbols != type(settings).model_fields["symbols"].default
        if is_named and settings.auto_sync_symbols and not parts.extra_wishes_only:
            advice = "to hold only those of SYMBOLS set AUTO_SYNC_SYMBOLS=false"
            parts.observe(SymbolsReplaced(settings.symbols, len(parts.symbols.wished), advice))
        parts.observe(
            estimate(
                parts.wish(),
                parts.holdings,
                parts.clock.now_ms(),
                weight_per_minute=settings.weight_per_minute,
                disk_free_bytes=parts.disk_free_bytes(),
                disk_free_bytes_min=settings.disk_free_bytes_min,
            )
        )

    def _rows_changed(self, series: Series, _changed: Spans) -> None:
        """Rows were replaced: buckets in progress that contain them start anew, and lost roll-ups are made again."""
        if series.interval == M1:
            self._parts.rolling.forget(series.name)
        self.reconciler.wake()


_TASKS: Final = (
    "sockets",
    "streams",
    "ingest",
    "disputes",
    "write",
    "warm-up",
    "symbols",
    "relistings",
    "verify",
    "reconcile",
)
