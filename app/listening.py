"""How a process listens and serves until a signal ends it, whatever its application is."""

import contextlib
import errno
import signal
import socket
import sys
from typing import Any, Final, NoReturn, cast

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from app.http.log_bound import bounded
from app.http.protocol import BoundedProtocol
from app.node.cannot_start import CannotStart
from infra.process.service import STOPPING, ServiceManager

BACKLOG: Final = 2048  # connections that wait to be accepted; uvicorn's default
_HOST_HELP: Final = (
    "Set HOST to 127.0.0.1 (this machine alone), 0.0.0.0 (every address it has) or one of its own addresses, or give "
    "--host; a HOST in the environment that another program has set goes before .env: unset it"
)
SHUTDOWN_S_MAX: Final = 4  # for requests in progress; with the flush the whole stop stays under ten seconds


class Server(uvicorn.Server):
    """uvicorn's server of one process, which says when it stops."""

    def __init__(self, config: uvicorn.Config, manager: ServiceManager | None) -> None:
        super().__init__(config)
        self._manager = manager

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish requests and close connections."""
        if self._manager is not None:
            self._manager.tell(STOPPING)
        await super().shutdown(sockets)


def config_of(app: Any, **options: Any) -> uvicorn.Config:
    """How uvicorn serves `app`, an application or a factory of one, with further `options` of its Config."""
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        log_config=bounded(LOGGING_CONFIG),
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # the admin guard needs the address that really connects
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S_MAX,
        **options,
    )


def serve(config: uvicorn.Config, listener: socket.socket, manager: ServiceManager | None = None) -> None:
    """Serve in this process until SIGINT or SIGTERM; `manager` is told when it ends."""
    signal.signal(signal.SIGTERM, leave)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal that stopped it again when it ends
        Server(config, manager).run([listener])


def leave(_signal: int, _frame: object) -> NoReturn:
    """A signal handler that raises SystemExit, so that `finally` blocks run and close what is open."""
    sys.exit(0)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the first usable address of `host`. Raises CannotStart, naming HOST or PORT.

    Clients that connect before the node has started wait for it. HOST may be wrong because other programs set it too:
    conda's compilers to their target machine, some shells to the machine's name.
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
    # with an explicit IPPROTO_TCP, asyncio sets TCP_NODELAY; Nagle's algorithm would cost 40 ms a request
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    with contextlib.ExitStack() as unless_it_listens:
        unless_it_listens.callback(listener.close)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # at once: Linux lets two sockets bind one port as long as neither listens
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
