"""The files of metrics: one a day, with the numbers of five REST series in each row (binance-facts section 6.2)."""

from collections.abc import Sequence
from typing import Final

from infra.sandbox.archive.files import FileKey
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import utc, utc_ms
from infra.sandbox.render import Row, decimal
from infra.sandbox.statistics import AMOUNT_PLACES, PERIOD_MS, RATIO_PLACES, RATIOS, shortened
from infra.sandbox.universe import Instrument

BEGIN_MS: Final = utc_ms(2020, 9)  # there are no files of earlier days (binance-facts section 6.3)
STARTS_SINCE_MS: Final = utc_ms(2026, 6, 25)
"""Rows of periods that open since then are labelled with the period's start, earlier ones with its end."""

_SHORT_UNTIL_MS: Final = utc_ms(2021, 1)
"""Open interest and its value had eight decimals in 2020 (binance-facts section 6.2); until when is unconfirmed."""
_SHORT_PLACES: Final = 8
COLUMNS: Final = (
    *("create_time", "symbol", "sum_open_interest", "sum_open_interest_value", "count_toptrader_long_short_ratio"),
    *("sum_toptrader_long_short_ratio", "count_long_short_ratio", "sum_taker_long_short_vol_ratio"),
)
_HEADER: Final = ",".join(COLUMNS) + "\n"


def rows(exchange: Exchange, item: Instrument, key: FileKey, now_ms: int) -> list[Row]:
    """The rows of the file's day."""
    end_ms = min(key.end_ms, item.gone_ms, now_ms)
    ends_ms = exchange.statistics.ends_ms(item, PERIOD_MS, max(key.start_ms, BEGIN_MS) + 1, end_ms)
    return [row(exchange, item, each_ms - PERIOD_MS) for each_ms in ends_ms]


def row(exchange: Exchange, item: Instrument, open_ms: int) -> Row:
    """The period that opens at `open_ms`: that time (ms), and the fields of the CSV."""
    end_ms, statistics = open_ms + PERIOD_MS, exchange.statistics
    ratios = [statistics.ratio(item, endpoint, end_ms) for endpoint in RATIOS]
    ratios.append(statistics.takers(item, open_ms, end_ms).ratio)
    places = _SHORT_PLACES if open_ms < _SHORT_UNTIL_MS else AMOUNT_PLACES
    interest = (shortened(units, AMOUNT_PLACES, places, cut=False) for units in statistics.interest(item, end_ms))
    return [
        open_ms,
        f"{utc(label_ms(open_ms)):%Y-%m-%d %H:%M:%S}",
        item.symbol,
        *(decimal(units, places) for units in interest),
        *(decimal(units, RATIO_PLACES) for units in ratios),
    ]


def label_ms(open_ms: int) -> int:
    """The create_time (ms) of the period that opens at `open_ms` (binance-facts section 6.3)."""
    return open_ms if open_ms >= STARTS_SINCE_MS else open_ms + PERIOD_MS


def csv(item: Instrument, held: Sequence[Row]) -> str:
    """The CSV of the rows."""
    del item
    return _HEADER + "".join(f"{','.join(map(str, each[1:]))}\n" for each in held)
