"""The composition root: a process's parts, its HTTP face and its role, and its life from start to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from app.events import LeaseChanged, LineFailed, NodeStarted, NodeStopped, Observe
from app.filling.chores import in_quiet_moments
from app.http.admin_guard import AdminGuard, LocalToken
from app.http.app import create_http_app
from app.http.forward import answer_by
from app.http.klines import PATH as KLINES_PATH
from app.http.services import Services
from app.ingest.live import LiveIngest
from app.node.following import Following
from app.node.gauges import sample_metrics
from app.node.parts import Parts
from app.node.writing import Writing
from app.ports.clock import MachineClock
from app.ports.coordination import RpcRequest, RpcResponse
from app.ports.errors import SchemaTooNew, StoreUnavailable
from app.ports.store import OpenWriter
from app.settings import Settings
from app.sockets.connections import STATE as CONNECTIONS
from app.sockets.stream_protocol import STATE as STREAMS
from infra.binance.sockets import BinanceSockets
from infra.local.stream_fanout import StreamFanoutServer
from infra.local.token_file import TokenFile
from infra.local.writer_rpc import WriterRpc

SETTLED_CHECKS: Final = 10  # another process that holds the lease so long writes; trying takes it at most 5 s of a lock
SHARE_METRICS_S: Final = 2.0  # a worker that is killed takes what it counted since then with it
LEASE_RETRY_S: Final = 1.0  # how soon a waiting process takes over after the writer died


class Node(Parts):
    """One process of klinenode. `app` is its ASGI application, whose lifespan starts and stops everything else."""

    def __init__(
        self,
        settings: Settings,
        *,
        machine_clock: MachineClock | None = None,
        seed: int | None = None,
        observers: Iterable[Observe] = (),
        extra_wishes_only: bool = False,
        metrics_folder: Path | None = None,
        tidy: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(settings, machine_clock, seed, observers, extra_wishes_only=extra_wishes_only)
        self._url = "" if extra_wishes_only else _local_url(settings.host, settings.port)
        self.writing: Writing | None = None
        self._writer_rpc = WriterRpc(self.shared)
        self._stream_fanout = StreamFanoutServer(self.shared)
        self.following = Following(self)
        self.token_file = TokenFile(self.shared)
        self.app = create_http_app(
            Services(
                self.query,
                self.symbols,
                self.health,
                self.coverage,
                self.backfill,
                self.verifier,
                self.market,
                self,
                self.book_starts,
                self.names,
            ),
            pages=self.pages,
            clock=self.clock,
            market_pages=self.market_pages,
            instrument=self.telemetry.instrument,
            timings=self.timings,
            admin=AdminGuard(
                settings.admin_token.get_secret_value() if settings.admin_token else None,
                LocalToken(self.token_file.path.name, self.token_file.token),
            ),
            only_final_default=settings.only_final_default,
            lifespan=lambda _: self.running(),
        )
        self.names.refresh = self._look_for
        self.stream_server.look_for = self.names.learn
        sample_metrics(self)
        self._tidy = tidy
        self._metrics_folder = metrics_folder
        if metrics_folder is not None:
            self.telemetry.share_in(metrics_folder)

    # --- living -------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, object]]:
        """Start everything, and stop it in the right order at the end."""
        try:
            async with self.supervisor:
                await self._start()
                try:
                    yield {STREAMS: self.stream_server, CONNECTIONS: self.connections}
                finally:
                    await self._stop()
        finally:
            await self.close()
            self.observe(NodeStopped("asked to"))

    async def close(self) -> None:
        """Close connections and files and give the lease back."""
        await self.rest.aclose()
        await self.archive.aclose()
        if self.writing is not None:
            await self._close_lines()
            await self.writing.store.close()
        await self.reader.close()
        self.rate_state.close()
        self.lease.release()

    async def _start(self) -> None:
        await self.recall()
        if not await self._try_to_write():
            await self.following.start()
        if self.settings.admin_token is None and self._url:
            with contextlib.suppress(OSError):  # a full disk, a folder without permission: who sends one is told so
                self.token_file.token()
        self.supervisor.start("lease", self._keep_lease)
        if self._metrics_folder is not None:
            self.supervisor.start("metrics", self._share_metrics)
        if (tidy := self._tidy) is not None:
            self.supervisor.start("tidy", lambda: in_quiet_moments(self.clock, tidy))
        self.supervisor.start("hub", self.hub.run)
        self.supervisor.start("stream-clients", self.stream_server.run)
        self.supervisor.start("stream-listings", self.stream_server.look_for_listings)
        self.supervisor.start("read-ahead", self.query.read_ahead.run)
        self.supervisor.start("probe", lambda: self.breaker.run(self.rest.probe))
        self.supervisor.start("clock", lambda: self.clock.run(self.rest, self.rng("clock")))
        self.observe(NodeStarted(self._url, self.settings.db_url, self.settings.binance_rest_url))

    async def _stop(self) -> None:
        if self.writing is not None:
            await self.writing.flush()
        await asyncio.to_thread(self.telemetry.share)

    async def _share_metrics(self) -> None:
        while True:
            await asyncio.to_thread(self.telemetry.share)
            await self.clock.sleep(SHARE_METRICS_S)

    # --- the role -----------------------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        """Become the writer as soon as nobody is; stop being it when its database or its lease is taken away."""
        others = 0
        while True:
            await self.clock.sleep(LEASE_RETRY_S)
            others = others + 1 if self.writing is None and self.lease.holder() is not None else 0
            if others == SETTLED_CHECKS:
                self.store_state.report(None)  # what kept us from writing is no longer ours to complain of
            if self.writing is not None:
                if self.writing.store.is_replaced():
                    await self._step_down("the database file was deleted or replaced")
                elif self.writing.store.is_deposed:
                    await self._step_down("another process has become the writer")
                elif not self.lease.is_held():
                    await self._step_down("the lock file was deleted or replaced")
            elif not others and not await self._try_to_write():
                await self.following.start()

    async def _try_to_write(self) -> bool:
        """Become the writer if nobody else is and the database lets us."""
        try:
            is_ours = self.lease.try_acquire(self._url)
        except OSError as error:  # what will not pass by itself was refused at the start (app/node/prepare.py)
            self.store_state.report(f"nothing can be written beside {self.settings.db_url}: {error.strerror or error}")
            return False
        if not is_ours:
            self.observe(LeaseChanged(is_writer=False, holder=self.lease.holder() or "unknown"))
            return False
        try:
            self.writing = await Writing.begin(self, self.following.hand_over)
        except (StoreUnavailable, SchemaTooNew, OSError) as error:
            self.lease.release()
            self.store_state.report(f"the database cannot be written: {error}")
            return False
        except BaseException:
            self.lease.release()
            raise
        try:
            await self._writer_rpc.open(lambda asked: answer_by(self.app, asked))
            await self._stream_fanout.open(self.hub)
        except OSError as error:
            self.observe(LineFailed(str(error)))
        self.observe(LeaseChanged(is_writer=True, holder=self._url))
        return True

    async def _step_down(self, reason: str) -> None:
        """Become a process that only reads."""
        assert self.writing is not None, "only a writer can step down"
        writing, self.writing = self.writing, None
        await self._close_lines()
        await writing.end(reason)
        self.lease.release()
        self.holdings.load({}, {}, {})
        await self.following.start()

    async def _close_lines(self) -> None:
        await self._writer_rpc.close()
        await self._stream_fanout.close()

    async def _look_for(self, name: str) -> None:
        """Read the exchange's list anew, in which a name may be by now; the process that writes reads it for all."""
        if not self.is_elsewhere():
            await self.symbols.refresh()
            return
        query = urlencode({"symbol": name, "interval": "1m", "limit": 1})
        await self.ask(RpcRequest("GET", KLINES_PATH, query, "", [], b""))
        await self.symbols.load(self.reader)

    def is_elsewhere(self) -> bool:
        """Whether another process writes."""
        return self.writing is None and self.lease.holder() is not None

    async def ask(self, asked: RpcRequest) -> RpcResponse:
        """What the process that writes answers. Raises LineDown."""
        return await self._writer_rpc.ask(asked)

    def ledger_as_of_ms(self) -> int:
        """The moment that the ledger in memory speaks of: now, unless another process writes and we read lately."""
        return self.clock.now_ms() if self.writing is not None else self.following.ledger_as_of_ms()

    def are_copies_current(self) -> bool:
        """Whether tails are those of what the store holds: we write it, or have looked into it just now."""
        return self.role is not None or self.following.follower.is_current()

    # --- what only a writer has ---------------------------------------------------------------------------------

    @property
    def writer(self) -> OpenWriter | None:
        """The store as a writer has it."""
        return self.writing.store if self.writing else None

    @property
    def live(self) -> LiveIngest | None:
        """What takes in the sockets' klines."""
        return self.writing.live if self.writing else None

    @property
    def sockets(self) -> BinanceSockets:
        """The exchange's streams."""
        assert self.writing is not None, "only a writer has sockets"
        return self.writing.sockets


def _local_url(host: str, port: int) -> str:
    """Where a program on this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  told apart, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
