"""Translation of the errors of asyncpg and the network into StoreUnavailable with advice for the operator."""

from typing import Final

import asyncpg

from app.ports.errors import StoreUnavailable

_REPEATS: Final = "it is tried again"
_ADVICE: Final = {
    "08": f"was disconnected; {_REPEATS}, check the server and the network if it goes on",
    "25006": "is read-only: a standby, or a server in recovery; let DB_URL name the primary server",
    "25P03": f"ended a transaction that had waited too long; {_REPEATS}, this node or the network is too slow",
    "28": "refuses this user; check user and password in DB_URL, and pg_hba.conf on the server",
    "3D000": "does not exist; create it (CREATE DATABASE), or correct its name in DB_URL",
    "3F000": "has no schema to use; check the user's search_path",
    "40": f"has cancelled a transaction in favour of another; {_REPEATS}",
    "42501": "does not permit this user what klinenode needs; make it the owner of the database",
    "42P01": "has no klinenode tables yet; the node that writes creates them when it starts",
    "42P07": "belongs to another program; point DB_URL at another database",
    "53100": "cannot grow: the server's disk is full; free some space, writing resumes by itself",
    "53200": "needs more memory than the server has; free some",
    "53300": "has no connection left; raise max_connections on the server (a process of klinenode takes up to seven)",
    "55P03": "is locked by another session; wait, or end the program that holds the lock (pg_locks shows which)",
    "57014": "took too long for a statement, which was cancelled; check the server's load and its disk",
    "57P01": f"is shutting down or has ended this connection; {_REPEATS}",
    "57P02": f"restarts after a crash; {_REPEATS}, see the server's log",
    "57P03": f"is starting or stopping; {_REPEATS}",
    "58": "cannot be read or written by its server (I/O error); check the server's disk and its log",
    "XX001": "is damaged; restore a backup, see the server's log",
    "XX002": "has a damaged index; REINDEX DATABASE repairs it, see the server's log",
}
"""By SQLSTATE, or its class, of the appendix "Error Codes" of its manual: the text after "the database <place> "."""

_BUGS: Final = ("22", "23", "42")
"""The classes of statements that are wrong or get wrong values, except those above."""

_NO_TABLES: Final = "42P01"


class StoreReplaced(StoreUnavailable):
    """The URL no longer names the database that the writer has opened."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"the database {place} was dropped or replaced while the node had it open; it starts over with the one "
            "that is there now. Stop the node before restoring a database"
        )


def unavailable(error: BaseException, place: str) -> StoreUnavailable | None:
    """`error` as StoreUnavailable; None if it is not a state of the database but a bug of this program."""
    if isinstance(error, StoreUnavailable):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", None) or "")
        advice = _ADVICE.get(state) or _ADVICE.get(state[:2])
        if advice is None and state[:2] in _BUGS:
            return None
        return StoreUnavailable(f"the database {place} {advice or 'has failed'} [{error}]")
    if isinstance(error, TimeoutError):
        return StoreUnavailable(f"the database {place} does not answer; check the server and the network")
    if isinstance(error, OSError):
        return StoreUnavailable(
            f"the database {place} cannot be reached; start the server, or correct DB_URL [{error.strerror or error}]"
        )
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, ValueError):
        return StoreUnavailable(f"the database {place} {_ADVICE['08']} [{error}]")
    if isinstance(error, asyncpg.InternalClientError):
        return StoreUnavailable(f"the database {place} {_ADVICE['08']} [{error}]")
    return None


def is_gone(error: BaseException) -> bool:
    """Whether `error` says that database or tables do not exist, so that a writer must start over."""
    return isinstance(error, asyncpg.InvalidCatalogNameError | asyncpg.UndefinedTableError)
