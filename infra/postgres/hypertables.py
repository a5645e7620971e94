"""TimescaleDB: whether the tables of rows are its hypertables instead of partitioned tables.

That is decided when the tables are made, and stays. All other statements are the same for both.
"""

from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.ports.errors import StoreUnusable

_VERSIONS: Final = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'timescaledb'"
_SCHEMA: Final = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'timescaledb'"
_HYPERTABLES: Final = (
    "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema()"
)
_LEAVE_OUT: Final = "or leave TIMESCALE out: klinenode works the same without it"
VERSION_MIN: Final = (2, 13)
"""The oldest TimescaleDB with create_hypertable(…, by_range(…))."""


def timescale_schema(connection: Connection, where: str, *, is_empty: bool, is_wanted: bool) -> str | None:
    """The quoted schema of TimescaleDB's functions if tables of rows are, or become, hypertables; None if they do not.

    `is_empty`: there are no tables yet in the database, which messages call `where`; then hypertables are made if they
    are wanted (TIMESCALE). Raises StoreUnusable if they are wanted and cannot be had.
    """
    schema: str | None = connection.execute(text(_SCHEMA)).scalar()
    if is_empty:
        return _installed(connection, where) if is_wanted else None
    if schema is not None and connection.execute(text(_HYPERTABLES)).scalar():
        return schema
    if is_wanted:
        raise StoreUnusable(
            f"the database {where} was made without TIMESCALE and is not converted: leave TIMESCALE out, or stop the "
            "nodes, create another database, move everything with `klinenode migrate-store --timescale`, and point "
            "DB_URL at the new one"
        )
    return None


def _installed(connection: Connection, where: str) -> str:
    """Install the extension unless it is installed, and return its schema. Raises StoreUnusable."""
    found = connection.execute(text(_VERSIONS)).one_or_none()
    if found is None:
        raise StoreUnusable(
            f"the server of the database {where} has no TimescaleDB, which TIMESCALE=true asks for: install it there "
            f"(package or image timescaledb), {_LEAVE_OUT}"
        )
    if (number := number_of(found[1] or found[0])) < VERSION_MIN:
        raise StoreUnusable(
            f"the database {where} has TimescaleDB {'.'.join(map(str, number))}; klinenode needs "
            f"{'.'.join(map(str, VERSION_MIN))} or newer: ALTER EXTENSION timescaledb UPDATE, {_LEAVE_OUT}"
        )
    if found[1] is None:
        try:
            connection.execute(text("CREATE EXTENSION timescaledb"))
        except DBAPIError as error:
            raise StoreUnusable(
                f"TimescaleDB cannot be installed in the database {where} [{error.orig}]: let an administrator set "
                "shared_preload_libraries = 'timescaledb', restart the server and run CREATE EXTENSION timescaledb "
                f"in the database, {_LEAVE_OUT}"
            ) from error
    return str(connection.execute(text(_SCHEMA)).scalar_one())


def number_of(version: str) -> tuple[int, ...]:
    """The first two numbers of a version such as 2.23.0 or 2.23.0-dev."""
    return tuple(int(part) for part in version.split(".")[:2])
