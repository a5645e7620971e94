"""The kline endpoints: klines, continuousKlines, and the klines of index, mark and premium."""

from typing import Final

from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import INTERVALS
from infra.sandbox.market import cost_minutes
from infra.sandbox.params import (
    ApiError,
    Query,
    instrument,
    integer,
    limit_of,
    mandatory,
    not_valid,
    ordered,
    upper,
    window_of,
)
from infra.sandbox.render import Row
from infra.sandbox.universe import Instrument

LIMIT_DEFAULT: Final = 500
LIMIT_MAX: Final = 1_500
INLINE_MINUTES_MAX: Final = 1_500  # windows over more minutes than this are computed in a thread
CONTRACT_TYPES: Final = frozenset({"PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL"})


def is_long(query: Query) -> bool:
    """Whether a klines request takes so long that it is computed in a thread."""
    limit = query.get("limit", "")
    rows = int(limit[:9]) if limit.isascii() and limit.isdigit() else LIMIT_DEFAULT
    return cost_minutes(query.get("interval", ""), rows) > INLINE_MINUTES_MAX


def klines(exchange: Exchange, query: Query, now_ms: int) -> list[Row]:
    """/fapi/v1/klines."""
    mandatory(query, "symbol")
    interval, start_ms, end_ms, limit = _asked(query)
    item = instrument(exchange, query, now_ms)
    ordered(start_ms, end_ms)
    return exchange.window(item, interval, start_ms, end_ms, limit, now_ms)


def continuous_klines(exchange: Exchange, query: Query, now_ms: int) -> list[Row]:
    """/fapi/v1/continuousKlines: by pair and contract type."""
    mandatory(query, "pair")
    contract_type = mandatory(query, "contractType")
    interval, start_ms, end_ms, limit = _asked(query)
    item = contract(exchange, query, contract_type, now_ms)
    ordered(start_ms, end_ms)
    return exchange.window(item, interval, start_ms, end_ms, limit, now_ms)


def index_klines(exchange: Exchange, query: Query, now_ms: int) -> list[Row]:
    """/fapi/v1/indexPriceKlines: by pair, not by symbol."""
    return _sampled(exchange, query, now_ms, "index", "pair")


def mark_klines(exchange: Exchange, query: Query, now_ms: int) -> list[Row]:
    """/fapi/v1/markPriceKlines."""
    return _sampled(exchange, query, now_ms, "mark", "symbol")


def premium_klines(exchange: Exchange, query: Query, now_ms: int) -> list[Row]:
    """/fapi/v1/premiumIndexKlines."""
    return _sampled(exchange, query, now_ms, "premium", "symbol")


def contract(exchange: Exchange, query: Query, contract_type: str, now_ms: int) -> Instrument:
    """The pair's contract of `contract_type`. Raises ApiError when there is none."""
    if contract_type not in CONTRACT_TYPES:
        raise not_valid("contractType")
    pair = upper(mandatory(query, "pair"))
    for item in exchange.universe.at(now_ms):
        if item.pair == pair and item.contract_type == contract_type:
            return item
    raise ApiError(-1121, "Invalid symbol.")


def _sampled(exchange: Exchange, query: Query, now_ms: int, kind: str, name: str) -> list[Row]:
    mandatory(query, name)
    interval, start_ms, end_ms, limit = _asked(query)
    item = instrument(exchange, query, now_ms, name)
    ordered(start_ms, end_ms)
    return exchange.sampled_window(item, kind, interval, (start_ms, end_ms), limit, now_ms)


def _asked(query: Query) -> tuple[str, int | None, int | None, int]:
    interval = mandatory(query, "interval")
    integer(query, "limit")
    for bound in ("startTime", "endTime"):
        integer(query, bound)
    limit = limit_of(query, LIMIT_DEFAULT, LIMIT_MAX)
    start_ms, end_ms = window_of(query)
    if interval not in INTERVALS:
        raise ApiError(-1120, "Invalid interval.")
    return interval, start_ms, end_ms, limit
