"""The registry of stores: what a DB_URL means. A new store is an entry of `_STORES`, and of shared_path.py."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.events import Observe
from app.ports.clock import Clock
from app.ports.contents import Contents
from app.ports.coordination import ChangeFeed, Lease
from app.ports.errors import StoreDamaged
from app.ports.probes import StoreFacts
from app.ports.store import OpenReader, OpenWriter, StoreLibrary
from infra.blocks.sealed_columns import BlockBuilder
from infra.postgres.change_feed import PostgresChangeFeed
from infra.postgres.contents import PostgresContents
from infra.postgres.driver import postgres_driver
from infra.postgres.examine import examine as postgres_examine
from infra.postgres.lease import PostgresLease
from infra.postgres.migrate import upgrade as postgres_upgrade
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from infra.postgres.replica import ReplicaReader
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.contents import SqliteContents
from infra.sqlite.examine import examine
from infra.sqlite.lease import NO_SPACE, WriterLease
from infra.sqlite.library import linked, stop_counting
from infra.sqlite.migrate import upgrade
from infra.sqlite.sqlite_store import SqliteReader, SqliteWriter
from infra.sqlite.url import sqlite_path

Report = Callable[[str | None], None]
"""Called after each write with the reason of its failure, or None when the write succeeded."""


Damage = Callable[[StoreDamaged], None]
"""Called with each damaged block that a read meets."""


class Reading(NamedTuple):
    """What a reader is made of. `damage` is called with each damaged block that it meets."""

    db_url: str
    damage: Damage = lambda error: None
    replica_url: str | None = None
    change_seen: Callable[[], int | None] = lambda: None
    """The change number that the replica must have reached for a read; None: it is not to be asked."""
    observe: Observe = lambda event: None


class Store(NamedTuple):
    """One kind of store; each field takes the DB_URL."""

    file: Callable[[str], Path | None]
    """The file of the database, whose disk fills up; None when a server keeps it, whose disk nobody here sees."""
    prepare: Callable[[str], Awaitable[None]]
    """Upgrades the database's schema to this version; only for the lease's holder.

    Raises SchemaTooNew, StoreUnavailable, StoreUnusable and OSError.
    """
    lease: Callable[[str], Lease]
    reader: Callable[[Reading], OpenReader]
    change_feed: Callable[[str], ChangeFeed]
    writer: Callable[[str, Clock, Report, Damage], Awaitable[OpenWriter]]
    """Opens the writer, which deposes earlier ones. Raises StoreUnavailable, SchemaTooNew, OSError."""
    contents: Callable[[str], Awaitable[Contents]]
    """Opens everything that the database holds, for a move to another store; only for the lease's holder."""
    collect: Callable[..., Any]
    """The form in which archive files are unpacked for the store (a Collector of infra.binance.unpack): in blocks."""
    library: Callable[[], StoreLibrary]
    no_space: frozenset[int]
    """The error numbers of a full disk, which does not prevent a start."""
    examine: Callable[[str], Awaitable[StoreFacts]]
    """Looks at the database for the doctor, without lease and without changing anything."""


def store_of(db_url: str, *, timescale: bool = False) -> Store:
    """The store that a DB_URL names; `timescale` is what TIMESCALE says. app.settings has checked both."""
    return _TIMESCALE if timescale else _STORES[db_url.partition(":")[0]]


def set_up_libraries() -> None:
    """Set the options of the stores' libraries, in each process before it opens its first database."""
    stop_counting()


async def _sqlite_upgrade(db_url: str) -> None:
    upgrade(db_url)


async def _sqlite_examine(db_url: str) -> StoreFacts:
    return await asyncio.to_thread(examine, db_url)


async def _sqlite_writer(db_url: str, clock: Clock, report: Report, damage: Damage) -> OpenWriter:
    return await SqliteWriter.open(db_url, clock, report=report, damage=damage)


def _postgres_reader(reading: Reading) -> OpenReader:
    if reading.replica_url is None:
        return PostgresReader(reading.db_url, damage=reading.damage)
    return ReplicaReader(
        reading.db_url, reading.replica_url, reading.change_seen, damage=reading.damage, observe=reading.observe
    )


async def _postgres_writer(db_url: str, clock: Clock, report: Report, damage: Damage) -> OpenWriter:
    return await PostgresWriter.open(db_url, clock, report=report, damage=damage)


async def _timescale_writer(db_url: str, clock: Clock, report: Report, damage: Damage) -> OpenWriter:
    return await PostgresWriter.open(db_url, clock, timescale=True, report=report, damage=damage)


_POSTGRES: Final = Store(
    lambda db_url: None,
    postgres_upgrade,
    PostgresLease,
    _postgres_reader,
    PostgresChangeFeed,
    _postgres_writer,
    PostgresContents.open,
    BlockBuilder,
    postgres_driver,
    NO_SPACE,
    postgres_examine,
)
_TIMESCALE: Final = _POSTGRES._replace(prepare=partial(postgres_upgrade, timescale=True), writer=_timescale_writer)

_STORES: Final = {
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "sqlite": Store(
        sqlite_path,
        _sqlite_upgrade,
        WriterLease,
        lambda reading: SqliteReader(reading.db_url, damage=reading.damage),
        SqliteChangeFeed,
        _sqlite_writer,
        SqliteContents.open,
        BlockBuilder,
        linked,
        NO_SPACE,
        _sqlite_examine,
    ),
}
