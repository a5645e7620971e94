"""One SQLite library makes every connection of a process, and the versions that may lose commits are known."""

import importlib.util
import sqlite3 as of_python  # noqa: TID251  what Python has
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiosqlite
import pytest

from app.ports.errors import StoreUnavailable
from infra.sqlite import fence, library, revise
from infra.sqlite.connections import Connections
from infra.sqlite.library import is_wal_safe, linked, sqlite3
from infra.sqlite.migrate import upgrade

ROOT = Path(__file__).parents[2]
COMMAND_S_MAX = 60.0
WITHOUT_WHEEL = """
import asyncio, sys
from pathlib import Path
sys.modules["pysqlite3"] = None  # as if it were not installed
import sqlite3 as of_python
from infra.sqlite.connections import Connections
from infra.sqlite.library import linked, sqlite3
from infra.sqlite.migrate import upgrade

async def main(file):
    upgrade(f"sqlite:///{file}")
    reads = Connections(Path(file), size=1, read_only=True)
    print(await reads.run(lambda connection: type(connection) is of_python.Connection))
    await reads.close()

asyncio.run(main(sys.argv[1]))
print(sqlite3 is of_python, linked().name, linked().version == of_python.sqlite_version)
"""


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ((3, 6, 23), True),  # has no write-ahead log
        ((3, 7, 0), False),
        ((3, 40, 1), False),
        ((3, 43, 2), False),
        ((3, 44, 0), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 44, 7), True),
        ((3, 45, 0), False),
        ((3, 49, 2), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 50, 8), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((3, 53, 4), True),
        ((4, 0, 0), True),
    ],
)
def test_the_versions_that_may_lose_commits(version: tuple[int, int, int], *, is_safe: bool) -> None:
    assert is_wal_safe(version) is is_safe


@pytest.mark.parametrize(("version", "has_note"), [((3, 40, 1), True), ((3, 53, 4), False)])
def test_a_faulty_version_has_a_note(
    version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch, *, has_note: bool
) -> None:
    text = ".".join(map(str, version))
    of_then = SimpleNamespace(__name__="sqlite3", sqlite_version=text, sqlite_version_info=version)
    monkeypatch.setattr(library, "sqlite3", of_then)
    name, said, note = linked()
    assert (name, said, note is not None) == ("sqlite3", text, has_note)
    assert note is None or f"SQLite {text} may lose commits" in note


def test_the_wheel_is_taken_where_it_is_installed() -> None:
    is_installed = importlib.util.find_spec("pysqlite3") is not None
    assert linked().name == ("pysqlite3" if is_installed else "sqlite3")
    assert not is_installed or is_wal_safe(sqlite3.sqlite_version_info)


async def test_every_connection_and_every_error_is_of_that_library(db_file: Path, url: str) -> None:
    upgrade(url)
    for is_read_only in (True, False):
        connections = Connections(db_file, size=1, read_only=is_read_only)
        kind, version = await connections.run(
            lambda connection: (type(connection), connection.execute("SELECT sqlite_version()").fetchone()[0])
        )
        assert kind is sqlite3.Connection
        assert version == linked().version
        await connections.close()
    assert aiosqlite.Error is sqlite3.Error
    assert issubclass(aiosqlite.OperationalError, sqlite3.Error)
    of_migration: Any = revise._engine(db_file, 0).dialect.dbapi
    assert of_migration is sqlite3


async def test_errors_of_a_pool_are_understood(db_file: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await Connections(db_file, size=1, read_only=True).run(lambda connection: None)
    assert not [each for each in threading.enumerate() if "_connection_worker_thread" in each.name]


def test_errors_of_a_migration_are_understood(db_file: Path, url: str) -> None:
    db_file.parent.mkdir()
    db_file.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreUnavailable, match="is no SQLite database"):
        upgrade(url)
    with pytest.raises(sqlite3.DatabaseError):
        fence.take_over(db_file, 0)


def test_without_the_wheel_the_library_is_pythons(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WHEEL, str(tmp_path / "a.db")],
        capture_output=True, text=True, timeout=COMMAND_S_MAX, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "True", "sqlite3", "True"]


def test_another_sqlite_that_is_loaded_before_everything_is_the_one_that_is_set_up() -> None:
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libsqlite3" in line}
    if not mapped:
        pytest.skip("Python has SQLite built in: there is no shared library of it to load")
    stated = "from infra.sqlite.library import stop_counting, linked, sqlite3; print(stop_counting(), linked().version)"
    done = subprocess.run(
        [sys.executable, "-c", f"{stated}; sqlite3.connect(':memory:').execute('SELECT 1')"],
        capture_output=True, text=True, timeout=COMMAND_S_MAX, cwd=ROOT, check=True, env={"LD_PRELOAD": mapped.pop()},
    )  # fmt: skip
    assert done.stdout.split() == ["True", of_python.sqlite_version]
