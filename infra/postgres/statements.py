"""SQL for many rows in one statement: the values of each column are bound as one array.

A statement is a round trip, so 600 batches of one row each are written by as many statements as one of them. Measured:
600 rows take 17 ms as arrays, and as long by COPY into a temporary table, which is another round trip.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import asyncpg

_INTEGERS: Final = frozenset(
    {
        "delivery_ms", "end_ms", "epoch", "first_ms", "id", "is_doubted", "last_ms", "onboard_ms", "open_ms",
        "open_time", "price_precision", "quantity_precision", "replaced_at_ms", "rows", "seen_ms", "seq", "since_ms",
        "start_ms", "stored_ms", "trades", "until_ms", "verified_at_ms",
    }
)  # fmt: skip
_BYTES: Final = frozenset({"body", "sha256"})
_STATEMENTS_KEPT: Final = 256


def arrays(names: Sequence[str], first: int = 1) -> str:
    """`unnest($1::text[], $2::bigint[])` for columns with these names; `first`: the number of the first value."""
    bound = ", ".join(f"${number}::{_type(name)}[]" for number, name in enumerate(names, first))
    return f"unnest({bound})"


async def put(
    connection: asyncpg.Connection,
    table: str,
    names: Sequence[str],
    rows: Iterable[Sequence[object]],
    on_conflict: str = "",
) -> None:
    """Insert `rows` with columns `names`; `on_conflict` is an upsert clause, such as that of `overwrite`."""
    if columns := list(zip(*rows, strict=True)):
        await put_columns(connection, table, names, columns, on_conflict)


async def put_columns(
    connection: asyncpg.Connection,
    table: str,
    names: Sequence[str],
    columns: Sequence[Sequence[Any]],
    on_conflict: str = "",
) -> None:
    """Insert rows, given the values of each column of `names`."""
    await connection.execute(_insert(table, tuple(names), on_conflict), *columns)


@lru_cache(_STATEMENTS_KEPT)
def _insert(table: str, names: tuple[str, ...], on_conflict: str) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM {arrays(names)} {on_conflict}"


def overwrite(key: Sequence[str], names: Sequence[str]) -> str:
    """The upsert clause by which a new row replaces the columns `names` of the row with the same `key`."""
    assigned = ", ".join(f"{name} = excluded.{name}" for name in names)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {assigned}"


def _type(name: str) -> str:
    return "bigint" if name in _INTEGERS else "bytea" if name in _BYTES else "text"
