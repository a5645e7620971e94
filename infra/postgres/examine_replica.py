"""A look at a replica and its primary that changes nothing: whether it is one, and how far it is behind."""

import asyncpg

from app.ports.probes import ReplicaFacts
from infra.postgres.examine import FAULTS, connected
from infra.postgres.failure import unavailable
from infra.postgres.identity import read_identity
from infra.postgres.url import place


async def examine_replica(url: str, replica_url: str) -> ReplicaFacts:
    """The facts of the replica; without those of comparing it if the primary of `url` cannot be read."""
    where = f"the database {place(replica_url)}"
    try:
        replica = await connected(replica_url)
    except FAULTS as error:
        return ReplicaFacts(where, str(unavailable(error, place(replica_url)) or error))
    try:
        async with replica.transaction(readonly=True):  # a pooler stays with one session for a transaction
            if not await replica.fetchval("SELECT pg_is_in_recovery()"):
                return ReplicaFacts(where, is_replica=False)
            return await _compared(url, replica, where)
    except FAULTS as error:
        return ReplicaFacts(where, str(unavailable(error, place(replica_url)) or error))
    finally:
        await replica.close()


async def _compared(url: str, replica: asyncpg.Connection, where: str) -> ReplicaFacts:
    try:
        primary = await connected(url)
    except FAULTS:
        return ReplicaFacts(where)  # the finding of the primary says what is wrong
    try:
        async with primary.transaction(readonly=True):
            identity = await read_identity(primary)
            written = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
    except FAULTS:
        return ReplicaFacts(where)  # without tables, or a standby itself
    finally:
        await primary.close()
    behind_bytes, age_ms = await replica.fetchrow(
        "SELECT greatest(0, pg_wal_lsn_diff($1::text::pg_lsn, pg_last_wal_replay_lsn()))::bigint, "
        "coalesce(extract(epoch FROM now() - pg_last_xact_replay_timestamp()) * 1000, 0)::bigint",
        written,
    )
    return ReplicaFacts(
        where,
        is_same=await read_identity(replica) == identity,
        behind_bytes=behind_bytes,
        behind_ms=max(0, age_ms) if behind_bytes else 0,
    )
