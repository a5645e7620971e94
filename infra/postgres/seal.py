"""Sealing: rows become blocks, blocks become rows, and damaged blocks are found and given up."""

import asyncio

import asyncpg

from app.domain.block_grid import block_span, is_sealable
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.ports.store import BlockCheck, Sealed
from infra.blocks.block import Block, BlockDamaged
from infra.postgres.changes import note_spans
from infra.postgres.ledger_log import LedgerLog, read_place
from infra.postgres.ledgers import name_of, read_ledger, write_ledger
from infra.postgres.sealed import block_starts, delete_block, insert_blocks, open_block, packed, read_block
from infra.postgres.verification import forget_checks
from infra.stores.damage import damaged_of
from infra.stores.row_tables import row_table


async def seal(connection: asyncpg.Connection, series: Series, window: Span) -> tuple[Sealed, Span | None]:
    """Seal the oldest unsealed rows of `window`, if all of their block's span is known; and the span of that block.

    The block must end by `window.end_ms`. Called inside a transaction, as the others that write.
    """
    if not is_sealable(*series.table):
        return Sealed(0, 0, None), None
    select = f"SELECT min(open_time) FROM {row_table(*series.table)} WHERE symbol = $1 AND open_time >= $2"
    open_ms = await connection.fetchval(select, series.name, window.start_ms)
    if open_ms is None or (span := block_span(series.interval, open_ms)).end_ms > window.end_ms:
        return Sealed(0, 0, None), None
    nothing = Sealed(0, 0, span.end_ms), None
    if not (await read_ledger(connection, series)).known.covers(span):
        return nothing
    made = await packed(connection, series, span)
    if made is None:
        return nothing
    await insert_blocks(connection, *series.table, {series.name: [made]})
    return Sealed(made.rows, len(made.body), span.end_ms), span


async def unseal(connection: asyncpg.Connection, series: Series, window: Span) -> Sealed:
    """Turn the oldest block of `window` into rows. Raises StoreDamaged."""
    starts = await block_starts(connection, series, window)
    if not starts:
        return Sealed(0, 0, None)
    rows, body_bytes = await open_block(connection, series, starts[0])
    return Sealed(rows, body_bytes, block_span(series.interval, starts[0]).end_ms)


async def check_blocks(connection: asyncpg.Connection, after: int, number: int) -> BlockCheck:
    """Compare the next `number` blocks after that with id `after` with their SHA-256."""
    select = "SELECT id, symbol, interval, start_ms, sha256, body FROM block WHERE id > $1 ORDER BY id LIMIT $2"
    blocks = await connection.fetch(select, after, number)
    found = await asyncio.to_thread(damaged_of, blocks)
    return BlockCheck(blocks[-1][0] if blocks else 0, len(blocks), found)


async def give_up(connection: asyncpg.Connection, series: Series, span: Span, now_ms: int) -> Ledger | None:
    """Delete the block of `span` if it is damaged, and make its held rows unknown; returns the ledger afterwards.

    Returns None if there is no such block, or nothing is wrong with it.
    """
    if span.start_ms not in await block_starts(connection, series, span):
        return None
    stored = await read_block(connection, series, span.start_ms)
    try:
        Block(stored.body, span.start_ms, series.interval.grid.step_ms).check(stored.sha256)
    except BlockDamaged:
        await delete_block(connection, series, span.start_ms)
    else:
        return None
    before = await read_ledger(connection, series)
    lost = before.held.clip(span)
    after = before.without(lost)
    await write_ledger(connection, series, after)
    log = LedgerLog(connection, now_ms, await read_place(connection))
    log.note(name_of(series), before, after)
    await log.write()
    await forget_checks(connection, {name_of(series): lost})
    await note_spans(connection, [(series, span)], now_ms)
    return after
