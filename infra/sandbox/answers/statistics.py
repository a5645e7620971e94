"""The /futures/data family: statistics of the last 30 days (binance-facts section 2.2).

The timestamp of a row is the end of its period, and an answer has the newest `limit` rows of a window, ascending: both
are unconfirmed for the exchange.
"""

from collections.abc import Callable
from typing import Final

import orjson

from infra.sandbox.answers.klines import contract
from infra.sandbox.answers.prices import index_price
from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import DAY_MS, DURATIONS_MS
from infra.sandbox.marks import ONE, PLACES
from infra.sandbox.noise import chance
from infra.sandbox.params import ApiError, Query, instrument, limit_of, mandatory, window_of
from infra.sandbox.render import decimal, signed
from infra.sandbox.statistics import AMOUNT_PLACES, RATIO_PLACES, RATIOS, shares, shortened
from infra.sandbox.universe import Instrument

PERIODS: Final = ("5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
ROWS_DEFAULT: Final = 30
ROWS_MAX: Final = 500
REACH_MS: Final = 30 * DAY_MS
_VOLUME_PLACES: Final = 4
_RATE_PLACES: Final = 4
_DELIVERIES_MAX: Final = 8
_QUARTER_MS: Final = 91 * DAY_MS

Json = dict[str, object]
_Describe = Callable[[Exchange, Instrument, int, int], Json]


def series(endpoint: str) -> Callable[[Exchange, Query, int], list[Json]]:
    """The answer function of one of the five series of a symbol."""

    def answer(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
        return _described(exchange, query, now_ms, instrument(exchange, query, now_ms), SERIES[endpoint])

    return answer


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
    oldest_ms = now_ms - REACH_MS if start_ms is None else start_ms
    ends_ms = exchange.statistics.ends_ms(item, size_ms, oldest_ms, now_ms if end_ms is None else min(end_ms, now_ms))
    return [describe(exchange, item, each_ms - size_ms, each_ms) for each_ms in ends_ms[-limit:]]


def _open_interest(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
    del start_ms
    interest = exchange.statistics.interest(item, end_ms)
    return {
        "symbol": item.symbol,
        "sumOpenInterest": _amount_text(exchange, interest.coins),
        "sumOpenInterestValue": _amount_text(exchange, interest.value),
        "CMCCirculatingSupply": decimal((21_000_000 + chance(item.uid) % 1_000_000_000) * ONE, PLACES),
        "timestamp": end_ms,
    }


def _ratio(endpoint: str) -> _Describe:
    def describe(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
        del start_ms
        digits, ratio = exchange.options.rest_digits, exchange.statistics.ratio(item, endpoint, end_ms)
        longs, shorts = shares(ratio, digits.ratio_places, cut=digits.cut)
        return {
            "symbol": item.symbol,
            "longAccount": decimal(longs, digits.ratio_places),
            "longShortRatio": _ratio_text(exchange, ratio),
            "shortAccount": decimal(shorts, digits.ratio_places),
            "timestamp": end_ms,
        }

    return describe


def _takers(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
    takers = exchange.statistics.takers(item, start_ms, end_ms)
    lot = int("1" + "0" * (_VOLUME_PLACES - item.quantity_precision))
    return {
        "buySellRatio": _ratio_text(exchange, takers.ratio),
        "sellVol": decimal(takers.sold * lot, _VOLUME_PLACES),
        "buyVol": decimal(takers.bought * lot, _VOLUME_PLACES),
        "timestamp": end_ms,
    }


SERIES: Final[dict[str, _Describe]] = {
    "openInterestHist": _open_interest,
    **{endpoint: _ratio(endpoint) for endpoint in RATIOS},
    "takerlongshortRatio": _takers,
}
"""By endpoint: the row of a period [start_ms, end_ms)."""


def _amount_text(exchange: Exchange, units: int) -> str:
    digits = exchange.options.rest_digits
    text = decimal(shortened(units, AMOUNT_PLACES, digits.amount_places, cut=digits.cut), digits.amount_places)
    return text.rstrip("0").rstrip(".") if digits.trimmed and "." in text else text


def _ratio_text(exchange: Exchange, units: int) -> str:
    digits = exchange.options.rest_digits
    return decimal(shortened(units, RATIO_PLACES, digits.ratio_places, cut=digits.cut), digits.ratio_places)


def _basis(exchange: Exchange, item: Instrument, start_ms: int, end_ms: int) -> Json:
    del start_ms
    index = index_price(exchange, item, end_ms)
    price = exchange.market.minute_now(item, end_ms).close
    futures = price * int("1" + "0" * (PLACES - item.price_precision))
    rate = abs(futures - index) * int("1" + "0" * _RATE_PLACES) // index
    return {
        "indexPrice": decimal(index, PLACES),
        "contractType": item.contract_type,
        "basisRate": signed(-rate if futures < index else rate, _RATE_PLACES),
        "futuresPrice": decimal(price, item.price_precision),
        "annualizedBasisRate": "",
        "basis": signed(futures - index, PLACES),
        "pair": item.pair,
        "timestamp": end_ms,
    }


def _invalid(name: str) -> ApiError:
    return ApiError(-1130, f"parameter '{name}' is invalid.")
