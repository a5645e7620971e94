"""Listings in the database: the owners of held klines, and the rows of former owners."""

from collections.abc import Iterable, Sequence

from app.domain.kline import Precision
from app.domain.ledger import Ledger
from app.domain.listing import Listing
from app.domain.series import Series
from app.domain.span import Span
from app.kinds.registry import series_of
from app.ports.store import EVERYTHING, Relisting
from infra.sqlite.changes import note_spans
from infra.sqlite.ledger_log import LedgerLog
from infra.sqlite.ledgers import read_ledger, write_ledger
from infra.sqlite.library import sqlite3
from infra.sqlite.sealed import block_starts, open_block
from infra.sqlite.statements import overwrite, put, writing
from infra.stores.relisted import FORMER_LISTING_COLUMNS, LISTING_COLUMNS, former_entries, ledger_after, told_symbols
from infra.stores.row_tables import former_table, row_columns, row_table


def read_listings(connection: sqlite3.Connection) -> dict[str, Listing]:
    """By symbol: the listing that the held klines belong to."""
    found = connection.execute(f"SELECT {', '.join(LISTING_COLUMNS)} FROM listing").fetchall()  # noqa: S608  constants
    return {
        symbol: Listing(symbol, onboard_ms, delivery_ms, Precision(price, quantity), since_ms, bool(is_doubted))
        for symbol, onboard_ms, delivery_ms, price, quantity, since_ms, is_doubted in found
    }


def save_listings(connection: sqlite3.Connection, listings: Sequence[Listing], now_ms: int) -> None:
    """Store listings. A listing whose start or doubt changed is also written to the journal, for other processes."""
    with writing(connection):
        before = read_listings(connection)
        _put(connection, listings)
        told = list(told_symbols(before, listings))
        if told:
            note_spans(connection, ((series, EVERYTHING) for name in told for series in series_of(name)), now_ms)


def relist(connection: sqlite3.Connection, relisting: Relisting, now_ms: int) -> dict[Series, Ledger]:
    """Move rows older than `relisting.firsts` to the former listing's tables; returns the ledgers that changed.

    This is one transaction: no reader sees rows of both listings under the symbol.
    """
    ledgers: dict[Series, Ledger] = {}
    listing = relisting.listing
    with writing(connection):
        log = LedgerLog(connection, now_ms)
        _put_former(connection, relisting.former, listing.since_ms)
        for series in series_of(listing.symbol):
            if (first_ms := relisting.firsts.get(series.kind)) is None:
                continue
            ledger = _relist(connection, relisting, series, first_ms, log)
            if ledger is not None:
                ledgers[series] = ledger
            connection.execute("DELETE FROM anchor WHERE symbol = ?", (series.name,))
        _put(connection, [listing])
        put(connection, "relisting", ("symbol", "at_ms"), [(listing.symbol, log.at_ms)], "ON CONFLICT DO NOTHING")
        log.write(revised=True)
        note_spans(connection, ((series, EVERYTHING) for series in series_of(listing.symbol)), now_ms)
    return ledgers


def unlist(connection: sqlite3.Connection, listing: Listing, since_ms: int, now_ms: int) -> dict[Series, Ledger]:
    """Store `listing` and make absent times before `since_ms` unknown; returns the ledgers that changed."""
    ledgers: dict[Series, Ledger] = {}
    with writing(connection):
        log = LedgerLog(connection, now_ms)
        for series in series_of(listing.symbol):
            key = (series.name, series.interval.code)
            before = read_ledger(connection, *key)
            after = before.without(before.absent.clip(Span(0, since_ms)))
            if after.entries == before.entries:
                continue
            ledgers[series] = after
            write_ledger(connection, series, after)
            log.note(series, before, after)
        log.write()
        _put(connection, [listing])
        note_spans(connection, ((series, EVERYTHING) for series in series_of(listing.symbol)), now_ms)
    return ledgers


def _relist(
    connection: sqlite3.Connection, relisting: Relisting, series: Series, first_ms: int, log: LedgerLog
) -> Ledger | None:
    name, interval = series.name, series.interval
    before = read_ledger(connection, name, interval.code)
    table, until_ms = row_table(*series.table), relisting.listing.since_ms
    names = ", ".join(row_columns(series.kind))
    for start_ms in block_starts(connection, series, EVERYTHING):
        open_block(connection, series, start_ms)
    connection.execute(
        f"INSERT OR REPLACE INTO {former_table(series.kind)} (symbol, until_ms, interval, {names}) "  # noqa: S608  constants
        f"SELECT symbol, ?, ?, {names} FROM {table} WHERE symbol = ? AND open_time < ?",
        (until_ms, interval.code, name, first_ms),
    )
    keeps = relisting.keeps_newer and not interval.needs_anchor  # the new listing's 3d grid may be another one
    end_ms = first_ms if keeps else EVERYTHING.end_ms
    connection.execute(f"DELETE FROM {table} WHERE symbol = ? AND open_time < ?", (name, end_ms))  # noqa: S608
    if not before.entries:
        return None
    _put_former_ledger(connection, series, before, interval.grid.ceil(first_ms), until_ms)
    after = ledger_after(before, interval, first_ms, keeps=keeps)
    key = (name, interval.code)
    for each in ("verification", "disagreement"):
        connection.execute(f"DELETE FROM {each} WHERE symbol = ? AND interval = ?", key)  # noqa: S608  constants
    write_ledger(connection, series, after)
    log.note(series, before, after)
    return after


def _put(connection: sqlite3.Connection, listings: Iterable[Listing]) -> None:
    rows = [
        (each.symbol, each.onboard_ms, each.delivery_ms, *each.precision, each.since_ms, int(each.is_doubted))
        for each in listings
    ]
    put(connection, "listing", LISTING_COLUMNS, rows, overwrite(LISTING_COLUMNS[:1], LISTING_COLUMNS[1:]))


def _put_former(connection: sqlite3.Connection, former: Listing, until_ms: int) -> None:
    row = (former.symbol, until_ms, former.onboard_ms, former.delivery_ms, *former.precision)
    put(
        connection,
        "former_listing",
        FORMER_LISTING_COLUMNS,
        [row],
        overwrite(FORMER_LISTING_COLUMNS[:2], FORMER_LISTING_COLUMNS[2:]),
    )


def _put_former_ledger(
    connection: sqlite3.Connection, series: Series, before: Ledger, end_ms: int, until_ms: int
) -> None:
    rows = [
        (series.name, until_ms, series.interval.code, *entry.span, entry.source.value)
        for entry in former_entries(before, end_ms)
    ]
    names = ("symbol", "until_ms", "interval", "start_ms", "end_ms", "source")
    put(connection, "former_ledger", names, rows, overwrite(names[:4], names[4:]))
