"""Funding rates: events every 8, 4 or 1 hours, which changes (binance-facts section 2.1).

REST has all of them since a symbol's listing, so they are gathered from REST alone. They come on the full hour, give or
take some milliseconds. The grid of the ledger is the hours that close on it: an hour is held when all its events are.
"""

from typing import Final

from app.binance.funding_rows import PRINTED, STAMP_AFTER_OPEN_MS, FundingRow, completed, decode, encode
from app.domain.interval import INTERVALS, MINUTE_MS
from app.domain.kind import Bucket, Kind, RestPages

ROWS_MAX: Final = 1_000
ROWS_DEFAULT: Final = 100  # without any time the documentation says 100 and 200 (unconfirmed: binance-facts 2.1)
LATE_MS: Final = MINUTE_MS  # assumed: how soon an event is published is not documented; its stated time is ms off


def _weighs_nothing(_limit: int) -> int:
    return 0


FUNDING: Final = Kind(
    name="fundingRate",
    suffix="fundingRate",
    row=FundingRow,
    columns=(("open_time", int), ("funding_rate", str), ("mark_price", str | None), ("rate_type", str | None)),
    table="funding",
    printed=PRINTED,
    encoder=encode,
    finished=completed,
    rest=RestPages(
        path="/fapi/v1/fundingRate",
        symbol="symbol",
        interval="",
        rows_max=ROWS_MAX,
        rows_thrifty=ROWS_MAX,
        rows_default=ROWS_DEFAULT,
        weight=_weighs_nothing,
        decode=decode,
        bucket=Bucket.FUNDING,
        stamp_ms=STAMP_AFTER_OPEN_MS,
        late_ms=LATE_MS,
    ),
    intervals=(INTERVALS["1h"],),
    is_gathered=True,
    is_sparse=True,
    shows_listing=False,
)
