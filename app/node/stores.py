"""The registry of stores: what a DB_URL means. A new one is a branch of `store_of`, and an entry of shared_path.py."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.events import Observe
from app.ports.clock import Clock
from app.ports.contents import Contents
from app.ports.coordination import ChangeFeed, Lease
from app.ports.errors import StoreDamaged
from app.ports.probes import ReplicaFacts, StoreFacts
from app.ports.store import OpenReader, OpenWriter, StoreLibrary
from infra.blocks.sealed_columns import BlockBuilder
from infra.sqlite.change_feed import SqliteChangeFeed
from infra.sqlite.contents import SqliteContents
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
    prepare_target: Callable[[str, str], Awaitable[None]]
    """The same for a move from the database that the second one names: an empty database is marked at once as its
    unfinished target, so that no node starts on it."""
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
    examine_replica: Callable[[str, str], Awaitable[ReplicaFacts]] | None = None
    """The same with a replica, whose URL is the second one; None: this kind of store has no replicas."""


def store_of(db_url: str, *, timescale: bool = False) -> Store:
    """The store that a DB_URL names; `timescale` is what TIMESCALE says. app.settings has checked both."""
    if db_url.partition(":")[0] == "sqlite":
        return _SQLITE
    from app.node.postgres_stores import POSTGRES, TIMESCALE  # here: a node on SQLite imports no driver of Postgres

    return TIMESCALE if timescale else POSTGRES


def set_up_libraries() -> None:
    """Set the options of the stores' libraries, in each process before it opens its first database."""
    stop_counting()


async def _sqlite_upgrade(db_url: str) -> None:
    upgrade(db_url)


async def _sqlite_target_upgrade(db_url: str, moved_from: str) -> None:
    upgrade(db_url, moved_from=moved_from)


async def _sqlite_examine(db_url: str) -> StoreFacts:
    from infra.sqlite.examine import examine  # here: it imports Alembic, which a node does without

    return await asyncio.to_thread(examine, db_url)


async def _sqlite_writer(db_url: str, clock: Clock, report: Report, damage: Damage) -> OpenWriter:
    return await SqliteWriter.open(db_url, clock, report=report, damage=damage)


_SQLITE: Final = Store(
    sqlite_path,
    _sqlite_upgrade,
    _sqlite_target_upgrade,
    WriterLease,
    lambda reading: SqliteReader(reading.db_url, damage=reading.damage),
    SqliteChangeFeed,
    _sqlite_writer,
    SqliteContents.open,
    BlockBuilder,
    linked,
    NO_SPACE,
    _sqlite_examine,
)
