"""The true rows of statistics and fundings at any time since the listing, with which tests compare.

Neither REST's reach of 30 days nor faults and quirks of the archive apply here.
"""

from infra.sandbox.answers.prices import describe_funding
from infra.sandbox.answers.statistics import SERIES
from infra.sandbox.archive import metrics
from infra.sandbox.exchange import Exchange
from infra.sandbox.funding import hours_ms
from infra.sandbox.grid import DURATIONS_MS
from infra.sandbox.render import Row
from infra.sandbox.statistics import PERIOD_MS
from infra.sandbox.universe import Instrument

Json = dict[str, object]


def statistics(
    exchange: Exchange, symbol: str, endpoint: str, start_ms: int, end_ms: int, period: str = "5m"
) -> list[Json]:
    """REST's rows of an endpoint in `SERIES` whose periods open in [start_ms, end_ms) and have ended by now."""
    size_ms, item = DURATIONS_MS[period], exchange.instrument(symbol, start_ms, end_ms)
    ends_ms = _ends_ms(exchange, item, size_ms, start_ms, end_ms)
    return [SERIES[endpoint](exchange, item, each_ms - size_ms, each_ms) for each_ms in ends_ms]


def archived_metrics(exchange: Exchange, symbol: str, start_ms: int, end_ms: int) -> list[Row]:
    """The open time (ms) and the archive's fields of the same rows of 5 minutes, also of those before its first day."""
    item = exchange.instrument(symbol, start_ms, end_ms)
    ends_ms = _ends_ms(exchange, item, PERIOD_MS, start_ms, end_ms)
    return [metrics.row(exchange, item, each_ms - PERIOD_MS) for each_ms in ends_ms]


def fundings(exchange: Exchange, symbol: str, start_ms: int, end_ms: int) -> list[Json]:
    """REST's rows of the fundings whose time is in [start_ms, end_ms) and not after now."""
    item = exchange.instrument(symbol, start_ms, end_ms)
    last_ms = min(end_ms - 1, exchange.clock.now_ms())
    return [describe_funding(exchange, item, hour_ms) for hour_ms in hours_ms(item, start_ms, last_ms)]


def _ends_ms(exchange: Exchange, item: Instrument, size_ms: int, start_ms: int, end_ms: int) -> range:
    last_ms = min(end_ms - 1 + size_ms, exchange.clock.now_ms(), item.gone_ms)
    return exchange.statistics.ends_ms(item, size_ms, start_ms + size_ms, last_ms)
