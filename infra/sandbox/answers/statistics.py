"""The /futures/data family: five-minute statistics of the last 30 days (binance-facts section 2.2).

The timestamp of a row is the end of its period, and an answer has the newest `limit` rows of a window, ascending: both
are unconfirmed for the exchange. Open interest agrees with openInterest, and taker volumes agree with the klines.
"""

from collections.abc import Callable
from typing import Final

import orjson

from infra.sandbox.answers.klines import contract
from infra.sandbox.answers.prices import index_price
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import DAY_MS, DURATIONS_MS
from infra.sandbox.marks import PLACES
from infra.sandbox.noise import chance
from infra.sandbox.params import ApiError, Query, instrument, limit_of, mandatory, window_of
from infra.sandbox.render import decimal, signed
from infra.sandbox.universe import Instrument

PERIODS: Final = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
ROWS_DEFAULT: Final = 30
ROWS_MAX: Final = 500
REACH_MS: Final = 30 * DAY_MS
_RATIO_PLACES: Final = 4
_DELIVERIES_MAX: Final = 8
_QUARTER_MS: Final = 91 * DAY_MS

Json = dict[str, object]
_Describe = Callable[[Exchange, Instrument, int, int], Json]


def open_interest_hist(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/futures/data/openInterestHist."""
    return _rows(exchange, query, now_ms, _open_interest)


def ratios(name: str) -> Callable[[Exchange, Query, int], list[Json]]:
    """The answer function of one of the three long-short ratios; the numbers depend on `name`."""

    def describe(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
        del exchange, start_ms
        one = int("1" + "0" * _RATIO_PLACES)
        longs = 3_000 + chance(f"{item.uid}/{name}/{end_ms}") % 4_001
        return {
            "symbol": item.symbol,
            "longAccount": decimal(longs, _RATIO_PLACES),
            "longShortRatio": decimal(longs * one // (one - longs), _RATIO_PLACES),
            "shortAccount": decimal(one - longs, _RATIO_PLACES),
            "timestamp": end_ms,
        }

    def answer(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
        return _rows(exchange, query, now_ms, describe)

    return answer


def taker_ratio(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/futures/data/takerlongshortRatio: from the taker columns of the klines; rows have no symbol."""
    return _rows(exchange, query, now_ms, _takers)


def basis(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/futures/data/basis: by pair and contract type."""
    mandatory(query, "pair")
    item = contract(exchange, query, mandatory(query, "contractType"), now_ms)
    return _described(exchange, query, now_ms, item, _basis)


def delivery_price(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/futures/data/delivery-price: the pair's delivered quarterly contracts, newest first."""
    pair = instrument(exchange, query, now_ms, "pair")
    found: list[Json] = []
    if pair.symbol != "BTCUSDT":  # the only pair with quarterly contracts in the sandbox
        return found
    at_ms = now_ms
    while len(found) < _DELIVERIES_MAX:
        current = next(each for each in exchange.universe.at(at_ms) if each.contract_type == "CURRENT_QUARTER")
        if current.delivery_ms <= now_ms:
            close = exchange.market.minute_now(current, current.delivery_ms).close
            price = orjson.Fragment(decimal(close, current.price_precision))
            found.append({"deliveryTime": current.delivery_ms, "deliveryPrice": price})
        at_ms = current.delivery_ms - _QUARTER_MS - 7 * DAY_MS
    return found


def _rows(exchange: Exchange, query: Query, now_ms: int, describe: _Describe) -> list[Json]:
    return _described(exchange, query, now_ms, instrument(exchange, query, now_ms), describe)


def _described(exchange: Exchange, query: Query, now_ms: int, item: Instrument, describe: _Describe) -> list[Json]:
    period = mandatory(query, "period")
    if period not in PERIODS:
        raise _invalid("period")
    limit = limit_of(query, ROWS_DEFAULT, ROWS_MAX)
    start_ms, end_ms = window_of(query)
    if start_ms is not None and start_ms < now_ms - REACH_MS:
        raise _invalid("startTime")
    if end_ms is not None and (end_ms < now_ms - REACH_MS or end_ms < (start_ms or 0)):
        raise _invalid("endTime")
    size_ms = DURATIONS_MS[period]
    last = min(now_ms if end_ms is None else end_ms, now_ms, item.delivery_ms) // size_ms
    oldest_ms = max(now_ms - REACH_MS if start_ms is None else start_ms, item.onboard_ms)
    first = max(-(-oldest_ms // size_ms), last - limit + 1)
    ends = range(first * size_ms, (last + 1) * size_ms, size_ms)
    if item.status(now_ms) == "PENDING_TRADING":
        return []
    return [describe(exchange, item, end - size_ms, end) for end in ends]


def _open_interest(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
    del start_ms
    lots = exchange.marks.open_interest(item, end_ms)
    value = lots * exchange.marks.mark(item, end_ms)
    scale = int("1" + "0" * item.quantity_precision)
    return {
        "symbol": item.symbol,
        "sumOpenInterest": decimal(lots * int("1" + "0" * (PLACES - item.quantity_precision)), PLACES),
        "sumOpenInterestValue": decimal(value // scale, PLACES),
        "CMCCirculatingSupply": decimal(21_000_000 + chance(item.uid) % 1_000_000_000, 0),
        "timestamp": end_ms,
    }


def _takers(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
    parts = list(exchange.market.between(item, start_ms, end_ms))
    bought = sum(part.taker_volume for part in parts)
    sold = sum(part.volume for part in parts) - bought
    one, places = int("1" + "0" * _RATIO_PLACES), _RATIO_PLACES - item.quantity_precision
    return {
        "buySellRatio": decimal(bought * one // sold if sold else 0, _RATIO_PLACES),
        "sellVol": decimal(sold * int("1" + "0" * places), _RATIO_PLACES),
        "buyVol": decimal(bought * int("1" + "0" * places), _RATIO_PLACES),
        "timestamp": end_ms,
    }


def _basis(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
    del start_ms
    index = index_price(exchange, item, end_ms)
    price = exchange.market.minute_now(item, end_ms).close
    futures = price * int("1" + "0" * (PLACES - item.price_precision))
    rate = abs(futures - index) * int("1" + "0" * _RATIO_PLACES) // index
    return {
        "indexPrice": decimal(index, PLACES),
        "contractType": item.contract_type,
        "basisRate": signed(-rate if futures < index else rate, _RATIO_PLACES),
        "futuresPrice": decimal(price, item.price_precision),
        "annualizedBasisRate": "",
        "basis": signed(futures - index, PLACES),
        "pair": item.pair,
        "timestamp": end_ms,
    }


def _invalid(name: str) -> ApiError:
    return ApiError(-1130, f"parameter '{name}' is invalid.")
