"""Connections that are a session of the database server itself: for the lease and the change feed, one each.

A pooler such as PgBouncer in transaction mode lends a session to one client after another. Two of its clients would
both hold that session's advisory lock, and neither would hear what it listens to. So a pooler is refused.
"""

from typing import Final

import asyncpg

from app.ports.errors import StoreUnavailable, StoreUnusable
from infra.postgres import failure
from infra.postgres.url import place

CONNECT_S_MAX: Final = 5.0
ANSWER_S_MAX: Final = 2.0
"""How long a statement may take. Those sent here read a row or a lock: a later answer means a cut connection."""
GOODBYE_S_MAX: Final = 1.0
"""How long a session may take to end, of the ten seconds in which SIGTERM ends the node; then it is cut off."""
VERSION_MIN: Final = 14
"""The oldest server that ends sessions which are silent for too long (idle_session_timeout)."""
STATEMENTS_CACHED: Final = 16
"""Such a session sends the same few statements every second: prepared once, each is one message instead of two."""
SILENCE_S_MAX: Final = 3.0
"""The server ends a session that sends nothing for so long: its process was stopped, or is beyond a cut network."""
FAULTS: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
"""What a statement may raise besides what it is written to raise."""

POOLER: Final = (
    "leads through a connection pooler such as PgBouncer, through which two processes could both become the writer: "
    "name the database server itself, with its own port (by default 5432, PgBouncer's is 6432)"
)
_WRONG: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)
_SESSION: Final = {
    "idle_session_timeout": int(SILENCE_S_MAX * 1000),
    "tcp_keepalives_idle": 1,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 2,
    "tcp_user_timeout": int(SILENCE_S_MAX * 1000),
}


async def connect(db_url: str, purpose: str, answer_s_max: float = ANSWER_S_MAX) -> asyncpg.Connection:
    """Connect to the primary server of `db_url`; `purpose` is shown in pg_stat_activity.

    A statement that takes longer than `answer_s_max` seconds fails.

    Raises StoreUnavailable, or StoreUnusable if DB_URL names a pooler, an old server, or what there is not.
    """
    try:
        connection = await asyncpg.connect(
            db_url,
            timeout=CONNECT_S_MAX,
            command_timeout=answer_s_max,
            statement_cache_size=STATEMENTS_CACHED,
            server_settings={"application_name": f"klinenode {purpose}"},
        )
    except FAULTS as error:
        raise unavailable(error, db_url) from error
    try:
        await _check(connection, db_url)
        for name, number in (_SESSION | {"statement_timeout": int(answer_s_max * 1000)}).items():
            await connection.execute(f"SET {name} = {number}")
    except FAULTS as error:
        connection.terminate()
        raise unavailable(error, db_url) from error
    except BaseException:
        connection.terminate()
        raise
    return connection


def unavailable(error: BaseException, db_url: str) -> StoreUnavailable:
    """The error for callers of the store; its message has no password."""
    known = failure.unavailable(error, place(db_url))
    if known is None:
        return StoreUnavailable(f"the database {place(db_url)} has failed [{error}]")
    return StoreUnusable(str(known)) if isinstance(error, _WRONG) else known


async def _check(connection: asyncpg.Connection, db_url: str) -> None:
    try:
        async with connection.transaction():  # a pooler stays with one session for a transaction
            pid, is_replica = await connection.fetchrow("SELECT pg_backend_pid(), pg_is_in_recovery()")
    except asyncpg.DuplicatePreparedStatementError as error:  # another client has prepared it in this new session
        raise StoreUnusable(f"DB_URL {POOLER}") from error
    if pid != connection.get_server_pid():  # a pooler makes up the number that it tells its clients
        raise StoreUnusable(f"DB_URL {POOLER}")
    if (version := connection.get_server_version()).major < VERSION_MIN:
        raise StoreUnusable(
            f"the database {place(db_url)} is Postgres {version.major}; klinenode needs {VERSION_MIN} or newer"
        )
    if is_replica:
        raise StoreUnavailable(
            f"the database {place(db_url)} is a replica, which cannot be written: DB_URL must name the primary server "
            "(the replica goes into DB_READ_URL)"
        )
