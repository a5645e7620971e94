"""Listings in the database: the owners of held klines, and the rows of former owners."""

from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg

from app.domain.kline import Precision
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.registry import series_of
from app.ports.store import EVERYTHING, Relisting
from infra.postgres.changes import note_spans
from infra.postgres.ledger_log import LedgerLog, read_place
from infra.postgres.ledgers import name_of, read_ledgers_of, write_ledger
from infra.postgres.sealed import block_starts, open_block
from infra.postgres.statements import overwrite, put
from infra.stores.relisted import FORMER_LISTING_COLUMNS, LISTING_COLUMNS, former_entries, ledger_after, told_symbols
from infra.stores.row_tables import former_table, row_columns, row_table

_FORMER_LEDGER: Final = ("symbol", "until_ms", "interval", "start_ms", "end_ms", "source")
_FORMER_KEY: Final = ("symbol", "until_ms", "interval", "open_time")


async def read_listings(connection: asyncpg.Connection) -> dict[str, Listing]:
    """By symbol: the listing that the held klines belong to."""
    found = await connection.fetch(f"SELECT {', '.join(LISTING_COLUMNS)} FROM listing")
    return {
        symbol: Listing(symbol, onboard_ms, delivery_ms, Precision(price, quantity), since_ms, bool(is_doubted))
        for symbol, onboard_ms, delivery_ms, price, quantity, since_ms, is_doubted in found
    }


async def save_listings(connection: asyncpg.Connection, listings: Sequence[Listing], now_ms: int) -> None:
    """Store listings. A listing whose start or doubt changed is also written to the journal, for other processes.

    Called inside a transaction, as the functions below.
    """
    before = await read_listings(connection)
    await _put(connection, listings)
    told = told_symbols(before, listings)
    await note_spans(connection, ((series, EVERYTHING) for name in told for series in series_of(name)), now_ms)


async def relist(connection: asyncpg.Connection, relisting: Relisting, now_ms: int) -> dict[Series, Ledger]:
    """Move rows older than `relisting.firsts` to the former listing's tables; returns the ledgers that changed.

    In one transaction no reader sees rows of both listings under the symbol.
    """
    ledgers: dict[Series, Ledger] = {}
    listing = relisting.listing
    log = LedgerLog(connection, now_ms, await read_place(connection))
    await _put_former(connection, relisting.former, listing.since_ms)
    before = await _ledgers(connection, listing.symbol)
    for series in series_of(listing.symbol):
        if (first_ms := relisting.firsts.get(series.kind)) is None:
            continue
        ledger = await _relist(connection, relisting, series, first_ms, before[series])
        if ledger is not None:
            ledgers[series] = ledger
            log.note(name_of(series), before[series], ledger)
        await connection.execute("DELETE FROM anchor WHERE symbol = $1", series.name)
    await _put(connection, [listing])
    insert = "INSERT INTO relisting (symbol, at_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING"
    await connection.execute(insert, listing.symbol, log.at_ms)
    await log.write(revised=True)
    await note_spans(connection, ((series, EVERYTHING) for series in series_of(listing.symbol)), now_ms)
    return ledgers


async def unlist(connection: asyncpg.Connection, listing: Listing, since_ms: int, now_ms: int) -> dict[Series, Ledger]:
    """Store `listing` and make absent times before `since_ms` unknown; returns the ledgers that changed."""
    ledgers: dict[Series, Ledger] = {}
    log = LedgerLog(connection, now_ms, await read_place(connection))
    for series, before in (await _ledgers(connection, listing.symbol)).items():
        after = before.without(before.absent.clip(Span(0, since_ms)))
        if after.entries == before.entries:
            continue
        ledgers[series] = after
        await write_ledger(connection, series, after)
        log.note(name_of(series), before, after)
    await log.write()
    await _put(connection, [listing])
    await note_spans(connection, ((series, EVERYTHING) for series in series_of(listing.symbol)), now_ms)
    return ledgers


async def _ledgers(connection: asyncpg.Connection, symbol: str) -> dict[Series, Ledger]:
    """The ledgers of all series of `symbol`."""
    found = await read_ledgers_of(connection, list(map(name_of, series_of(symbol))))
    return {series: found.get(name_of(series), Ledger()) for series in series_of(symbol)}


async def _relist(
    connection: asyncpg.Connection, relisting: Relisting, series: Series, first_ms: int, before: Ledger
) -> Ledger | None:
    name, interval = series.name, series.interval
    table, until_ms = row_table(*series.table), relisting.listing.since_ms
    names = row_columns(series.kind)
    for start_ms in await block_starts(connection, series, EVERYTHING):
        await open_block(connection, series, start_ms)
    await connection.execute(
        f"INSERT INTO {former_table(series.kind)} (symbol, until_ms, interval, {', '.join(names)}) "
        f"SELECT symbol, $1, $2, {', '.join(names)} FROM {table} WHERE symbol = $3 AND open_time < $4 "
        f"{overwrite(_FORMER_KEY, names[1:])}",
        until_ms,
        interval.code,
        name,
        first_ms,
    )
    keeps = relisting.keeps_newer and not interval.needs_anchor  # the new listing's 3d grid may be another one
    end_ms = first_ms if keeps else EVERYTHING.end_ms
    await connection.execute(f"DELETE FROM {table} WHERE symbol = $1 AND open_time < $2", name, end_ms)
    if not before.entries:
        return None
    lines = [
        (name, until_ms, interval.code, *entry.span, entry.source.value)
        for entry in former_entries(before, interval.grid.ceil(first_ms))
    ]
    upsert = overwrite(_FORMER_LEDGER[:4], _FORMER_LEDGER[4:])
    await put(connection, "former_ledger", _FORMER_LEDGER, lines, upsert)
    after = ledger_after(before, interval, first_ms, keeps=keeps)
    for each in ("verification", "disagreement"):
        await connection.execute(f"DELETE FROM {each} WHERE symbol = $1 AND interval = $2", *name_of(series))
    await write_ledger(connection, series, after)
    return after


async def _put(connection: asyncpg.Connection, listings: Iterable[Listing]) -> None:
    rows = [
        (each.symbol, each.onboard_ms, each.delivery_ms, *each.precision, each.since_ms, int(each.is_doubted))
        for each in listings
    ]
    await put(connection, "listing", LISTING_COLUMNS, rows, overwrite(LISTING_COLUMNS[:1], LISTING_COLUMNS[1:]))


async def _put_former(connection: asyncpg.Connection, former: Listing, until_ms: int) -> None:
    row = (former.symbol, until_ms, former.onboard_ms, former.delivery_ms, *former.precision)
    upsert = overwrite(FORMER_LISTING_COLUMNS[:2], FORMER_LISTING_COLUMNS[2:])
    await put(connection, "former_listing", FORMER_LISTING_COLUMNS, [row], upsert)
