"""The endpoints of reference data, which seldom changes."""

from typing import Final

from infra.sandbox.answers.prices import trading
from infra.sandbox.exchange import Exchange
from infra.sandbox.funding import has_funding, regime_at
from infra.sandbox.grid import DAY_MS, HOUR_MS, MINUTE_MS
from infra.sandbox.marks import ONE, PLACES
from infra.sandbox.noise import chance
from infra.sandbox.params import ApiError, Query, instrument, optional_instrument, upper
from infra.sandbox.render import decimal
from infra.sandbox.universe import Instrument

INDEX_SYMBOL: Final = "BTCDOMUSDT"
_INDEX_PARTS: Final = 4
_BUFFER: Final = ONE // 20
_SOURCES: Final = ("binance", "coinbase", "okex", "bitget")
_RISK_STEP_MS: Final = 30 * MINUTE_MS
_RISKS: Final = ("low", "medium", "high")
_ADVERSE_ASSETS: Final = ("BTC", "ETH", "BNB", "USDC")
_MARKETS: Final = ("EQUITY", "COMMODITY", "KR_EQUITY", "HK_EQUITY", "CN_EQUITY")

Json = dict[str, object]


def funding_info(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/fundingInfo: all perpetuals; the symbol parameter is ignored."""
    del query
    return [
        {
            "symbol": item.symbol,
            "adjustedFundingRateCap": decimal(ONE // 50, PLACES),
            "adjustedFundingRateFloor": f"-{decimal(ONE // 50, PLACES)}",
            "fundingIntervalHours": regime_at(item, now_ms).hours,
            "disclaimer": False,
            "updateTime": None if chance(f"{item.uid}/adjusted") & 1 else regime_at(item, now_ms).since_ms,
        }
        for item in trading(exchange, now_ms)
        if has_funding(item)
    ]


def index_info(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/indexInfo: the components of the composite index."""
    asked = query.get("symbol")
    if asked is not None and upper(asked) != INDEX_SYMBOL:
        raise ApiError(-1121, "Invalid symbol.")
    index = exchange.universe.find(INDEX_SYMBOL, now_ms)
    if index is None:
        return []
    parts = [item for item in trading(exchange, now_ms) if item.quote_asset == "USDT" and item is not index]
    share = ONE // _INDEX_PARTS
    return [
        {
            "symbol": INDEX_SYMBOL,
            "time": now_ms,
            "component": "baseAsset",
            "baseAssetList": [
                {
                    "baseAsset": item.base_asset,
                    "quoteAsset": item.quote_asset,
                    "weightInQuantity": decimal(1 + chance(f"{item.uid}/index") % ONE, PLACES),
                    "weightInPercentage": decimal(share, PLACES),
                }
                for item in parts[:_INDEX_PARTS]
            ],
        }
    ]


def asset_index(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/assetIndex: the symbol is asset and USD, such as BTCUSD."""
    symbol = query.get("symbol")
    names = {f"{asset}USD": asset for asset in _ADVERSE_ASSETS}
    if symbol is None:
        return [_asset_index(exchange, name, now_ms) for name in names]
    if upper(symbol) not in names:
        raise ApiError(-1121, "Invalid symbol.")
    return _asset_index(exchange, upper(symbol), now_ms)


def constituents(exchange: Exchange, query: Query, now_ms: int) -> Json:
    """/fapi/v1/constituents: the markets of an index price; for TradFi symbols without their prices."""
    item = instrument(exchange, query, now_ms)
    hidden = item.contract_type == "TRADIFI_PERPETUAL"
    price = "-1" if hidden else decimal(exchange.marks.index(item, now_ms), PLACES)
    weight = decimal(ONE // len(_SOURCES), PLACES)
    return {
        "symbol": item.symbol,
        "time": now_ms,
        "constituents": [
            {"exchange": source, "symbol": item.pair, "price": price, "weight": weight} for source in _SOURCES
        ],
    }


def insurance_balance(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/insuranceBalance: one fund for all symbols."""
    item = optional_instrument(exchange, query, now_ms)
    symbols = [each.symbol for each in trading(exchange, now_ms)]
    updated_ms = now_ms // HOUR_MS * HOUR_MS
    balance = decimal(ONE * 1_000_000_000 + chance(f"insurance/{updated_ms}") % ONE, PLACES)
    assets = [{"asset": "USDT", "marginBalance": balance, "updateTime": updated_ms}]
    fund: Json = {"symbols": symbols, "assets": assets}
    return fund if item is not None else [fund]


def symbol_adl_risk(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/symbolAdlRisk: changes every half hour."""
    item = optional_instrument(exchange, query, now_ms)
    if item is not None:
        return _adl_risk(item, now_ms)
    return [_adl_risk(each, now_ms) for each in trading(exchange, now_ms)]


def trading_schedule(exchange: Exchange, query: Query, now_ms: int) -> Json:
    """/fapi/v1/tradingSchedule: in the sandbox every market is open from 14:30 to 21:00 UTC, today and tomorrow."""
    del exchange, query
    today_ms = now_ms // DAY_MS * DAY_MS
    sessions = [
        {
            "startTime": today_ms + day * DAY_MS + 29 * HOUR_MS // 2,
            "endTime": today_ms + day * DAY_MS + 21 * HOUR_MS,
            "type": "REGULAR",
        }
        for day in (0, 1)
    ]
    return {"updateTime": today_ms, "marketSchedules": {market: {"sessions": sessions} for market in _MARKETS}}


def _asset_index(exchange: Exchange, name: str, now_ms: int) -> Json:
    item = exchange.universe.find(f"{name}T", now_ms)
    index = ONE if item is None else exchange.marks.index(item, now_ms)
    low, high = (decimal(index * (ONE + sign * _BUFFER) // ONE, PLACES) for sign in (-1, 1))
    buffer = decimal(_BUFFER, PLACES)
    return {
        "symbol": name,
        "time": now_ms,
        "index": decimal(index, PLACES),
        "bidBuffer": buffer,
        "askBuffer": buffer,
        "bidRate": low,
        "askRate": high,
        "autoExchangeBidBuffer": buffer,
        "autoExchangeAskBuffer": buffer,
        "autoExchangeBidRate": low,
        "autoExchangeAskRate": high,
    }


def _adl_risk(item: Instrument, now_ms: int) -> Json:
    updated_ms = now_ms // _RISK_STEP_MS * _RISK_STEP_MS
    risk = _RISKS[chance(f"{item.uid}/adl/{updated_ms}") % len(_RISKS)]
    return {"symbol": item.symbol, "adlRisk": risk, "updateTime": updated_ms}
