"""DB_URL read as the path of an SQLite file."""

from pathlib import Path

from app.setting_values import database_path


def sqlite_path(url: str) -> Path:
    """The absolute path of the database file that `url` names; nothing is created. Raises ValueError.

    Three slashes begin a path relative to the working directory, four an absolute one. Symbolic links are followed, so
    that every way to name a file leads to one writer lease.
    """
    return database_path(url).resolve()
