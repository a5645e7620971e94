"""`klinenode collect`: a process that only collects, with its own port for control, health and metrics."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Final

from starlette.types import ASGIApp

from app.http.admin_guard import AdminGuard, LocalToken
from app.http.collector_app import create_collector_app
from app.listening import config_of, listen, serve
from app.node.cannot_start import CannotStart
from app.node.collecting import Collecting
from app.node.collector import CannotCollect
from app.node.collector_gauges import sample_collector
from app.node.log_style import log_style
from app.node.shared_path import shared_path
from app.node.supervisor import Supervisor
from app.node.upstream import Upstream
from app.runtime import Runtime
from app.settings import Settings, notify_socket
from infra.local.token_file import TokenFile
from infra.process.clock import SystemClock
from infra.process.malloc import return_large_blocks
from infra.process.service import ServiceManager, Watch
from infra.telemetry import Telemetry

_NO_EXCHANGES: Final = "EXCHANGES: name the exchanges to collect, for example binance,okx,deribit"
NAME: Final = "collector"
"""With it the name of the file with the admin token begins."""
BEAT_S: Final = 1.0


def run(settings: Settings, load: Callable[[], Settings]) -> None:
    """Collect until SIGINT or SIGTERM; SIGHUP reads the settings again by `load`. Raises CannotStart."""
    if faults := settings.collector_faults() or ([] if settings.exchanges else [_NO_EXCHANGES]):
        raise CannotStart("\n".join(faults))
    listener = listen(settings.host, settings.port)
    return_large_blocks()
    manager = ServiceManager(address) if (address := notify_socket()) else None
    try:
        process = _Process(settings, load, manager)
    except CannotCollect as error:
        raise CannotStart(str(error)) from error
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the collector can handle it
    serve(config_of(process.app), listener, manager)


class _Process:
    """The parts of the process, and its application, whose lifespan runs them."""

    def __init__(self, settings: Settings, load: Callable[[], Settings], manager: ServiceManager | None) -> None:
        self._manager = manager
        self._telemetry = Telemetry(settings.log_level, style=log_style(settings))
        clock, observe = SystemClock(), self._telemetry.observe
        self._runtime = Runtime(clock, observe, SystemRandom().getrandbits(32))
        self._upstream = Upstream(settings, self._runtime, shared_path(settings), _kept_by_file, lambda: lambda _: None)
        self._collecting = Collecting(settings, load, self._runtime, self._upstream.rest)
        token = TokenFile(Path(settings.collect_dir) / NAME)
        if not settings.admin_token:
            with contextlib.suppress(OSError):  # requests say so then; collecting needs no token
                token.token()  # it is there before the first request
        self.app: ASGIApp = create_collector_app(
            self._collecting.collector,
            instrument=self._telemetry.instrument,
            admin=AdminGuard(
                settings.admin_token.get_secret_value() if settings.admin_token else None,
                LocalToken(token.path.name, token.token, "in COLLECT_DIR"),
            ),
            lifespan=lambda _: self._running(),
        )
        sample_collector(self._telemetry, lambda: self._collecting.collector)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        ask = self._collecting.collector.config.ask
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, ask)
        try:
            async with Supervisor(self._runtime.clock, self._runtime.observe, self._runtime.rng("supervisor")) as tasks:
                tasks.start("collector", self._collecting.run)
                if self._manager is not None:
                    tasks.start("beat", partial(self._beat, Watch(self._manager)))
                yield
        finally:
            await self._collecting.close()
            await self._upstream.rest.aclose()
            self._upstream.rate_state.close()

    async def _beat(self, watch: Watch) -> None:
        while True:
            watch()
            await self._runtime.clock.sleep(BEAT_S)


async def _kept_by_file(_until_ms: int, _reason: str) -> None:
    """A stand-down is kept by the file of the rate state alone: there is no database here."""
