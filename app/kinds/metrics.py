"""Metrics: five-minute statistics of positions and takers, which the exchange has for 30 days (binance-facts 2.2).

Each of five endpoints is a kind of its own, because the exchange answers them one by one: the ledger of each says what
is held of it. A row is keyed by the begin of its five minutes, and REST states their end (unconfirmed, section 9.8).
"""

from functools import partial
from typing import Final

from app.binance.rest_form import rest_form
from app.binance.statistics_rows import (
    ACCOUNTS,
    OPEN_INTEREST,
    STAMP_AFTER_OPEN_MS,
    STATISTICS,
    TAKERS,
    TOP_ACCOUNTS,
    TOP_POSITIONS,
    with_symbol,
)
from app.domain.interval import DAY_MS, INTERVALS, MINUTE_MS
from app.domain.kind import Bucket, Kind, RestPages

FOLDER: Final = "/futures/data/"
ROWS_MAX: Final = 500
ROWS_DEFAULT: Final = 30
REACH_MS: Final = 30 * DAY_MS
LATE_MS: Final = MINUTE_MS  # assumed: how soon after a period's end its row appears is not documented


def _kind(name: str, table: str, bucket: Bucket) -> Kind:
    language = STATISTICS[name]
    return Kind(
        name=name,
        suffix=name,
        row=language.row,
        columns=(("open_time", int), *((column, str | None) for column in language.row._fields[1:])),
        table=table,
        printed=language.printed,
        encoder=language.encode,
        finished=with_symbol,
        archived_form=partial(rest_form, name),
        rest=RestPages(
            path=f"{FOLDER}{name}",
            symbol="symbol",
            interval="period",
            rows_max=ROWS_MAX,
            rows_thrifty=ROWS_MAX,
            rows_default=ROWS_DEFAULT,
            weight=_weighs_nothing,
            decode=language.decode,
            bucket=bucket,
            stamp_ms=STAMP_AFTER_OPEN_MS,
            reach_ms=REACH_MS,
            late_ms=LATE_MS,
        ),
        intervals=(INTERVALS["5m"],),
        is_gathered=True,
        is_archived=True,
        shows_listing=False,
    )


def _weighs_nothing(_limit: int) -> int:
    return 0


METRICS: Final = {
    kind.name: kind
    for kind in (
        _kind(OPEN_INTEREST, "open_interest", Bucket.OPEN_INTEREST),
        _kind(TOP_ACCOUNTS, "top_account_ratio", Bucket.TOP_ACCOUNTS),
        _kind(TOP_POSITIONS, "top_position_ratio", Bucket.TOP_POSITIONS),
        _kind(ACCOUNTS, "account_ratio", Bucket.ACCOUNTS),
        _kind(TAKERS, "taker_ratio", Bucket.TAKERS),
    )
}
"""By name: the last part of the endpoint's path."""
