"""The partitions of the tables of rows that are sealed: everything before the first month, and each month since then.

History comes in blocks, or is sealed soon after it was fetched, so that its rows stay in one partition. Recent rows are
in monthly ones, which are made ahead of time. There is no default partition: it would have to be searched each time a
month is added, and one whose rows it has taken could not be added at all. Hypertables (infra.postgres.hypertables) have
no partitions: TimescaleDB makes their chunks itself.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from app.ports.errors import StoreUnavailable

MONTHS_AHEAD: Final = 2  # beside the current one: a writer that runs has a month of time to make the next
MONTHS_MADE_MAX: Final = 120  # of seventeen tables at once; rows ten years ahead come from a clock that is wrong

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = 2026 * 12 + 10  # November 2026: no database is older, whatever its clock says
_PAST: Final = "past"

_NEWEST: Final = """
SELECT parent.relname, max(child.relname) FILTER (WHERE child.relname ~ '_[0-9]{6}$')
FROM pg_partitioned_table
JOIN pg_class AS parent ON parent.oid = partrelid
LEFT JOIN pg_inherits ON inhparent = parent.oid
LEFT JOIN pg_class AS child ON child.oid = inhrelid
WHERE parent.relnamespace = current_schema()::regnamespace
GROUP BY parent.relname ORDER BY parent.relname
"""


def needs_partitions(end_ms: int, newest_ms: int) -> bool:
    """Whether rows that open by `newest_ms` may soon lack a partition, those that exist ending at `end_ms`."""
    return end_ms < _start_ms(_month(newest_ms) + MONTHS_AHEAD)


async def make_partitions(connection: asyncpg.Connection, newest_ms: int) -> int:
    """Make what is missing for rows that open by `newest_ms`, and ahead; returns where all partitions end (ms).

    Finds no partitioned table, and makes nothing, where the tables are hypertables. Called inside a write transaction.
    Readers and writers of other partitions do not wait for it. Raises StoreUnavailable when `newest_ms` is too far away
    to be true.
    """
    last = max(_month(newest_ms), _FIRST) + MONTHS_AHEAD
    statements: list[str] = []
    ends = []
    for table, newest in await connection.fetch(_NEWEST):
        begun = None if newest is None else _numbered(newest[-6:])
        first = max(_FIRST, _month(newest_ms)) if begun is None else begun + 1
        if last - first >= MONTHS_MADE_MAX:
            raise StoreUnavailable(
                f"rows open in {_name(_month(newest_ms))}, years after those that the database holds; set the clock"
            )
        if begun is None:
            statements += _partition(table, _PAST, "MINVALUE", str(_start_ms(first)))
        for month in range(first, last + 1):
            statements += _partition(table, _name(month), str(_start_ms(month)), str(_start_ms(month + 1)))
        ends.append(max(last, first - 1) + 1)
    if statements:
        await connection.execute("; ".join(statements))
    return _start_ms(min(ends, default=last + 1))


def _partition(table: str, name: str, start: str, end: str) -> Iterator[str]:
    """Attaching takes a weaker lock than creating a table as a partition, which would wait for all readers."""
    yield f"CREATE TABLE {table}_{name} (LIKE {table} INCLUDING ALL)"
    yield f"ALTER TABLE {table} ATTACH PARTITION {table}_{name} FOR VALUES FROM ({start}) TO ({end})"


def _month(time_ms: int) -> int:
    """The number of the month of `time_ms`, counted from the year 0."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.year * 12 + moment.month - 1


def _start_ms(month: int) -> int:
    return (datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)


def _name(month: int) -> str:
    return f"{month // 12:04}{month % 12 + 1:02}"


def _numbered(name: str) -> int:
    return int(name[:4]) * 12 + int(name[4:]) - 1
