"""What a DB_URL of Postgres means, without and with TimescaleDB; imported only for such a URL."""

from functools import partial
from typing import Final

from app.node.stores import Damage, Reading, Report, Store
from app.ports.clock import Clock
from app.ports.probes import ReplicaFacts, StoreFacts
from app.ports.store import OpenReader, OpenWriter
from infra.blocks.sealed_columns import BlockBuilder
from infra.postgres.change_feed import PostgresChangeFeed
from infra.postgres.contents import PostgresContents
from infra.postgres.driver import postgres_driver
from infra.postgres.lease import PostgresLease
from infra.postgres.migrate import upgrade
from infra.postgres.postgres_store import PostgresReader, PostgresWriter
from infra.postgres.replica import ReplicaReader
from infra.sqlite.lease import NO_SPACE


def _postgres_reader(reading: Reading) -> OpenReader:
    if reading.replica_url is None:
        return PostgresReader(reading.db_url, damage=reading.damage)
    return ReplicaReader(
        reading.db_url, reading.replica_url, reading.change_seen, damage=reading.damage, observe=reading.observe
    )


async def _postgres_examine(db_url: str) -> StoreFacts:
    from infra.postgres.examine import examine  # here: it imports Alembic, which a node does without

    return await examine(db_url)


async def _postgres_examine_replica(db_url: str, replica_url: str) -> ReplicaFacts:
    from infra.postgres.examine_replica import examine_replica  # here: as above

    return await examine_replica(db_url, replica_url)


async def _postgres_writer(db_url: str, clock: Clock, report: Report, damage: Damage) -> OpenWriter:
    return await PostgresWriter.open(db_url, clock, report=report, damage=damage)


async def _timescale_writer(db_url: str, clock: Clock, report: Report, damage: Damage) -> OpenWriter:
    return await PostgresWriter.open(db_url, clock, timescale=True, report=report, damage=damage)


async def _target_upgrade(db_url: str, moved_from: str) -> None:
    await upgrade(db_url, moved_from=moved_from)


async def _timescale_target_upgrade(db_url: str, moved_from: str) -> None:
    await upgrade(db_url, timescale=True, moved_from=moved_from)


POSTGRES: Final = Store(
    lambda db_url: None,
    upgrade,
    _target_upgrade,
    PostgresLease,
    _postgres_reader,
    PostgresChangeFeed,
    _postgres_writer,
    PostgresContents.open,
    BlockBuilder,
    postgres_driver,
    NO_SPACE,
    _postgres_examine,
    _postgres_examine_replica,
)
TIMESCALE: Final = POSTGRES._replace(
    prepare=partial(upgrade, timescale=True), prepare_target=_timescale_target_upgrade, writer=_timescale_writer
)
