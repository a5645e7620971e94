"""The path of the SQLite file that DB_URL names."""

from pathlib import Path

from app.setting_values import database_path


def sqlite_path(url: str) -> Path:
    """The absolute path of the database file of `url`; nothing is created. Raises ValueError.

    `sqlite:///` is followed by a relative path, `sqlite:////` by an absolute one. Symbolic links are resolved, so that
    all names of a file share one writer lease.
    """
    return database_path(url).resolve()
