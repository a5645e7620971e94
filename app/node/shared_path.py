"""Where the files lie that the processes of a database share; for a process that opens no database, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.settings import Settings
from infra.postgres.url import database_of
from infra.process.runtime_dir import shared_by, shared_by_server
from infra.sqlite.url import sqlite_path


def shared_path(settings: Settings) -> Path:
    """The path from which the names of the files are made that the processes of a database share (RUNTIME_DIR)."""
    return _SHARED[settings.db_url.partition(":")[0]](settings.db_url, settings.runtime_dir)


def _by_server(db_url: str, runtime_dir: str) -> Path:
    return shared_by_server(*database_of(db_url), runtime_dir)


_SHARED: Final[dict[str, Callable[[str, str], Path]]] = {
    "postgresql": _by_server,
    "postgres": _by_server,
    "sqlite": lambda db_url, runtime_dir: shared_by(sqlite_path(db_url), runtime_dir),
}
