"""The exchangeInfo answer, field by field as Binance sends it (binance-facts section 4)."""

from collections.abc import Mapping, Sequence

from infra.sandbox.render import decimal
from infra.sandbox.universe import Instrument

Json = Mapping[str, object]

_ASSETS = (("USDT", "-10000"), ("BTC", "-0.00100000"), ("BNB", "-10"), ("ETH", "-5"), ("USDC", "-10000"))
_ORDER_TYPES = ("LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
_SUB_TYPES = {"COIN": ["Layer-1"], "COMMODITY": ["TradFi"]}


def exchange_info(items: Sequence[Instrument], now_ms: int, weight_limit: int) -> Json:
    """The whole answer at `now_ms`."""
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "exchangeFilters": [],
        "assets": [{"asset": name, "marginAvailable": True, "autoAssetExchange": auto} for name, auto in _ASSETS],
        "symbols": [describe(item, now_ms) for item in items],
    }


def describe(item: Instrument, now_ms: int) -> Json:
    """One symbol's object, its 26 keys in the recorded order."""
    return {
        "symbol": item.symbol,
        "pair": item.pair,
        "contractType": item.contract_type,
        "deliveryDate": item.delivery_date(now_ms),
        "onboardDate": item.onboard_date,
        "status": item.status(now_ms),
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": item.base_asset,
        "quoteAsset": item.quote_asset,
        "marginAsset": item.quote_asset,
        "pricePrecision": item.price_precision,
        "quantityPrecision": item.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": item.underlying,
        "underlyingSubType": _SUB_TYPES[item.underlying],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": _filters(item),
        "orderTypes": _ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY", "DCA", "PSB"],
        "marketType": "futures",
    }


def _filters(item: Instrument) -> list[Json]:
    tick = decimal(item.tick_units, item.price_precision)
    highest = decimal(item.base_ticks * item.tick_units * 20, item.price_precision)
    lot = decimal(1, item.quantity_precision)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": highest, "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "10000000", "stepSize": lot},
        {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": "1000000", "stepSize": lot},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
