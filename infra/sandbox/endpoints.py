"""The table of REST endpoints: path, weight or bucket, and answer function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.sandbox.answers import klines, prices, reference, statistics, trades
from infra.sandbox.exchange import Exchange
from infra.sandbox.hidden import FUNDING_ROWS, KLINE_ROWS, STATISTICS_ROWS, RowForm
from infra.sandbox.limits import DATA_BUCKET, FUNDING_BUCKET, Bucket, klines_weight
from infra.sandbox.params import Query

Answering = Callable[[Exchange, Query, int], object]
Weighing = Callable[[Query], int]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a path is answered. One with a `bucket` costs no weight, and its answers have no weight header."""

    answer: Answering
    weight: Weighing
    bucket: Bucket | None = None
    in_thread: Callable[[Query], bool] = lambda query: False
    needs_key: bool = False
    rows: RowForm | None = None
    """The form of the answer's rows, some of which a fault can remove."""


def _always(weight: int) -> Weighing:
    return lambda query: weight


def _by_symbol(one: int, every: int) -> Weighing:
    return lambda query: one if "symbol" in query else every


def _of_all(query: Query) -> bool:
    return "symbol" not in query


def _yes(query: Query) -> bool:
    del query
    return True


def depth_weight(query: Query) -> int:
    """The weight of depth by its `limit` parameter; without one, that of 500 (documented; 1 was measured)."""
    limit = query.get("limit", "500")
    levels = int(limit[:9]) if limit.isascii() and limit.isdigit() else 0
    if levels not in trades.DEPTH_LIMITS:
        return 1
    return 2 if levels <= 50 else 5 if levels == 100 else 10 if levels == 500 else 20


def _klines(answer: Answering) -> Endpoint:
    return Endpoint(answer, lambda query: klines_weight(query.get("limit")), in_thread=klines.is_long, rows=KLINE_ROWS)


def _data(answer: Answering, rows: RowForm | None = STATISTICS_ROWS) -> Endpoint:
    return Endpoint(answer, _always(0), DATA_BUCKET, in_thread=_yes, rows=rows)


_PRICE = Endpoint(prices.ticker_price, _by_symbol(1, 2), in_thread=_of_all)

ENDPOINTS: Final[dict[str, Endpoint]] = {
    "/fapi/v1/depth": Endpoint(trades.depth, depth_weight),
    "/fapi/v1/rpiDepth": Endpoint(trades.rpi_depth, _always(20)),
    "/fapi/v1/trades": Endpoint(trades.trades, _always(5), in_thread=_yes),
    "/fapi/v1/historicalTrades": Endpoint(trades.historical_trades, _always(200), in_thread=_yes, needs_key=True),
    "/fapi/v1/aggTrades": Endpoint(trades.agg_trades, _always(20), in_thread=_yes),
    "/fapi/v1/klines": _klines(klines.klines),
    "/fapi/v1/continuousKlines": _klines(klines.continuous_klines),
    "/fapi/v1/indexPriceKlines": _klines(klines.index_klines),
    "/fapi/v1/markPriceKlines": _klines(klines.mark_klines),
    "/fapi/v1/premiumIndexKlines": _klines(klines.premium_klines),
    "/fapi/v1/premiumIndex": Endpoint(prices.premium_index, _by_symbol(1, 10), in_thread=_of_all),
    "/fapi/v1/fundingRate": Endpoint(
        prices.funding_rates, _always(0), FUNDING_BUCKET, in_thread=_yes, rows=FUNDING_ROWS
    ),
    "/fapi/v1/fundingInfo": Endpoint(reference.funding_info, _always(0), FUNDING_BUCKET),
    "/fapi/v1/ticker/24hr": Endpoint(prices.ticker_24hr, _by_symbol(1, 40), in_thread=_of_all),
    "/fapi/v1/ticker/price": _PRICE,
    "/fapi/v2/ticker/price": _PRICE,
    "/fapi/v1/ticker/bookTicker": Endpoint(prices.book_ticker, _by_symbol(2, 5), in_thread=_of_all),
    "/fapi/v1/openInterest": Endpoint(prices.open_interest, _always(1)),
    "/fapi/v1/indexInfo": Endpoint(reference.index_info, _always(1)),
    "/fapi/v1/assetIndex": Endpoint(reference.asset_index, _by_symbol(1, 10)),
    "/fapi/v1/constituents": Endpoint(reference.constituents, _always(2)),
    "/fapi/v1/insuranceBalance": Endpoint(reference.insurance_balance, _always(1)),
    "/fapi/v1/symbolAdlRisk": Endpoint(reference.symbol_adl_risk, _always(1)),
    "/fapi/v1/tradingSchedule": Endpoint(reference.trading_schedule, _always(5)),
    **{f"/futures/data/{endpoint}": _data(statistics.series(endpoint)) for endpoint in statistics.SERIES},
    "/futures/data/basis": _data(statistics.basis),
    "/futures/data/delivery-price": _data(statistics.delivery_price, rows=None),
}

SIGNED: Final = frozenset(
    f"/fapi/{path}"
    for path in (
        *("v1/order", "v1/order/test", "v1/batchOrders", "v1/allOpenOrders", "v1/openOrders", "v1/openOrder"),
        *("v1/allOrders", "v1/countdownCancelAll", "v1/orderAmendment", "v1/algoOrder", "v1/leverage", "v1/marginType"),
        *("v1/positionMargin", "v1/positionMargin/history", "v1/positionSide/dual", "v1/multiAssetsMargin"),
        *("v1/listenKey", "v1/userTrades", "v1/income", "v1/leverageBracket", "v1/adlQuantile", "v1/forceOrders"),
        *("v1/apiTradingStatus", "v1/commissionRate", "v1/rateLimit/order", "v1/feeBurn", "v1/symbolConfig"),
        *("v1/accountConfig", "v2/account", "v3/account", "v2/balance", "v3/balance", "v2/positionRisk"),
        "v3/positionRisk",
    )
)
