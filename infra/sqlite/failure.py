"""Translation of SQLite errors into StoreUnavailable with advice for the operator."""

from pathlib import Path
from typing import Final

from app.ports.errors import StoreUnavailable
from infra.sqlite.library import sqlite3

_ADVICE: Final = {
    sqlite3.SQLITE_BUSY: "is locked by another process; wait, or end the program that holds it (lsof shows which)",
    sqlite3.SQLITE_LOCKED: "is locked by another process; wait, or end the program that holds it (lsof shows which)",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full; free some space, writing resumes by itself",
    sqlite3.SQLITE_READONLY: "is read-only; give this user write permission on the file and its folder",
    sqlite3.SQLITE_PERM: "may not be accessed; give this user permission on the file and its folder",
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened; check DB_URL and the permissions of its folder (the writing node creates the file)"
    ),
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written (I/O error); check the disk, its free space, quota and write permission"
    ),
    sqlite3.SQLITE_NOMEM: "needs more memory than there is; free some",
    sqlite3.SQLITE_CORRUPT: (
        "is damaged; stop the node, move the file away and put back a copy, or start without one: it is fetched anew"
    ),
    sqlite3.SQLITE_NOTADB: "is no SQLite database; check DB_URL, or move the file away",
}
"""By primary result code (https://www.sqlite.org/rescode.html): the text after "the database <path> "."""

_CONNECTION_OUTLIVES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})


class StoreReplaced(StoreUnavailable):
    """The path no longer names the file that the writer has open."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"the database {path} was deleted or replaced while the node had it open; it starts over with the file "
            "that is there now, or a new one. Stop the node before moving its files"
        )


def primary_code(error: sqlite3.Error) -> int:
    """The primary result code of `error`, 0 when SQLite gave none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def unavailable(error: sqlite3.Error, path: Path) -> StoreUnavailable | None:
    """`error` as StoreUnavailable; None if it is not a state of the database but a bug of this program."""
    advice = _ADVICE.get(primary_code(error))
    if primary_code(error) == sqlite3.SQLITE_CANTOPEN and not path.exists():
        advice = "does not exist; the node that writes creates it when it starts, or DB_URL names another"
    if advice is None and str(error).startswith("no such table"):
        advice = "has no klinenode tables yet; the node that writes creates them when it starts"
    elif advice is None and str(error).endswith("already exists"):
        advice = "belongs to another program; point DB_URL at another file"
    return StoreUnavailable(f"the database {path} {advice} [{error}]") if advice else None


def outlived(error: sqlite3.Error) -> bool:
    """Whether the connection that raised `error` can still be used; otherwise it must be closed."""
    return primary_code(error) in _CONNECTION_OUTLIVES
