"""SQL for many rows in one statement: the values of each column are bound as one array, or as one text.

A statement is a round trip, so 600 batches of one row each are written by as many statements as one of them. asyncpg
takes 0.8 µs of the event loop for each element of an array, so columns of many rows are bound as one text of lines,
which the server splits. A value with a line feed would make its column longer than the others, and the insert fails: no
row may lack its key.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import asyncpg

_INTEGERS: Final = frozenset(
    {
        "at_ms", "delivery_ms", "end_ms", "epoch", "first_ms", "foreign_changes", "id", "is_doubted", "is_whole",
        "last_ms", "onboard_ms", "open_ms", "open_time", "price_precision", "quantity_precision", "replaced_at_ms",
        "rows", "seen_ms", "seq", "since_ms", "start_ms", "stored_ms", "trades", "until_ms", "verified_at_ms",
    }
)  # fmt: skip
_BYTES: Final = frozenset({"body", "sha256"})
_STATEMENTS_KEPT: Final = 256
LINES_MIN: Final = 20
"""From so many values on; one empty text would be no line at all."""


def arrays(names: Sequence[str], first: int = 1) -> str:
    """`unnest($1::text[], $2::bigint[])` for columns with these names; `first`: the number of the first value."""
    bound = ", ".join(f"${number}::{_type(name)}[]" for number, name in enumerate(names, first))
    return f"unnest({bound})"


def lines(names: Sequence[str], first: int = 1) -> str:
    """As `arrays`, of values that are bound as one text for each column, one value a line; none is an empty text."""
    bound = ", ".join(_split(name, number) for number, name in enumerate(names, first))
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
    bound = [_lines(name, column) for name, column in zip(names, columns, strict=True)]
    are_lines = tuple(isinstance(each, str) for each in bound)
    await connection.execute(_insert(table, tuple(names), are_lines, on_conflict), *bound)


@lru_cache(_STATEMENTS_KEPT)
def _insert(table: str, names: tuple[str, ...], are_lines: tuple[bool, ...], on_conflict: str) -> str:
    values = ", ".join(
        _split(name, number) if is_lines else f"${number}::{_type(name)}[]"
        for number, (name, is_lines) in enumerate(zip(names, are_lines, strict=True), 1)
    )
    return f"INSERT INTO {table} ({', '.join(names)}) SELECT * FROM unnest({values}) {on_conflict}"


def _split(name: str, number: int) -> str:
    return f"string_to_array(${number}::text, E'\\n')::{_type(name)}[]"


def _lines(name: str, column: Sequence[Any]) -> Sequence[Any] | str:
    """`column` as one text, one value a line; or itself if it has few values, unknown ones, or bytes."""
    if len(column) < LINES_MIN or name in _BYTES:
        return column
    if name in _INTEGERS:
        return "\n".join(map(str, column))
    try:
        return "\n".join(column)
    except TypeError:
        return column  # None is NULL, and asyncpg refuses what is no text


def overwrite(key: Sequence[str], names: Sequence[str]) -> str:
    """The upsert clause by which a new row replaces the columns `names` of the row with the same `key`."""
    assigned = ", ".join(f"{name} = excluded.{name}" for name in names)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {assigned}"


def _type(name: str) -> str:
    return "bigint" if name in _INTEGERS else "bytea" if name in _BYTES else "text"
