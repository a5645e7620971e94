"""The checks of a Postgres server: version, pooler, rights, connections, TimescaleDB, replica."""

from typing import Final

from app.doctor.finding import Finding, fail, ok, warn
from app.filling.amounts import of_bytes, of_seconds
from app.ports.probes import PostgresFacts, ReplicaFacts

CONNECTIONS_OF_PROCESS: Final = 7  # four that read, one that writes, those of the lease and of the change feed
BEHIND_MS_WARN: Final = 5_000  # a busy replica is tens of milliseconds behind


def postgres(where: str, facts: PostgresFacts) -> Finding:
    """Whether the node can work with this server, by this URL, as this user."""
    if facts.version < facts.version_min:
        return fail(
            "postgres",
            f"{where} is Postgres {facts.version}, and klinenode needs {facts.version_min} or newer",
            "upgrade the server, or let DB_URL name another one",
        )
    if facts.is_pooled:
        return fail(
            "postgres",
            f"DB_URL leads to {where} through a pooler such as PgBouncer: two processes could both become the writer",
            "name the server itself in DB_URL, with its own port (by default 5432, PgBouncer's is 6432)",
        )
    if facts.encoding != "UTF8":
        return fail(
            "postgres",
            f"{where} has the encoding {facts.encoding}, in which not every symbol can be written",
            "create another one with ENCODING 'UTF8' TEMPLATE template0, and let DB_URL name it",
        )
    if facts.owner is not None:
        return fail(
            "postgres",
            f"the tables of {where} belong to {facts.owner}, as whom the user of DB_URL may not act",
            f"let DB_URL name {facts.owner}, or make the user a member: GRANT {facts.owner} TO …",
        )
    if not facts.is_durable:
        return warn(
            "postgres",
            f"{where} does not survive a crash of its machine: fsync or full_page_writes is off",
            "turn both on in postgresql.conf",
        )
    return ok("postgres", f"Postgres {facts.version} is reached without a pooler, and this user may use its tables")


def connections(facts: PostgresFacts, workers: int) -> Finding:
    """Whether the server has a connection for all that the processes of this node may open."""
    needed = workers * CONNECTIONS_OF_PROCESS
    free = facts.connections_max - facts.connections_used
    sentence = f"{free:,} of {facts.connections_max:,} connections are not used by other programs"
    if free < needed:
        return warn(
            "connections",
            f"{sentence}, and WORKERS={workers} may open {needed}",
            "raise max_connections on the server (or the limit of the role or the database), or lower WORKERS; nodes "
            "on other hosts need as many again",
        )
    return ok("connections", f"{sentence}, and the node opens {needed} at most")


def timescale(where: str, facts: PostgresFacts, *, has_tables: bool) -> Finding:
    """Whether what TIMESCALE=true asks for can be had."""
    leave_out = "or leave TIMESCALE out: klinenode works the same without it"
    if has_tables and not facts.has_hypertables:
        return fail(
            "timescale",
            f"{where} was made without TIMESCALE and is not converted",
            "move everything into another database with `klinenode migrate-store --timescale`, " + leave_out,
        )
    if facts.timescale is None:
        return fail(
            "timescale",
            f"the server of {where} has no TimescaleDB, which TIMESCALE=true asks for",
            "install it there (package or image timescaledb), " + leave_out,
        )
    if facts.is_timescale_old:
        return fail(
            "timescale",
            f"{where} has TimescaleDB {facts.timescale}, and klinenode needs {facts.timescale_min} or newer",
            "install a newer one, then ALTER EXTENSION timescaledb UPDATE, " + leave_out,
        )
    return ok("timescale", f"TimescaleDB {facts.timescale} is there")


def replica(facts: ReplicaFacts) -> Finding:
    """Whether DB_READ_URL names a replica of DB_URL that keeps up."""
    if facts.failed is not None:
        return warn("replica", facts.failed, "rows are read from DB_URL until DB_READ_URL answers, or empty it")
    if not facts.is_replica:
        return warn(
            "replica",
            f"{facts.where} of DB_READ_URL is no replica: it is a server that takes writes",
            "let DB_READ_URL name a streaming replica, or empty it",
        )
    if not facts.is_same:
        return warn(
            "replica",
            f"{facts.where} of DB_READ_URL is a replica of another database than that of DB_URL",
            "correct DB_READ_URL, or empty it: nothing is read from there",
        )
    if facts.behind_ms > BEHIND_MS_WARN:
        return warn(
            "replica",
            f"{facts.where} is {of_seconds(facts.behind_ms // 1000)} and {of_bytes(facts.behind_bytes)} behind",
            "rows are read from DB_URL until it has caught up; see its log, its disk and the network",
        )
    return ok("replica", f"{facts.where} follows its primary server")
