"""The composition root of a replay: readers of the database, a clock in the past, and what answers by it.

Nothing here writes to the database, takes its lease or connects to an exchange.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import SystemRandom
from typing import Final

from starlette.types import ASGIApp

from app.access.key_file import KeyFile
from app.access.key_gate import STATE as KEY_GATE
from app.access.key_gate import KeyGate
from app.domain.span import Span, Spans
from app.events import NodeStarted, NodeStopped, RequestsRefused
from app.filling.absence import Absence
from app.holding.copies import Copies
from app.holding.ledger_cache import LedgerCache
from app.holding.rest_forms import RestForms
from app.holding.rolling import Rolling
from app.holding.symbol_sync import Selection, SymbolSync
from app.holding.tail import Tail
from app.holding.wish import Wish
from app.http.admin_guard import AdminGuard, LocalToken
from app.http.replay_app import ReplayServices, create_replay_app
from app.kinds.funding import LATE_MS as FUNDING_LATE_MS
from app.kinds.metrics import LATE_MS as METRICS_LATE_MS
from app.market.book_starts import BookStarts
from app.market.stream_hub import Hub
from app.metric import Counter, Gauge
from app.node.log_style import log_style
from app.node.shared_path import shared_path
from app.node.stores import Reading, store_of
from app.node.supervisor import Supervisor
from app.outbound import masked
from app.ports.clock import MachineClock
from app.querying.archived_rows import ByOrigin
from app.querying.events import Events
from app.querying.gather import Gatherer
from app.querying.prove import Prover
from app.querying.query import QueryService
from app.querying.read_through import ReadThrough
from app.querying.statistics import Statistics
from app.replaying.ahead import Ahead
from app.replaying.answers import QueryThen, RowsThen
from app.replaying.control import Control
from app.replaying.follow import Kept, StoreFollower
from app.replaying.in_progress import UnfinishedThen
from app.replaying.lag import LAG
from app.replaying.no_exchange import NoExchange, NoLine, NoMarket
from app.replaying.one_time import OneTime
from app.replaying.player import Player
from app.replaying.replay_clock import PublishedClock, ReplayClock, SeenClock
from app.replaying.schedule import Schedule
from app.replaying.symbols import SymbolsThen
from app.runtime import Runtime
from app.setting_values import local_url
from app.settings import Settings
from app.sockets.connections import STATE as CONNECTIONS
from app.sockets.connections import Connections
from app.sockets.stream_protocol import STATE as STREAMS
from app.sockets.streams import StreamLimits, StreamServer
from infra.local.quota_counter import LocalQuotaCounter
from infra.local.token_file import TokenFile
from infra.process.clock import SystemClock
from infra.telemetry import Telemetry

FRAMES: Final = Counter("klinenode_replay_frames_total", "Events of replayed streams, before they go to each client.")
TIME: Final = Gauge("klinenode_replay_time_seconds", "The replay's time, Unix time.")
METRICS: Final = (FRAMES, TIME, LAG)
_NOTHING_WISHED: Final = Wish((), (), 0, {}, {})


class Replay:
    """One process that replays. `app` is its ASGI application, whose lifespan starts and stops everything else."""

    def __init__(self, settings: Settings, span: Span, speed: int, machine: MachineClock | None = None) -> None:
        """`span`: from the first minute to the end of the last one."""
        self._settings = settings
        self._machine = machine or SystemClock()
        self._telemetry = Telemetry(settings.log_level, style=log_style(settings))
        self._observe = self._telemetry.observe
        self._runtime = Runtime(self._machine, self._observe, SystemRandom().getrandbits(32))
        self._supervisor = Supervisor(self._machine, self._observe, self._runtime.rng("supervisor"))
        store = store_of(settings.db_url)
        self._reader = store.reader(Reading(settings.db_url, observe=self._observe))
        self._feed = store.change_feed(settings.db_url)
        self._shared = shared_path(settings)
        self._quotas = LocalQuotaCounter(self._shared, self._observe) if settings.api_keys_file else None
        self._gate = None if self._quotas is None else KeyGate(self._machine, self._quotas)
        self.clock = ReplayClock(self._machine, span, speed)
        self._seen = SeenClock(self.clock)
        self._ledgers = LedgerCache()
        self._symbols = SymbolsThen(self._seen, self._ledgers)
        self._unfinished = UnfinishedThen(self._seen, self._reader, self._ledgers)
        self._make_streams()
        kept = Kept(self._ledgers, self._symbols, self._unfinished, self._ahead)
        self._follower = StoreFollower(self._machine, self.clock, self._reader, self._feed, kept)
        self.control = Control(self.clock, self.player, self._ahead, self._schedule, self._symbols)
        self.app = self._make_app()

    def _make_streams(self) -> None:
        settings = self._settings
        self._schedule = Schedule(self._ledgers.grid, self._ledgers.ledger)
        self._ahead = Ahead(self._machine, self.clock, self._reader, self._ledgers, self._schedule)
        self.hub = Hub(self._machine)
        self.hub.take_from(self._ahead)
        self.player = Player(
            self._machine, self.clock, self._ahead, self._schedule, self.hub.deliver, self._are_frames_taken
        )
        self._book_starts = BookStarts(self.hub, self._machine)
        limits = StreamLimits(settings.stream_clients_max, settings.stream_queue_bytes_max)
        self._streams = StreamServer(self.hub, self._machine, limits, self._symbols, self._book_starts.joined)
        self._connections = Connections(
            connections_max=settings.connections_max, report=lambda refused: self._observe(RequestsRefused(refused))
        )
        self._telemetry.sample(FRAMES, lambda: [({}, self.player.frames)])
        self._telemetry.sample(TIME, lambda: [({}, self.clock.now_ms() // 1_000)])
        lag = self.player.lag
        self._telemetry.sample_histogram(LAG, lambda: [({}, lag.counts, lag.total_s)])

    def _are_frames_taken(self) -> bool:
        return all(client.is_flowing for client in self._streams.clients)

    def _make_query(self) -> QueryThen:
        """The usual service, with the exchange and all memory taken away."""
        clock, exchange, ledgers = self._seen, NoExchange(), self._ledgers
        listed = SymbolSync(clock, self._observe, exchange, Selection((), (), (), auto=False), _keep_nothing, _nothing)
        copies = Copies(
            listed, ledgers, Tail(0, lambda: False), Rolling(()), lambda series, span: None, lambda name: None
        )
        absence = Absence(clock, ledgers, listed.listing, exchange)
        upstream = ReadThrough(clock, exchange, copies, absence, _keep_nothing, is_allowed=False)
        usual = QueryService(
            clock,
            copies,
            Gatherer(clock, self._reader, copies),
            Prover(clock, upstream, ledgers),
            self._unfinished,
            lambda: _NOTHING_WISHED,
        )
        return QueryThen(self._seen, self._symbols, ledgers, usual)

    def _make_services(self) -> ReplayServices:
        reader, ledgers = self._reader, self._ledgers
        forms = RestForms(self._machine, reader, self._observe, _nothing)
        statistics = Statistics(
            PublishedClock(self.clock, METRICS_LATE_MS),
            reader,
            ByOrigin(reader, forms),
            ledgers,
            lambda series: Spans(),
            _keep_nothing,
            lambda: True,
            is_retention_strict=self._settings.strict_retention,
        )
        events = Events(
            PublishedClock(self.clock, FUNDING_LATE_MS),
            reader,
            ledgers,
            lambda series: False,
            _keep_nothing,
            lambda: True,
        )
        return ReplayServices(
            self._make_query(),
            self._symbols,
            NoMarket(),
            RowsThen(statistics),
            RowsThen(events),
            OneTime(),
            NoLine(),
            self._book_starts,
            self._symbols,
        )

    def _make_app(self) -> ASGIApp:
        settings, token = self._settings, TokenFile(self._shared)
        if settings.admin_token is None:
            with contextlib.suppress(OSError):  # a full disk, no permission: a client that sends a token gets the error
                token.token()
        return create_replay_app(
            self._make_services(),
            self.control,
            clock=self.clock,
            instrument=self._telemetry.instrument,
            admin=AdminGuard(
                settings.admin_token.get_secret_value() if settings.admin_token else None,
                LocalToken(token.path.name, token.token),
            ),
            gate=self._gate,
            only_final_default=settings.only_final_default,
            lifespan=lambda _: self.running(),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[dict[str, object]]:
        """Start everything, and stop it at the end."""
        settings = self._settings
        try:
            async with self._supervisor as tasks:
                if self._gate is not None and self._quotas is not None:
                    keys = KeyFile(Path(settings.api_keys_file), self._machine, self._observe, self._gate.use)
                    self._quotas.open()
                    keys.look()
                    tasks.start("api-keys", keys.run)
                await self._follower.look()
                self.clock.seek(self.clock.span.start_ms)  # the start of the process has taken some time
                for name, main in (
                    ("follow", self._follower.run),
                    ("ahead", self._ahead.run),
                    ("play", self.player.run),
                    ("hub", self.hub.run),
                    ("stream-clients", self._streams.run),
                ):
                    tasks.start(name, main)
                self._observe(
                    NodeStarted(local_url(settings.host, settings.port), masked(settings.db_url), "none: a replay")
                )
                yield {STREAMS: self._streams, CONNECTIONS: self._connections, KEY_GATE: self._gate}
        finally:
            await self._reader.close()
            await self._feed.close()
            if self._quotas is not None:
                self._quotas.close()
            self._observe(NodeStopped("asked to"))


async def _keep_nothing(*_: object) -> None:
    """Rows and lists are kept by the node that writes."""


def _nothing(_: object) -> None:
    """Nothing depends on it here."""
