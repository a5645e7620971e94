"""The endpoints of the order book and of trades: depth, trades, historicalTrades, aggTrades."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS
from infra.sandbox.params import ApiError, Query, instrument, integer, limit_of, not_valid, ordered, window_of
from infra.sandbox.render import amount, decimal
from infra.sandbox.tape import Aggregate, Trade
from infra.sandbox.universe import Instrument

DEPTH_LIMITS: Final = (5, 10, 20, 50, 100, 500, 1_000)
TRADES_MAX: Final = 1_000
HISTORICAL_MAX: Final = 500
AGGREGATES_MAX: Final = 1_000
_AGGREGATES_REACH_MS: Final = 2 * DAY_MS
_HISTORY_REACH_MS: Final = 30 * DAY_MS

Json = dict[str, object]


def depth(exchange: Exchange, query: Query, now_ms: int) -> Json:
    """/fapi/v1/depth: a snapshot that depth streams continue."""
    item = instrument(exchange, query, now_ms)
    limit = integer(query, "limit")
    levels = 500 if limit is None else limit
    if not 1 <= levels <= DEPTH_LIMITS[-1]:
        raise not_valid("limit")
    if levels not in DEPTH_LIMITS:
        raise ApiError(-4021, f"{levels} is not valid depth limit")
    return _depth(exchange, item, levels, now_ms)


def rpi_depth(exchange: Exchange, query: Query, now_ms: int) -> Json:
    """/fapi/v1/rpiDepth: always 1,000 levels; the sandbox has no RPI orders."""
    item = instrument(exchange, query, now_ms)
    limit = integer(query, "limit")
    if limit not in {None, DEPTH_LIMITS[-1]}:
        raise ApiError(-4021, f"{limit} is not valid depth limit")
    return _depth(exchange, item, DEPTH_LIMITS[-1], now_ms)


def trades(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/trades: the newest trades."""
    item = instrument(exchange, query, now_ms)
    limit = limit_of(query, 500, TRADES_MAX)
    return [describe_trade(item, trade) for trade in exchange.tape.latest(item, limit, now_ms)]


def historical_trades(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/historicalTrades: from an id on. rest.py requires an API key for it."""
    item = instrument(exchange, query, now_ms)
    limit, number = limit_of(query, 100, HISTORICAL_MAX), integer(query, "fromId")
    if number is None:
        return [describe_trade(item, trade) for trade in exchange.tape.latest(item, limit, now_ms)]
    start_ms = exchange.tape.minute_of(item, number, now_ms - _HISTORY_REACH_MS, now_ms, aggregate=False)
    known = (trade for part in exchange.tape.forwards(item, start_ms, now_ms) for trade in part)
    return [describe_trade(item, trade) for trade in islice((t for t in known if t.number >= number), limit)]


def agg_trades(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/aggTrades: from an id on, or between two times of the last 48 hours."""
    item = instrument(exchange, query, now_ms)
    limit, number = limit_of(query, 500, AGGREGATES_MAX), integer(query, "fromId")
    start_ms, end_ms = window_of(query)
    ordered(start_ms, end_ms)
    if number is not None and (start_ms is not None or end_ms is not None):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    if number is not None:
        since_ms = now_ms - _AGGREGATES_REACH_MS - HOUR_MS
        start_ms = exchange.tape.minute_of(item, number, since_ms, now_ms, aggregate=True)
    if any(time_ms is not None and time_ms < now_ms - _AGGREGATES_REACH_MS for time_ms in (start_ms, end_ms)):
        raise ApiError(-4166, "Search window is restricted to recent 2 days only.")
    if start_ms is None:
        found = _newest(exchange, item, now_ms if end_ms is None else end_ms, limit, now_ms)
    else:
        rows = _ascending(exchange, item, start_ms, now_ms)
        low, high = number or 0, now_ms if end_ms is None else end_ms
        begin_ms = 0 if number is not None else start_ms
        found = list(islice(_within(rows, low, begin_ms, high), limit))
    return [describe_aggregate(item, each) for each in found]


def describe_trade(item: Instrument, trade: Trade) -> Json:
    """One row of trades."""
    price, lots = item.price_precision, item.quantity_precision
    return {
        "id": trade.number,
        "price": decimal(trade.price, price),
        "qty": decimal(trade.lots, lots),
        "quoteQty": decimal(trade.price * trade.lots, price + lots),
        "time": trade.time_ms,
        "isBuyerMaker": trade.maker,
        "isRPITrade": False,
    }


def describe_aggregate(item: Instrument, each: Aggregate) -> Json:
    """A row of aggTrades; the sandbox has no RPI orders, so `nq` is the whole quantity."""
    quantity = decimal(each.lots, item.quantity_precision)
    return {
        "a": each.number,
        "p": decimal(each.price, item.price_precision),
        "q": quantity,
        "nq": quantity,
        "f": each.first,
        "l": each.last,
        "T": each.time_ms,
        "m": each.maker,
    }


def levels_of(item: Instrument, levels: Iterable[tuple[int, int]]) -> list[list[str]]:
    """One side of a book as [price, quantity]; a removed level has the bare quantity "0"."""
    price, lots = item.price_precision, item.quantity_precision
    return [[decimal(each[0], price), amount(each[1], lots)] for each in levels]


def _depth(exchange: Exchange, item: Instrument, levels: int, now_ms: int) -> Json:
    if item.status(now_ms) != "TRADING":
        return {"lastUpdateId": 0, "E": now_ms, "T": now_ms, "bids": [], "asks": []}
    snapshot = exchange.book.snapshot(item, levels, now_ms)
    return {
        "lastUpdateId": snapshot.update_id,
        "E": now_ms,
        "T": snapshot.time_ms,
        "bids": levels_of(item, snapshot.bids),
        "asks": levels_of(item, snapshot.asks),
    }


def _ascending(exchange: Exchange, item: Instrument, start_ms: int, now_ms: int) -> Iterable[Aggregate]:
    first_ms = max(start_ms, item.onboard_ms) // MINUTE_MS * MINUTE_MS
    for open_ms in range(first_ms, min(now_ms + 1, item.delivery_ms), MINUTE_MS):
        yield from exchange.tape.aggregates(item, open_ms, now_ms)


def _within(rows: Iterable[Aggregate], low: int, start_ms: int, end_ms: int) -> Iterable[Aggregate]:
    for row in rows:
        if row.time_ms > end_ms:
            return
        if row.number >= low and row.time_ms >= start_ms:
            yield row


def _newest(exchange: Exchange, item: Instrument, end_ms: int, limit: int, now_ms: int) -> list[Aggregate]:
    parts: list[list[Aggregate]] = []
    newest_ms = min(end_ms, now_ms, item.delivery_ms - 1) // MINUTE_MS * MINUTE_MS
    oldest_ms = max(item.onboard_ms, now_ms - _AGGREGATES_REACH_MS)
    for open_ms in range(newest_ms, oldest_ms - 1, -MINUTE_MS):
        parts.append([each for each in exchange.tape.aggregates(item, open_ms, now_ms) if each.time_ms <= end_ms])
        limit -= len(parts[-1])
        if limit <= 0:
            break
    found = [each for part in reversed(parts) for each in part]
    return found[max(0, -limit) :]
