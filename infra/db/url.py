"""DB_URL read as the path of an SQLite file."""

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError


def sqlite_path(url: str) -> Path:
    """The absolute path of the database file that `url` names; nothing is created. Raises ValueError.

    Three slashes begin a path relative to the working directory, four an absolute one. Symbolic links are followed, so
    that every way to name a file leads to one writer lease.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError("DB_URL is no URL; write it as sqlite:///./data/klinenode.db") from None
    if parsed.drivername != "sqlite":
        raise ValueError(
            f"DB_URL begins with {parsed.drivername}: this build stores in SQLite only; "
            "write it as sqlite:///./data/klinenode.db"
        )
    if parsed.host or parsed.query or not parsed.database or parsed.database == ":memory:":
        raise ValueError(
            "DB_URL must name a file and nothing else: sqlite:///./data/klinenode.db (relative) "
            "or sqlite:////var/lib/klinenode/klinenode.db (absolute)"
        )
    return Path(parsed.database).resolve()
