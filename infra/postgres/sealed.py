"""The table of sealed blocks (infra.blocks). Where a block is, the tables of rows have no rows of its series."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from app.domain.block_grid import block_span, is_sealable
from app.domain.interval import Interval
from app.domain.kind import Kind, Row
from app.domain.series import Series
from app.domain.span import Span
from infra.blocks.block import Block, BlockDamaged, Packed, pack
from infra.blocks.rows import rows_of_text
from infra.postgres.row_reads import Asked, delete_rows_in, printing, put_rows
from infra.postgres.statements import arrays, put_columns
from infra.stores.cut import blocks_max
from infra.stores.damage import damaged
from infra.stores.row_tables import row_table

OF_SERIES: Final = "symbol = $1 AND interval = $2"
IN_WINDOW: Final = f"{OF_SERIES} AND start_ms >= $3 AND start_ms < $4"
BLOCKS_READ_MAX: Final = 32
"""How many blocks one statement reads, 50 kB each."""
COPIED_BLOCKS_MIN: Final = 4
"""From so many blocks on they are stored by COPY, which is another round trip, but not parsed."""

_COLUMNS: Final = ("symbol", "interval", "start_ms", "rows", "first_ms", "last_ms", "sha256", "body")
_ASKED: Final = ("symbol", "start_ms", "end_ms")


class Stored(NamedTuple):
    """A stored block."""

    start_ms: int
    sha256: bytes
    body: bytes


def reach(series: Series, window: Span) -> tuple[str, str, int, int]:
    """The values of IN_WINDOW for the blocks that overlap `window`."""
    return series.name, series.interval.code, block_span(series.interval, window.start_ms).start_ms, window.end_ms


async def sealed_ends(connection: asyncpg.Connection, wanted: Collection[Series]) -> dict[Series, int]:
    """Where the newest block of each series ends; 0 when it has none. One statement."""
    sealable = [series for series in wanted if is_sealable(*series.table)]
    found = dict.fromkeys(wanted, 0)
    if sealable:
        select = (
            f"SELECT number, (SELECT max(start_ms) FROM block WHERE symbol = one.symbol AND interval = one.interval) "
            f"FROM {arrays(('symbol', 'interval'))} WITH ORDINALITY AS one (symbol, interval, number)"
        )
        names = [(series.name, series.interval.code) for series in sealable]
        for number, start_ms in await connection.fetch(select, *zip(*names, strict=True)):
            if start_ms is not None:
                series = sealable[number - 1]
                found[series] = block_span(series.interval, start_ms).end_ms
    return found


async def block_starts(connection: asyncpg.Connection, series: Series, window: Span) -> list[int]:
    """The starts of the blocks that overlap `window`, ascending."""
    if not window or not is_sealable(*series.table):
        return []
    select = f"SELECT start_ms FROM block WHERE {IN_WINDOW} ORDER BY start_ms"
    return [record[0] for record in await connection.fetch(select, *reach(series, window))]


async def read_block(connection: asyncpg.Connection, series: Series, start_ms: int) -> Stored:
    """The block that begins at `start_ms`, which must exist."""
    select = f"SELECT start_ms, sha256, body FROM block WHERE {OF_SERIES} AND start_ms = $3"
    return Stored(*await connection.fetchrow(select, series.name, series.interval.code, start_ms))


async def sealed_rows(
    connection: asyncpg.Connection, series: Series, window: Span, *, limit: int | None = None, newest: bool = False
) -> list[Row]:
    """At most `limit` sealed rows that open in `window`, the oldest or the `newest`, ascending. Raises StoreDamaged."""
    if not window or not is_sealable(*series.table):
        return []
    at_once = BLOCKS_READ_MAX if limit is None else min(BLOCKS_READ_MAX, blocks_max(series.interval, limit))
    select = (
        f"SELECT start_ms, sha256, body FROM block WHERE {IN_WINDOW} "
        f"ORDER BY start_ms {'DESC' if newest else ''} LIMIT {at_once}"
    )
    name, code, first_ms, end_ms = reach(series, window)
    parts: list[list[Row]] = []
    left = limit
    while left is None or left > 0:
        found = [Stored(*record) for record in await connection.fetch(select, name, code, first_ms, end_ms)]
        for stored in found:
            rows = rows_in(series, stored, window)
            if left is not None:
                rows = rows[max(0, len(rows) - left) :] if newest else rows[:left]
                left -= len(rows)
            parts.append(rows)
        if len(found) < at_once:
            break
        first_ms, end_ms = (first_ms, found[-1].start_ms) if newest else (found[-1].start_ms + 1, end_ms)
    if newest:
        parts.reverse()
    return [row for part in parts for row in part]


def rows_in(series: Series, stored: Stored, window: Span, *, is_checked: bool = False) -> list[Row]:
    """The rows of a block that open in `window`. Raises StoreDamaged.

    `is_checked`: compare the whole block with its SHA-256 first.
    """
    try:
        block = Block(stored.body, stored.start_ms, series.interval.grid.step_ms)
        if is_checked:
            block.check(stored.sha256)
        text = block.text(block.position(window.start_ms), block.position(window.end_ms))
        return rows_of_text(series.kind, text)
    except BlockDamaged as error:
        raise damaged(series, stored.start_ms, error) from error


async def blocks_asked(
    connection: asyncpg.Connection, interval: Interval, asked: Sequence[Asked]
) -> list[tuple[str, Stored]]:
    """The blocks that overlap the spans that are `asked` for, each once, with the names of their series."""
    reached = [(name, block_span(interval, start_ms).start_ms, end_ms) for name, start_ms, end_ms in asked]
    select = (
        f"SELECT DISTINCT ON (block.symbol, block.start_ms) block.symbol, block.start_ms, sha256, body "
        f"FROM {arrays(_ASKED)} AS one (symbol, start_ms, end_ms) JOIN block ON block.symbol = one.symbol "
        "AND interval = $4 AND block.start_ms >= one.start_ms AND block.start_ms < one.end_ms "
        "ORDER BY block.symbol, block.start_ms"
    )
    records = await connection.fetch(select, *zip(*reached, strict=True), interval.code) if reached else []
    return [(name, Stored(*stored)) for name, *stored in records]


async def insert_blocks(
    connection: asyncpg.Connection, kind: Kind, interval: Interval, blocks: Mapping[str, Sequence[Packed]]
) -> None:
    """Store `blocks`, by the name of their series, instead of the rows of their spans."""
    await delete_rows_in(connection, kind, interval, spans_of(blocks))
    await put_blocks(connection, interval, blocks)


def spans_of(blocks: Mapping[str, Sequence[Packed]]) -> list[Asked]:
    """The spans of `blocks`, which are by the name of their series: no row may lie in them."""
    spans = {name: _joined([block.span for block in each]) for name, each in blocks.items()}
    return [(name, *span) for name, each in spans.items() for span in each]


async def put_blocks(
    connection: asyncpg.Connection, interval: Interval, blocks: Mapping[str, Sequence[Packed]]
) -> None:
    """Store `blocks`, by the name of their series. The rows of `spans_of` must have been deleted."""
    lines = [
        (name, interval.code, block.span.start_ms, block.rows, block.first_ms, block.last_ms, block.sha256, block.body)
        for name, each in blocks.items()
        for block in each
    ]
    if len(lines) < COPIED_BLOCKS_MIN:
        await put_columns(connection, "block", _COLUMNS, list(zip(*lines, strict=True)))
    else:
        await connection.copy_records_to_table("block", records=lines, columns=_COLUMNS)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """`spans`, ascending, with those that touch made one."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].end_ms == span.start_ms:
            found[-1] = Span(found[-1].start_ms, span.end_ms)
        else:
            found.append(span)
    return found


async def delete_block(connection: asyncpg.Connection, series: Series, start_ms: int) -> None:
    """Delete the block that begins at `start_ms`."""
    statement = f"DELETE FROM block WHERE {OF_SERIES} AND start_ms = $3"
    await connection.execute(statement, series.name, series.interval.code, start_ms)


async def open_block(connection: asyncpg.Connection, series: Series, start_ms: int) -> tuple[int, int]:
    """Turn the block that begins at `start_ms` into rows; returns their number, and the bytes that it had.

    It is compared with its SHA-256: nothing could tell afterwards that the rows are not what was written. Raises
    StoreDamaged.
    """
    stored = await read_block(connection, series, start_ms)
    rows = rows_in(series, stored, block_span(series.interval, start_ms), is_checked=True)
    await delete_block(connection, series, start_ms)
    await put_rows(connection, *series.table, [(series.name, rows)])
    return len(rows), len(stored.body)


async def packed(connection: asyncpg.Connection, series: Series, span: Span) -> Packed | None:
    """The unsealed rows of `span`, which must be that of a block, as a block.

    None if there are none, or if their text could not be read back.
    """
    select = (
        f"SELECT open_time, convert_to({printing(*series.table)}, 'UTF8') FROM {row_table(*series.table)} "
        "WHERE symbol = $1 AND open_time >= $2 AND open_time < $3 ORDER BY open_time"
    )
    records = await connection.fetch(select, series.name, *span)
    if not records:
        return None
    opens_ms, rows = map(list[Any], zip(*records, strict=True))
    return await asyncio.to_thread(_packed, series, opens_ms, rows, span)  # it takes 5 ms, for which others run


def _packed(series: Series, opens_ms: list[int], rows: list[bytes], span: Span) -> Packed | None:
    try:
        if len(rows_of_text(series.kind, b",".join(rows))) != len(rows):
            return None
    except BlockDamaged:
        return None
    return pack(rows, opens_ms, span, series.interval.grid.step_ms)
