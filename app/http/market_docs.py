"""The OpenAPI schemas of the market data endpoints' answers (binance-facts section 2)."""

from collections.abc import Mapping
from typing import Any, Final

from app.http.documentation import INTEGER, STRING, json_doc, object_of
from app.http.params import INTEGER_MAX
from app.market.endpoints import Endpoint, Parameter, ParameterType

_Schema = dict[str, Any]

_BOOLEAN: Final[_Schema] = {"type": "boolean"}
_LEVELS: Final[_Schema] = {"type": "array", "items": {"type": "array", "items": STRING, "minItems": 2, "maxItems": 2}}
_KLINE: Final[_Schema] = {
    "type": "array",
    "minItems": 12,
    "maxItems": 12,
    "items": {"anyOf": [INTEGER, STRING]},
}
_PARTS: Final[_Schema] = {"type": "array", "items": {"type": "object"}}


def _row(strings: str, integers: str = "", **others: _Schema) -> _Schema:
    """The schema of an object; `strings` and `integers` are field names separated by spaces."""
    named: Mapping[str, Any] = dict.fromkeys(strings.split(), STRING) | dict.fromkeys(integers.split(), INTEGER)
    return object_of(**named, **others)


def _list(row: _Schema) -> _Schema:
    return {"type": "array", "items": row}


def _one_or_all(row: _Schema) -> _Schema:
    return {"anyOf": [row, _list(row)]}


_BOOK: Final = object_of(lastUpdateId=INTEGER, E=INTEGER, T=INTEGER, bids=_LEVELS, asks=_LEVELS)
_TRADE: Final = _row("price qty quoteQty", "id time", isBuyerMaker=_BOOLEAN)
_AGGREGATE: Final = _row("p q", "a f l T", m=_BOOLEAN)
_MARK: Final = _row(
    "symbol markPrice indexPrice estimatedSettlePrice lastFundingRate interestRate", "nextFundingTime time"
)
_FUNDING: Final = _row("symbol fundingRate markPrice", "fundingTime")
_FUNDING_INFO: Final = _row("symbol adjustedFundingRateCap adjustedFundingRateFloor", "fundingIntervalHours")
_TICKER: Final = _row(
    "symbol priceChange priceChangePercent weightedAvgPrice lastPrice lastQty openPrice highPrice lowPrice volume "
    "quoteVolume",
    "openTime closeTime firstId lastId count",
)
_PRICE: Final = _row("symbol price", "time")
_BEST: Final = _row("symbol bidPrice bidQty askPrice askQty", "time")
_RATIO: Final = _list(_row("symbol longAccount longShortRatio shortAccount", "timestamp"))

_ANSWERS: Final[Mapping[str, _Schema]] = {
    "/fapi/v1/depth": _BOOK,
    "/fapi/v1/rpiDepth": _BOOK,
    "/fapi/v1/trades": _list(_TRADE),
    "/fapi/v1/aggTrades": _list(_AGGREGATE),
    "/fapi/v1/continuousKlines": _list(_KLINE),
    "/fapi/v1/indexPriceKlines": _list(_KLINE),
    "/fapi/v1/markPriceKlines": _list(_KLINE),
    "/fapi/v1/premiumIndexKlines": _list(_KLINE),
    "/fapi/v1/premiumIndex": _one_or_all(_MARK),
    "/fapi/v1/fundingRate": _list(_FUNDING),
    "/fapi/v1/fundingInfo": _list(_FUNDING_INFO),
    "/fapi/v1/ticker/24hr": _one_or_all(_TICKER),
    "/fapi/v1/ticker/price": _one_or_all(_PRICE),
    "/fapi/v2/ticker/price": _one_or_all(_PRICE),
    "/fapi/v1/ticker/bookTicker": _one_or_all(_BEST),
    "/fapi/v1/openInterest": _row("openInterest symbol", "time"),
    "/fapi/v1/indexInfo": _one_or_all(_row("symbol component", "time", baseAssetList=_PARTS)),
    "/fapi/v1/constituents": _row("symbol", "time", constituents=_PARTS),
    "/fapi/v1/assetIndex": _one_or_all(_row("symbol index bidBuffer askBuffer bidRate askRate", "time")),
    "/fapi/v1/insuranceBalance": _one_or_all(object_of(symbols={"type": "array", "items": STRING}, assets=_PARTS)),
    "/fapi/v1/symbolAdlRisk": _one_or_all(_row("symbol adlRisk", "updateTime")),
    "/fapi/v1/tradingSchedule": object_of(updateTime=INTEGER, marketSchedules={"type": "object"}),
    "/futures/data/openInterestHist": _list(_row("symbol sumOpenInterest sumOpenInterestValue", "timestamp")),
    "/futures/data/topLongShortAccountRatio": _RATIO,
    "/futures/data/topLongShortPositionRatio": _RATIO,
    "/futures/data/globalLongShortAccountRatio": _RATIO,
    "/futures/data/takerlongshortRatio": _list(_row("buySellRatio sellVol buyVol", "timestamp")),
    "/futures/data/basis": _list(
        _row("pair contractType indexPrice basisRate futuresPrice annualizedBasisRate basis", "timestamp")
    ),
    "/futures/data/delivery-price": _list(_row("", "deliveryTime", deliveryPrice={"type": "number"})),
}


def answer_doc(endpoint: Endpoint) -> _Schema:
    """The OpenAPI description of an endpoint's 200."""
    return json_doc("As the exchange answers; decimals are strings.", _ANSWERS[endpoint.path])


def parameters_doc(endpoint: Endpoint) -> list[_Schema]:
    """The OpenAPI description of an endpoint's parameters."""
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": parameter.is_required,
            "schema": _schema(parameter),
            "description": parameter.help,
        }
        for parameter in endpoint.parameters
    ]


def _schema(parameter: Parameter) -> _Schema:
    if parameter.kind is ParameterType.TIME:
        return {"type": "integer", "format": "int64", "minimum": 0, "maximum": INTEGER_MAX}
    if parameter.kind is not ParameterType.NUMBER:
        values = {"enum": list(parameter.values)} if parameter.values else {"minLength": 1, "example": "BTCUSDT"}
        return {"type": "string", **values}
    if parameter.values:
        return {"type": "integer", "enum": [int(each) for each in parameter.values], "default": parameter.default}
    if parameter.most is None:
        return {"type": "integer", "format": "int64", "minimum": 0, "maximum": INTEGER_MAX}
    bounds = {"type": "integer", "minimum": 1, "maximum": parameter.most}
    return bounds if parameter.default is None else {**bounds, "default": parameter.default}
