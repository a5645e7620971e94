"""Sealing: rows become blocks, blocks become rows, and damaged blocks are found and given up."""

from collections.abc import Callable

from app.domain.block_grid import block_span, is_sealable
from app.domain.ledger import Ledger
from app.domain.series import Series
from app.domain.span import Span
from app.ports.store import BlockCheck, Sealed
from infra.blocks.block import Block, BlockDamaged
from infra.sqlite.changes import note_spans
from infra.sqlite.ledger_log import LedgerLog
from infra.sqlite.ledgers import read_ledger, write_ledger
from infra.sqlite.library import sqlite3
from infra.sqlite.sealed import (
    BODY,
    block_starts,
    delete_block,
    insert_block,
    open_block,
    packed,
    read_body,
)
from infra.sqlite.statements import writing
from infra.sqlite.verification import forget_checks
from infra.stores.damage import damaged_of
from infra.stores.row_tables import row_table


def seal(connection: sqlite3.Connection, series: Series, window: Span) -> tuple[Sealed, Span | None]:
    """Seal the oldest unsealed rows of `window`, if all of their block's span is known; and the span of that block.

    The block must end by `window.end_ms`. One transaction: its rows are printed, compressed and deleted in 15 ms.
    """
    with writing(connection):
        if not is_sealable(*series.table):
            return Sealed(0, 0, None), None
        select = f"SELECT min(open_time) FROM {row_table(*series.table)} WHERE symbol = ? AND open_time >= ?"  # noqa: S608
        [open_ms] = connection.execute(select, (series.name, window.start_ms)).fetchone()
        if open_ms is None or (span := block_span(series.interval, open_ms)).end_ms > window.end_ms:
            return Sealed(0, 0, None), None
        nothing = Sealed(0, 0, span.end_ms), None
        if not read_ledger(connection, series.name, series.interval.code).known.covers(span):
            return nothing
        made = packed(connection, series, span)
        if made is None:
            return nothing
        insert_block(connection, series, made)
    return Sealed(made.rows, len(made.body), span.end_ms), span


def unseal(connection: sqlite3.Connection, series: Series, window: Span) -> Sealed:
    """Turn the oldest block of `window` into rows. Raises StoreDamaged."""
    with writing(connection):
        starts = block_starts(connection, series, window)
        if not starts:
            return Sealed(0, 0, None)
        span = block_span(series.interval, starts[0])
        _, body = read_body(connection, series, starts[0])
        rows = open_block(connection, series, starts[0])
    return Sealed(rows, len(body), span.end_ms)


def check_blocks(connection: sqlite3.Connection, after: int, number: int) -> BlockCheck:
    """Compare the next `number` blocks after that with id `after` with their SHA-256."""
    columns = f"id, symbol, interval, start_ms, sha256, {BODY}"
    select = f"SELECT {columns} FROM block WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608  constant
    blocks = connection.execute(select, (after, number)).fetchall()
    return BlockCheck(blocks[-1][0] if blocks else 0, len(blocks), damaged_of(blocks))


def give_up(
    connection: sqlite3.Connection, series: Series, span: Span, now_ms: int, forget: Callable[[], None]
) -> Ledger | None:
    """Delete the block of `span` if it is damaged, and make its held rows unknown; returns the ledger afterwards.

    Returns None if there is no such block, or nothing is wrong with it.
    """
    name, code = series.name, series.interval.code
    with writing(connection):
        if span.start_ms not in block_starts(connection, series, span):
            return None
        sha256, body = read_body(connection, series, span.start_ms)
        try:
            Block(body, span.start_ms, series.interval.grid.step_ms).check(sha256)
        except BlockDamaged:
            delete_block(connection, series, span.start_ms)
        else:
            return None
        before = read_ledger(connection, name, code)
        lost = before.held.clip(span)
        after = before.without(lost)
        write_ledger(connection, series, after)
        log = LedgerLog(connection, now_ms)
        log.note(series, before, after)
        log.write()
        forget_checks(connection, name, code, lost)
        note_spans(connection, [(series, span)], now_ms)
        forget()
    return after
