"""The composition root: a process's parts, its HTTP face and its role, and its life from start to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from app.access.key_gate import STATE as KEY_GATE
from app.events import LeaseChanged, LineFailed, NodeReady, NodeStarted, NodeStopped, StoreLibraryFaulty, StoreLinked
from app.filling.chores import in_quiet_moments
from app.holding.coverage_days import CoverageDays
from app.holding.packing import keep_packed
from app.http.admin_guard import AdminGuard, LocalToken
from app.http.app import create_http_app
from app.http.forward import answer_by
from app.http.services import Services
from app.http.visits import STATE as LINES
from app.node.bulk import bulk_of
from app.node.collector_gauges import sample_collector
from app.node.damage_report import RECEIVED, reported
from app.node.exporting import downloads
from app.node.gauges import sample_metrics
from app.node.overview import NodeOverview
from app.node.parts import Parts
from app.node.writer import Writer
from app.outbound import masked
from app.ports.coordination import RpcRequest, RpcResponse
from app.ports.errors import SchemaTooNew, StoreUnavailable
from app.sockets.connections import STATE as CONNECTIONS
from app.sockets.stream_protocol import STATE as STREAMS

SETTLED_CHECKS: Final = 10  # a lease held for so many checks is a writer's: an attempt ends after a 5 s lock at most
SHARE_METRICS_S: Final = 2.0  # a worker that is killed loses the counts since then
LEASE_LOST: Final = "the writer lease was lost (its lock file was deleted, or its connection to the database was cut)"
READY_CHECK_S: Final = 1.0  # how late a log may say that the node is ready
BEAT_EVERY_S: Final = 1.0  # a service manager waits for many times as long
RECALL_S_MAX: Final = 2.0  # for another look at the database: the lease must not wait until a silent server is given up
LEASE_RETRY_S: Final = 1.0  # how soon a waiting process takes over after the writer died


class Node:
    """One process of klinenode. `app` is its ASGI application, whose lifespan starts and stops everything else."""

    def __init__(
        self,
        parts: Parts,
        *,
        metrics_folder: Path | None = None,
        tidy: Callable[[], None] | None = None,
        beat: Callable[[], None] | None = None,
    ) -> None:
        self.parts = parts
        self._has_recalled = False
        self.writer: Writer | None = None
        settings = parts.settings
        self._url = "" if parts.extra_wishes_only else parts.url
        self.app = create_http_app(
            Services(
                parts.query,
                parts.symbols,
                parts.health,
                parts.coverage,
                parts.backfill,
                parts.verifier,
                parts.market,
                parts.statistics,
                parts.events,
                parts.as_of,
                parts,
                parts.book_starts,
                parts.names,
                *bulk_of(parts),
                NodeOverview(parts),
                CoverageDays(parts.clock, parts.inventory),
                lambda: parts.collector,
                downloads(parts),
            ),
            pages=parts.pages,
            clock=parts.clock,
            market_pages=parts.market_pages,
            instrument=parts.telemetry.instrument,
            timings=parts.timings,
            admin=AdminGuard(
                settings.admin_token.get_secret_value() if settings.admin_token else None,
                LocalToken(parts.token_file.path.name, parts.token_file.token),
            ),
            gate=parts.gate,
            only_final_default=settings.only_final_default,
            lifespan=lambda _: self.running(),
            traces=parts.traces.requests,
        )
        sample_metrics(parts)
        sample_collector(parts.telemetry, lambda: parts.collector)
        self._tidy = tidy
        self._beat = beat
        self._metrics_folder = metrics_folder
        if metrics_folder is not None:
            parts.telemetry.share_in(metrics_folder)

    # --- life cycle ---------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, object]]:
        """Start everything, and stop it in the right order at the end."""
        try:
            async with self.parts.supervisor:
                await self._start()
                try:
                    yield {
                        STREAMS: self.parts.stream_server,
                        CONNECTIONS: self.parts.connections,
                        LINES: self.parts.lines,
                        KEY_GATE: self.parts.gate,
                    }
                finally:
                    await self._stop()
        finally:
            await self.close()
            self.parts.observe(NodeStopped("asked to"))

    def reload(self) -> None:
        """Read again, within a second, what may change while the node runs: the handler of SIGHUP."""
        if self.parts.collector is not None:
            self.parts.collector.config.ask()

    async def close(self) -> None:
        """Close connections and files and release the lease."""
        await self.parts.rest.aclose()
        await self.parts.archive.aclose()
        if self.writer is not None:
            await self._close_lines()
        await self.parts.cache.close()
        async with asyncio.TaskGroup() as group:  # at once: each may have to wait for a server that does not answer
            for part in (self.writer, self.parts.reader, self.parts.feed):
                if part is not None:
                    group.create_task(part.close())
            group.create_task(self.parts.traces.close(self.parts.clock, self.parts.observe))
        self.parts.upstream.rate_state.close()
        if self.parts.quotas is not None:
            self.parts.quotas.close()
        await self.parts.lease.release()

    async def _start(self) -> None:
        self._report_library()
        self.parts.traces.report_start(self.parts.observe)
        self._read_api_keys()
        self._has_recalled = await self.parts.recall()
        if not await self._try_to_write():
            await self.parts.follower.start()
        if self.parts.settings.admin_token is None and self._url:
            with contextlib.suppress(OSError):  # a full disk, no permission: a client that sends a token gets the error
                self.parts.token_file.token()
        self.parts.supervisor.start("lease", self._keep_lease)
        if self._metrics_folder is not None:
            self.parts.supervisor.start("metrics", self._share_metrics)
        self.parts.supervisor.start("tails", lambda: keep_packed(self.parts.clock, self.parts.tail))
        if (tidy := self._tidy) is not None:
            self.parts.supervisor.start("tidy", lambda: in_quiet_moments(self.parts.clock, tidy))
        self.parts.supervisor.start("hub", self.parts.hub.run)
        self.parts.supervisor.start("stream-clients", self.parts.stream_server.run)
        self.parts.supervisor.start("stream-listings", self.parts.stream_server.look_for_listings)
        self.parts.supervisor.start("read-ahead", self.parts.gatherer.read_ahead.run)
        if self.parts.settings.cache_url:
            self.parts.supervisor.start("cache", self.parts.cache.run)
            self.parts.supervisor.start("own-journal", self.parts.own_journal.run)
        if self.parts.traces.are_sent:
            self.parts.supervisor.start("traces", lambda: self.parts.traces.run(self.parts.clock, self.parts.observe))
        self.parts.supervisor.start("probe", lambda: self.parts.upstream.breaker.run(self.parts.rest.probe))
        self.parts.supervisor.start("clock", lambda: self._keep_time())
        self.parts.supervisor.start("ready", self._announce_ready)
        if (beat := self._beat) is not None:
            self.parts.supervisor.start("beat", lambda: self._keep_beating(beat))
        settings = self.parts.settings
        self.parts.observe(NodeStarted(self._url, masked(settings.db_url), settings.binance_rest_url))

    async def _announce_ready(self) -> None:
        """Report once that the node is ready; the task goes on as all do, and looks no more."""
        began_ms = self.parts.clock.now_ms()
        while not self.parts.health.is_ready_now():
            await self.parts.clock.sleep(READY_CHECK_S)
        self.parts.observe(NodeReady(self._url, (self.parts.clock.now_ms() - began_ms) // 1000))
        await asyncio.Event().wait()

    async def _keep_beating(self, beat: Callable[[], None]) -> None:
        """Call `beat` every second, for ever: while the event loop runs."""
        while True:
            beat()
            await self.parts.clock.sleep(BEAT_EVERY_S)

    def _report_library(self) -> None:
        library = self.parts.store.library()
        self.parts.observe(StoreLinked(library.name, library.version))
        if library.note is not None:
            self.parts.observe(StoreLibraryFaulty(library.note))

    def _read_api_keys(self) -> None:
        parts = self.parts
        if parts.key_file is not None and parts.quotas is not None:
            parts.quotas.open()
            parts.key_file.look()
            parts.supervisor.start("api-keys", parts.key_file.run)

    async def _keep_time(self) -> None:
        parts = self.parts
        await parts.clock.run(parts.rest, parts.runtime.rng("clock"), parts.keep_time)

    async def _stop(self) -> None:
        if self.writer is not None:
            await self.writer.flush()
        await asyncio.to_thread(self.parts.telemetry.share)

    async def _share_metrics(self) -> None:
        while True:
            await asyncio.to_thread(self.parts.telemetry.share)
            await self.parts.clock.sleep(SHARE_METRICS_S)

    # --- the role -----------------------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        """Check every second, for ever: become the writer if there is none; step down if database or lease is lost."""
        others = 0
        while True:
            await self.parts.clock.sleep(LEASE_RETRY_S)
            if not self._has_recalled:  # with a wrong clock, a stand-down that was shared would end too early
                await self._recall()
            others = others + 1 if self.writer is None and await self.parts.lease.holder() is not None else 0
            if others == SETTLED_CHECKS:
                self.parts.store_state.report(None)  # another process writes: our failure to write no longer matters
            if self.writer is not None:
                if self.writer.is_replaced:
                    await self._step_down("the database was deleted or replaced")
                elif self.writer.is_deposed:
                    await self._step_down("another process has become the writer")
                elif not self.parts.lease.is_held() and not await self._goes_on(self.writer):
                    await self._step_down(LEASE_LOST)
            elif not others and not await self._try_to_write():
                await self.parts.follower.start()

    async def _recall(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RECALL_S_MAX):
                self._has_recalled = await self.parts.recall()

    async def _goes_on(self, writer: Writer) -> bool:
        """Whether a writer that has lost its lease keeps its role: it has the lease again, or nobody can tell.

        While the server that keeps lease and database cannot be reached, nothing can be committed here, and what is in
        memory goes on with the sockets: answers need not end. Once it is back, a writer that was replaced steps down.
        """
        try:
            return await self.parts.lease.renew(self._url) and await writer.is_newest()
        except StoreUnavailable as error:
            self.parts.store_state.report(str(error))
            return True

    async def _try_to_write(self) -> bool:
        """Become the writer if the lease is free and the database can be opened; return whether it worked."""
        try:
            is_ours = await self.parts.lease.try_acquire(self._url)
        except StoreUnavailable as error:
            self.parts.store_state.report(str(error))
            return False
        except OSError as error:  # permanent errors were refused at the start (app/node/prepare.py)
            self.parts.store_state.report(
                f"nothing can be written beside {masked(self.parts.settings.db_url)}: {error.strerror or error}"
            )
            return False
        if not is_ours:
            self.parts.observe(LeaseChanged(is_writer=False, holder=await self.parts.lease.holder() or "unknown"))
            return False
        try:
            self.writer = await Writer.begin(self.parts)
        except (StoreUnavailable, SchemaTooNew, OSError) as error:
            await self.parts.lease.release()
            self.parts.store_state.report(f"the database cannot be written: {error}")
            return False
        except BaseException:
            await self.parts.lease.release()
            raise
        try:
            await self.parts.writer_rpc.open(self._answer_rpc)
            await self.parts.stream_fanout_server.open(self.parts.hub)
        except OSError as error:
            self.parts.observe(LineFailed(str(error)))
        self.parts.observe(LeaseChanged(is_writer=True, holder=self._url))
        return True

    async def _answer_rpc(self, asked: RpcRequest) -> RpcResponse:
        if (error := reported(asked)) is not None:
            self.parts.repair(error)
            return RECEIVED
        return await answer_by(self.app, asked)

    async def _step_down(self, reason: str) -> None:
        """Release the lease and become a follower."""
        assert self.writer is not None, "only a writer can step down"
        writer, self.writer = self.writer, None
        await self._close_lines()
        await writer.end(reason)
        await self.parts.lease.release()
        self.parts.holdings.load({}, {}, {})
        await self.parts.follower.start()

    async def _close_lines(self) -> None:
        await self.parts.writer_rpc.close()
        await self.parts.stream_fanout_server.close()
