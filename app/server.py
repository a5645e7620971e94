"""How the node runs as a server: its worker processes and the signals that end them."""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
import socket
import threading
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from app.listening import config_of, listen, serve
from app.node.node import Node
from app.node.parts import Parts
from app.node.prepare import prepare
from app.node.shared_path import shared_path
from app.node.stores import set_up_libraries
from app.settings import Settings, notify_socket
from app.sockets.connections import CONNECTIONS_MIN, FILES_BESIDE, SURPLUS_MAX
from app.sockets.stream_protocol import StreamProtocol
from infra.local.metrics_folder import MetricsFolder
from infra.process.gc_schedule import GcSchedule
from infra.process.malloc import return_free_pages, return_large_blocks
from infra.process.service import STOPPING, Beat, Beats, ServiceManager, Watch

WORKER_S_MAX: Final = 30
"""A worker that does not answer its parent for so long is replaced. This includes its imports: one second of processor
time, ten seconds on a busy machine, where uvicorn's default of 5 s would replace every worker before it has started."""
BEAT_LATE_S: Final = 10.0
"""While a worker has reported nothing for so long, systemd is told nothing. Its patience is WatchdogSec of the unit."""


def run(settings: Settings, *, reloads: bool = False) -> None:
    """Serve until SIGINT or SIGTERM, then return (one process) or raise SystemExit. Raises CannotStart.

    `reloads`: SIGHUP reads again what may change (several processes always do), instead of ending the process.
    The port and the database are checked first: if the node cannot start, the error says why, and nothing has changed.
    """
    listener = listen(settings.host, settings.port)
    asyncio.run(prepare(settings))
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    counted = MetricsFolder(shared_path(settings)) if settings.workers > 1 else None
    manager = ServiceManager(address) if (address := notify_socket()) else None
    beats = Beats(manager, BEAT_LATE_S) if manager is not None and settings.workers > 1 else None
    beat = beats.beat if beats is not None else None if manager is None else Watch(manager)
    config = config_of(
        # all settings, so that the command line's overrides reach every worker
        partial(_app, settings, None if counted is None else counted.path, beat, reloads=reloads),
        factory=True,
        ws=StreamProtocol,
        workers=settings.workers,
        timeout_worker_healthcheck=WORKER_S_MAX,
    )
    if counted is not None:
        try:
            Workers(config, [listener], manager, beats).run()
        finally:
            counted.remove()
            if beats is not None:
                beats.close()
        return
    if reloads:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the node can handle it
    serve(config, listener, manager)


class Workers(Multiprocess):
    """The parent of uvicorn's workers, which notices at once that a worker died or that all have to stop.

    uvicorn's own parent waits up to WORKER_S_MAX for the answer of a worker that died while it was asked, or that has
    only begun to start.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        sockets: list[socket.socket],
        manager: ServiceManager | None = None,
        beats: Beats | None = None,
    ) -> None:
        super().__init__(config, sockets)
        self._manager = manager
        self._beats = beats
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def keep_subprocess_alive(self) -> None:
        """Check that all workers answer, and replace those that do not."""
        for process in self.processes:
            process.child_conn.close()  # the parent's copy: while it is open, a dead worker's pipe reports no end
        super().keep_subprocess_alive()
        if self._beats is not None:
            self._beats.look([process.pid for process in self.processes if process.pid is not None], time.monotonic())

    def _end(self, number: int, _frame: object) -> None:
        if self._manager is not None:
            self._manager.tell(STOPPING)
        self.signal_queue.append(number)
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(cast("int", process.pid), signal.SIGTERM)


def _app(
    settings: Settings, metrics_folder: Path | None, beat: Beat | Watch | None = None, *, reloads: bool = False
) -> ASGIApp:
    return_large_blocks()
    parent = multiprocessing.parent_process()
    if parent is not None:
        set_up_libraries()  # a worker process; app/commands/running.py has done it for the parent only
        threading.Thread(target=_end_with, args=(parent,), name="end-with-parent", daemon=True).start()
    settings = settings.model_copy(update={"connections_max": allowed_connections(settings)})
    schedule = GcSchedule()

    def tidy() -> None:
        schedule.look()
        return_free_pages()

    node = Node(Parts(settings), metrics_folder=metrics_folder, tidy=tidy, beat=beat)
    if reloads and parent is None:  # the parent of workers restarts them on SIGHUP
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, node.reload)
    return node.app


def allowed_connections(settings: Settings) -> int:
    """CONNECTIONS_MAX, or fewer if the process may not open enough files, of which it raises the soft limit.

    A process without free files cannot even accept a connection to refuse it.
    """
    beside = settings.stream_clients_max + SURPLUS_MAX + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = beside + settings.connections_max
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return settings.connections_max
    return min(settings.connections_max, max(soft - beside, CONNECTIONS_MIN))


def _end_with(parent: BaseProcess) -> None:
    """Stop this worker when its parent has died (kill -9): otherwise it would run for ever and keep the port."""
    parent.join()  # waits for the end of a pipe that only the parent holds open
    os.kill(os.getpid(), signal.SIGTERM)
