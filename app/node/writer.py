"""The writer's role: what a process runs while it holds the lease."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

from app.domain import letters
from app.domain.interval import DAY_MS, M1, Grid
from app.domain.kind import Bucket, Row
from app.domain.series import Series
from app.domain.span import Span, Spans
from app.events import CommitFailed, SymbolsReplaced
from app.filling.archived_metrics import ArchivedMetrics
from app.filling.estimate import estimate
from app.filling.fill import Filler
from app.filling.gathering import Gathering
from app.filling.joining import Joining
from app.filling.reconcile import Reconciler
from app.filling.room import Room, row_disk_bytes
from app.holding.commit import Committer
from app.holding.sealing import Sealer
from app.holding.symbol_sync import DOCUMENT
from app.ingest.dispute import Disputes
from app.ingest.live import LiveIngest
from app.ingest.relisting import Relistings
from app.ingest.warm_up import WarmUp
from app.kinds.klines import KLINES
from app.market.depth_mirror import no_book
from app.node.exchange_clock import KeptTime
from app.node.parts import KEPT_TIME, Parts
from app.node.supervisor import Main
from app.ports.errors import StoreDamaged, StoreUnavailable
from app.ports.exchange import Exchange
from app.ports.store import OpenWriter
from app.querying.answer import END_OF_TIME_MS
from app.settings import load
from app.verifying.absence_audit import AbsenceAuditor
from app.verifying.audit import Auditor
from app.verifying.verify import Auditors
from infra.binance.market_streams import MarketStreams
from infra.binance.sockets import BinanceSockets

FLUSH_S_MAX: Final = 4.0  # of the ten seconds that a shutdown may take: four are for requests, two to close the store


class Writer:
    """Ingests, backfills, verifies and stores read-through klines. `begin` creates and starts it; `end` stops it.

    See `app.node.role.Role`.
    """

    def __init__(self, parts: Parts, store: OpenWriter) -> None:
        """Used by `begin` only."""
        self._parts = parts
        self._is_estimated = False
        self._tasks: list[str] = []
        """The names of the tasks that end with it."""
        self._store = store
        settings, runtime, copies, inventory = parts.settings, parts.runtime, parts.copies, parts.inventory
        clock, observe = runtime.clock, runtime.observe
        committer = Committer(store, copies, observe, self._rows_changed, runtime.traced)
        exchange = Exchange(parts.rest, parts.archive)
        self._filler = Filler(runtime, exchange, parts.reader, committer, inventory, parts.absence)
        self._auditors = Auditors(
            Auditor(clock, observe, parts.rest, store, parts.holdings, self._filler),
            AbsenceAuditor(clock, observe, parts.rest, store, parts.holdings, committer),
        )
        row_bytes = row_disk_bytes(settings.seal_after_days)
        room = Room(parts.disk_free_bytes, settings.disk_free_bytes_min, row_bytes)
        self.reconciler = Reconciler(runtime, self._filler, inventory, room, concurrency=settings.fetch_concurrency)
        self.gathering = Gathering(runtime, parts.rest, committer, inventory, is_data_shared=settings.is_data_shared)
        self.joining = Joining(runtime, store, parts.rest_forms)
        self.archived = ArchivedMetrics(runtime, parts.archive, store, committer, inventory, self.joining, room)
        ws = settings.destination(settings.binance_ws_url)
        self.sockets = BinanceSockets(ws, runtime)
        self.streams = MarketStreams(ws, runtime, parts.hub.deliver, self.sockets)
        self.relistings = Relistings(runtime, parts.rest, store, committer, copies, self.wake)
        after_ms = int(settings.seal_after_days * DAY_MS)
        self.sealer = Sealer(clock, observe, store, parts.holdings, committer, after_ms)
        self._disputes = Disputes(clock, observe, parts.rest, parts.reader, parts.holdings, self._filler.keep)
        self.live = LiveIngest(runtime, self.sockets, copies, committer, self._disputes, parts.clock.heard)

    # --- from the lease to its loss -----------------------------------------------------------------------------

    @classmethod
    async def begin(cls, parts: Parts) -> "Writer":
        """Open the database and start everything that writes. Raises StoreUnavailable, SchemaTooNew, OSError.

        The follower hands over first: from then on only this process's commits change the tails.
        """
        store = await parts.store.writer(parts.settings.db_url, parts.clock, parts.store_state.report, parts.repair)
        parts.forget_copies(but_tails=await parts.follower.hand_over())
        parts.pages.true_until_ms = END_OF_TIME_MS
        try:
            await parts.load_for_reading()
            await parts.begin_generation(store)
            stand_down = await store.stand_down()
            await parts.budget.restore(*(stand_down or (0, "")))
        except BaseException:
            await store.close()
            raise
        writer = cls(parts, store)
        parts.role = writer
        try:
            await parts.guard.persist()  # a stand-down that began while no process could write
        except BaseException:
            parts.role = parts.follower
            await store.close()
            raise
        parts.hub.take_from(writer.streams)
        writer.symbols_changed()
        writer._start()
        return writer

    async def end(self, reason: str) -> None:
        """Stop writing and return to the follower's role. The next writer fetches again what was not written."""
        parts = self._parts
        parts.store_state.report(f"{reason} while the node had it open; it starts over with what is there now")
        await parts.supervisor.stop(*self._tasks)
        parts.role = parts.follower
        parts.close_lag.follow(())
        parts.hub.take_from(None)
        parts.forget_copies()
        await self._store.close()

    async def close(self) -> None:
        """Close the store at the end of the process."""
        await self._store.close()

    @property
    def is_replaced(self) -> bool:
        """Whether the database is no longer the one that was opened."""
        return self._store.is_replaced()

    @property
    def is_deposed(self) -> bool:
        """Whether another process has become the writer."""
        return self._store.is_deposed

    async def is_newest(self) -> bool:
        """Whether no other process has become the writer since this one did. Raises StoreUnavailable."""
        try:
            await self._store.commit([])
        except StoreUnavailable:
            if self._store.is_deposed:
                return False
            raise
        return True

    async def flush(self) -> None:
        """At shutdown: stop the sockets and write the queued klines, within FLUSH_S_MAX seconds."""
        await self._parts.supervisor.stop("sockets", "ingest", "write")
        try:
            async with asyncio.timeout(FLUSH_S_MAX):
                await self.live.flush()
        except (StoreUnavailable, TimeoutError) as error:
            why = str(error) or f"the database did not answer in {FLUSH_S_MAX:.0f} s"
            reason = f"at shutdown, will be fetched again: {why}"
            self._parts.observe(CommitFailed(self.live.queue_depth, reason))

    def _start(self) -> None:
        parts = self._parts
        warm_up = WarmUp(parts.clock, parts.reader, parts.symbols, parts.holdings, parts.rolling)

        def start(name: str, main: Main) -> None:
            self._tasks.append(name)
            parts.supervisor.start(name, main)

        start("reconcile", self._reconcile)
        start("verify", self._verify)
        for limit in self.gathering.limits():
            start(f"gather-{letters.lower(limit.name).replace('_', '-')}", partial(self._gather, limit))
        start("archived-metrics", self._read_archived)
        start("relistings", self.relistings.run)
        start("check-blocks", self.sealer.check)
        start("repair-blocks", self.sealer.repair)
        if self._parts.settings.seal_after_days:
            start("seal", self.sealer.seal)
        if parts.extra_wishes_only:
            return
        start("symbols", self._sync_symbols)
        start("write", self.live.write)
        start("disputes", self._disputes.run)
        start("ingest", self.live.ingest)
        start("sockets", self.sockets.run)
        start("streams", self.streams.run)
        start("warm-up", warm_up.run)
        if parts.settings.exchanges:
            start("collector", self._collect)

    async def _collect(self) -> None:
        from app.node import collecting  # a node without a collector imports nothing of NATS

        parts, settings = self._parts, self._parts.settings
        again = partial(load, {"host": settings.host, "port": settings.port})
        here = await collecting.made(settings, again, parts.runtime, parts.rest)
        parts.collector, parts.held_book = here.collector, here.book
        try:
            await here.run()
        finally:
            parts.collector, parts.held_book = None, no_book
            await here.close()

    async def _sync_symbols(self) -> None:
        await self._parts.symbols.run(self._parts.settings.symbol_sync_interval_sec, self._parts.runtime.rng("symbols"))

    async def _reconcile(self) -> None:
        await self._parts.clock.until_measured()  # the exchange's time decides which klines are closed
        await self.reconciler.run()

    async def _gather(self, limit: Bucket) -> None:
        await self._parts.clock.until_measured()
        await self.gathering.run(limit)

    async def _read_archived(self) -> None:
        await self._parts.clock.until_measured()
        await self.archived.run()

    async def _verify(self) -> None:
        await self._parts.clock.until_measured()
        await self._parts.verifier.run()

    # --- what it may do (app/node/role.py) ----------------------------------------------------------------------

    @property
    def is_writer(self) -> bool:
        """Unless it has lost the lease, while it cannot be told whether another process has it (`Node._goes_on`)."""
        return self._parts.lease.is_held()

    @property
    def store(self) -> OpenWriter:
        """The store, open for writing."""
        return self._store

    @property
    def auditors(self) -> Auditors:
        """What compares klines with the exchange."""
        return self._auditors

    def are_copies_current(self) -> bool:
        """Always: only this process changes the store."""
        return True

    def ledger_as_of_ms(self) -> int:
        """Now."""
        return self._parts.clock.now_ms()

    def last_seen_ms(self, series: Series) -> int | None:
        """When the socket that carries `series` last delivered anything."""
        return self.sockets.heard_ms(series)

    async def keep_read(self, series: Series, grid: Grid, span: Span, rows: Sequence[Row]) -> None:
        """Commit rows of `span` that were read through, where they are wished."""
        if series.kind.is_gathered:
            self.gathering.asked(series)
        await self._filler.keep_read(series, grid, span, rows)

    async def keep_symbols(self, body: bytes, received_ms: int) -> None:
        """Store exchangeInfo after the listings that it changes, so that a follower that reads it finds them."""
        await self.relistings.save()
        await self._store.save_document(DOCUMENT, body, received_ms)

    async def keep_time(self, kept: KeptTime) -> None:
        """Store the clock correction. Raises StoreUnavailable."""
        await self._store.save_document(KEPT_TIME, kept.encoded(), self._parts.clock.now_ms())

    async def keep_stand_down(self, until_ms: int, reason: str) -> None:
        """Store a stand-down."""
        await self._store.save_stand_down(until_ms, reason)

    def repair(self, error: StoreDamaged) -> None:
        """Give up a damaged block; its rows are fetched again."""
        self.sealer.report(error)

    def wake(self) -> None:
        """Plan again: wishes or held klines have changed."""
        self.reconciler.wake()
        self.archived.wake()

    def store_recovered(self) -> None:
        """The database accepts writes again."""
        self.reconciler.store_recovered()

    def exists(self, series: Series, closed_ms: int) -> None:
        """REST has a closed kline of `series` that ends at `closed_ms`."""
        self.sockets.exists(series, closed_ms)

    @property
    def missing_klines(self) -> int | None:
        """Klines that the last plan found missing; None before the first plan."""
        return self.reconciler.missing_klines

    @property
    def paused(self) -> str | None:
        """Why history is not being filled."""
        return self.reconciler.paused

    @property
    def fetch_error(self) -> str | None:
        """The last failed fetch."""
        return self.reconciler.last_error or self.gathering.last_error or self.archived.last_error

    @property
    def write_queue_depth(self) -> int:
        """Closed klines that wait to be written."""
        return self.live.queue_depth

    @property
    def intake_depth(self) -> int:
        """Socket events that wait to be processed."""
        return self.sockets.queue_depth

    def log_complaint(self) -> str | None:
        """What is wrong with the database's write-ahead log."""
        return self._store.log_complaint()

    def sockets_status(self) -> dict[str, object]:
        """The sockets that ingest klines."""
        return self.sockets.status()

    def streams_status(self) -> dict[str, object]:
        """The sockets that are open for streams that clients subscribe to."""
        return self.streams.status()

    def symbols_changed(self) -> None:
        """The exchange's list was read: subscribe to its symbols, plan again, and report the estimate once."""
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
                row_disk_bytes=row_disk_bytes(settings.seal_after_days),
            )
        )

    def _rows_changed(self, series: Series, _changed: Spans) -> None:
        """Rows were replaced: rebuild buckets in progress that contain them, and plan lost roll-ups again."""
        if series.interval == M1:
            self._parts.rolling.forget(series.name)
        self.reconciler.wake()
