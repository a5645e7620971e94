"""Looks into a Postgres database: its sessions, damage, tables, and whether rows, blocks and ledger agree."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from infra.blocks.block import Block
from infra.postgres.fence import reading
from tests.patience import PATIENCE_S
from tests.postgres_server import on_connection
from tests.programs.torture.kill import expect
from tests.programs.torture.ledger_lines import Line, expect_agreement
from tests.programs.torture.load import CODES
from tests.programs.torture.run import WATCH_S
from tests.system.processes import until

FOUND_S_MAX: Final = 90  # a minute closes in that time, which is written if there is no history left to fetch

_OF_NODES: Final = "datname = current_database() AND application_name LIKE 'klinenode%'"
HAS_SESSIONS: Final = f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {_OF_NODES})"
HAS_NO_SESSIONS: Final = f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE {_OF_NODES})"


def _finder(name: str, condition: str, then: str = "") -> str:
    """A function that looks until a session of a node meets `condition`, and returns its pid; NULL: none did.

    The server looks itself, since a commit is over before an answer could be sent and read.
    """
    return f"""
    CREATE FUNCTION torture.{name}() RETURNS int LANGUAGE plpgsql AS $$
    DECLARE
        found int;
    BEGIN
        WHILE clock_timestamp() < now() + interval '{FOUND_S_MAX} s' LOOP
            SELECT pid INTO found FROM pg_stat_activity WHERE {_OF_NODES} AND {condition} LIMIT 1;
            IF found IS NOT NULL THEN
                {then}
                RETURN found;
            END IF;
            PERFORM pg_stat_clear_snapshot(), pg_sleep(0.0002);
        END LOOP;
        RETURN NULL;
    END $$"""


_END: Final = "PERFORM pg_terminate_backend(found);"
_IN_TRANSACTION: Final = "backend_xid IS NOT NULL AND query <> 'COMMIT'"
SET_UP: Final = (
    "CREATE SCHEMA torture",
    "CREATE EXTENSION amcheck SCHEMA torture",
    _finder("in_commit", "backend_xid IS NOT NULL AND query = 'COMMIT' AND state = 'active'"),
    _finder("in_transaction", _IN_TRANSACTION),
    _finder("end_transaction", _IN_TRANSACTION, _END),
    _finder("end_lease", "application_name = 'klinenode lease'", _END),
)
"""What a database needs for the looks: functions in a schema that the node does not see."""

_OF_NODE: Final = "relnamespace = 'public'::regnamespace"
_TABLES: Final = f"""
SELECT count(*) FILTER (WHERE NOT relispartition), count(*) FILTER (WHERE relispartition)
FROM pg_class WHERE {_OF_NODE} AND relkind IN ('r', 'p') AND relname <> 'lease_holder'"""
_CHECK_INDEX: Final = """
SELECT count(torture.{check}) FROM pg_class JOIN pg_am ON pg_am.oid = relam
WHERE {of_node} AND relkind = 'i' AND amname = 'btree'"""
_CHECK_ROWS: Final = f"""
SELECT relname, msg FROM pg_class, torture.verify_heapam(pg_class.oid) WHERE {_OF_NODE} AND relkind = 'r'"""
_LINES: Final = """
SELECT symbol, interval, start_ms, end_ms, source, (
    SELECT count(*) FROM kline_{code} AS one
    WHERE one.symbol = ledger.symbol AND open_time >= start_ms AND open_time < end_ms
) FROM ledger WHERE interval = '{code}'"""
_BOTH: Final = """
SELECT count(*) FROM block JOIN kline_{code} AS one
ON one.symbol = block.symbol AND open_time BETWEEN first_ms AND last_ms WHERE interval = '{code}'"""


async def wait(url: str, condition: str, what: str, within_s: float = PATIENCE_S) -> None:
    """Wait until the SELECT `condition` is true. Raises AssertionError with `what` after `within_s` seconds."""

    async def work(connection: asyncpg.Connection) -> None:
        async def holds() -> bool:
            return bool(await connection.fetchval(condition))

        await until(holds, what, within_s, every_s=WATCH_S)

    await on_connection(url, work)


async def tables(connection: asyncpg.Connection) -> tuple[int, int]:
    """How many tables and how many partitions of them there are, without that of the lease."""
    whole, parts = await connection.fetchrow(_TABLES)
    return whole, parts


async def log_end_bytes(connection: asyncpg.Connection) -> int:
    """How many bytes the log (WAL) has had so far."""
    return int(await connection.fetchval("SELECT (pg_current_wal_lsn() - '0/0')::bigint"))


async def newest_change(connection: asyncpg.Connection) -> int:
    """The number of the newest change in the journal."""
    return int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM change"))


async def look(connection: asyncpg.Connection, *, whole: bool) -> tuple[int, int] | None:
    """Check tables and indexes for damage, and that rows, blocks and ledger agree (`expect_agreement`).

    Return the number of rows and of ledger lines; None if there are no tables yet. A node may be writing, unless the
    database is to be checked as a `whole`. Raises asyncpg.IndexCorruptedError and BlockDamaged.
    """
    if (await tables(connection))[0] == 0:
        return None
    check = "bt_index_parent_check(pg_class.oid, true, true)" if whole else "bt_index_check(pg_class.oid, true)"
    await connection.execute(_CHECK_INDEX.format(check=check, of_node=_OF_NODE))
    damage = await connection.fetch(_CHECK_ROWS)
    expect(not damage, f"Postgres finds damage: {damage[:3]}")
    async with reading(connection):
        lines = [Line(*line) for code in CODES for line in await connection.fetch(_LINES.format(code=code))]
        blocks = await connection.fetch("SELECT symbol, interval, sha256, body FROM block")
        rows = Counter({code: await connection.fetchval(f"SELECT count(*) FROM kline_{code}") for code in CODES})
        for code in CODES:
            both = await connection.fetchval(_BOTH.format(code=code))
            expect(both == 0, f"kline_{code}: {both} rows beside their block")
        number = await connection.fetchval("SELECT count(*) FROM ledger")
        revised = await connection.fetchval("SELECT count(*) FROM revision")
    expect(len(lines) == number, f"{number} ledger lines, of which {len(lines)} are of {CODES}")
    sealed = await asyncio.to_thread(_opens, blocks)
    for (_, code), opens_ms in sealed.items():
        rows[code] += len(opens_ms)
    return expect_agreement([_with_sealed(line, sealed[line.symbol, line.code]) for line in lines], rows, revised)


def _opens(blocks: Sequence[Sequence[Any]]) -> defaultdict[tuple[str, str], list[int]]:
    """The open times in all blocks, by symbol and interval. Raises BlockDamaged."""
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for symbol, code, sha256, body in blocks:
        block = Block(body)
        block.check(sha256)
        found[symbol, code] += block.opens_ms()
    return found


def _with_sealed(line: Line, opens_ms: Sequence[int]) -> Line:
    sealed = sum(line.start_ms <= open_ms < line.end_ms for open_ms in opens_ms)
    return line._replace(rows=line.rows + sealed)
