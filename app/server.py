"""Runs a node as a server: its port, its processes, the signals that end it."""

import contextlib
import errno
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, NoReturn, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import LOGGING_CONFIG
from uvicorn.supervisors import Multiprocess

from app.http.log_bound import bounded
from app.http.protocol import BoundedProtocol
from app.node.node import Node
from app.node.parts import Parts
from app.node.prepare import CannotStart, prepare
from app.node.stores import store_of
from app.settings import Settings
from app.sockets.connections import SURPLUS_MAX
from app.sockets.stream_protocol import StreamProtocol
from infra.local.metrics_folder import MetricsFolder
from infra.process.gc_schedule import GcSchedule
from infra.process.malloc import return_large_blocks, stop_sqlite_counting
from infra.process.runtime_dir import shared_by

WORKER_S_MAX: Final = 30
"""A worker that does not answer its parent for so long is replaced. Its imports count: a second of processor time, ten
of a busy machine's, where uvicorn's five seconds would end every worker before it has begun, for ever."""
BACKLOG: Final = 2048  # connections that wait to be accepted; uvicorn's own number
_HOST_HELP: Final = (
    "Set HOST to 127.0.0.1 (this machine alone), 0.0.0.0 (every address it has) or one of its own addresses, or give "
    "--host; a HOST in the environment that another program has set goes before .env: unset it"
)
FILES_BESIDE: Final = 512  # open in a process beside its clients: database, sockets to the exchange, pipes, libraries
CONNECTIONS_MIN: Final = 16  # where the system allows too few files for anything else
SHUTDOWN_S_MAX: Final = 4  # in-flight requests; with the flush the whole stop stays under ten seconds


def run(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM, then return (one process) or raise SystemExit. Raises CannotStart.

    The database and the port are seen to first: what cannot start says why in one sentence and changes nothing.
    """
    listener = listen(settings.host, settings.port)
    prepare(settings)
    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    shared = shared_by(store_of(settings.db_url).place(settings.db_url), settings.runtime_dir)
    counted = MetricsFolder(shared) if settings.workers > 1 else None
    config = uvicorn.Config(
        # handed over whole: what the command line overrides reaches every worker
        partial(_app, settings, None if counted is None else counted.path),
        factory=True,
        http=BoundedProtocol,
        ws=StreamProtocol,
        workers=settings.workers,
        log_config=bounded(LOGGING_CONFIG),
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # the admin guard must see who really connects
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S_MAX,
        timeout_worker_healthcheck=WORKER_S_MAX,
    )
    if counted is not None:
        try:
            Workers(config, [listener]).run()
        finally:
            counted.remove()
        return
    signal.signal(signal.SIGTERM, leave)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal that stopped it once more at its end
        uvicorn.Server(config).run([listener])


class Workers(Multiprocess):
    """uvicorn's workers and their parent, who is never kept from noticing that one died or that all are to stop.

    Its own waits WORKER_S_MAX for the answer of one that died while it was asked, or that has only begun to start.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._end)

    def keep_subprocess_alive(self) -> None:
        """Ask all workers whether they live and replace those that do not."""
        for process in self.processes:
            process.child_conn.close()  # our copy: while there is one, the pipe of a dead worker has no end
        super().keep_subprocess_alive()

    def _end(self, number: int, _frame: object) -> None:
        self.signal_queue.append(number)
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(cast("int", process.pid), signal.SIGTERM)


def leave(_signal: int, _frame: object) -> NoReturn:
    """A signal handler that ends the program by the ordinary way, so that everything opened is closed."""
    sys.exit(0)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the first address of `host` that is ours. Raises CannotStart, naming HOST or PORT.

    Who connects before the node has started waits for it. Other programs set HOST too: conda's compilers to the machine
    they compile for, some shells to the machine's name.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotStart(f"HOST={host} is not an address of this machine nor the name of one. {_HOST_HELP}") from error
    for family, kind, _, _, address in found:
        try:
            listener = _listener(family, kind, cast("tuple[str, int]", address))
        except OSError as error:
            failure = error
        else:
            listener.set_inheritable(True)
            return listener
    raise CannotStart(_why_not(host, port, failure)) from failure


def _listener(family: int, kind: int, address: tuple[str, int]) -> socket.socket:
    # the protocol is named so that asyncio turns Nagle's delay off (40 ms a request otherwise)
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    with contextlib.ExitStack() as unless_it_listens:
        unless_it_listens.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # now: Linux lets two sockets bind one port as long as neither listens
        unless_it_listens.pop_all()
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on HOST {host}, PORT {port}: another program uses that port; end it (ss -ltnp shows "
            "which), or choose another with PORT or --port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"cannot listen on HOST {host}, PORT {port}: {error.strerror}; ports below 1024 need a right of their own, "
            "choose another with PORT or --port"
        )
    return f"cannot listen on HOST {host}, PORT {port}: {error.strerror or error}. {_HOST_HELP}"


def _app(settings: Settings, metrics_folder: Path | None) -> ASGIApp:
    return_large_blocks()
    if (parent := multiprocessing.parent_process()) is not None:
        stop_sqlite_counting()  # a process of its own, where app/cli.py has not done it
        threading.Thread(target=_end_with, args=(parent,), name="end-with-parent", daemon=True).start()
    settings = settings.model_copy(update={"connections_max": allowed_connections(settings)})
    return Node(Parts(settings), metrics_folder=metrics_folder, tidy=GcSchedule().look).app


def allowed_connections(settings: Settings) -> int:
    """CONNECTIONS_MAX, or as many as this process may have files open: whoever is out of files cannot even refuse."""
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
    """Stop when the parent has died (kill -9): nobody would ever end us or start us anew, and the port stays taken."""
    parent.join()  # a pipe that only the parent keeps open, so this waits for an event
    os.kill(os.getpid(), signal.SIGTERM)
