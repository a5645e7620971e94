"""The endpoints of current prices: premiumIndex, fundingRate, the tickers, openInterest."""

from collections.abc import Callable
from typing import Final

from infra.sandbox.exchange import Exchange
from infra.sandbox.funding import INTEREST, funding, funding_rate, has_funding, hours_ms, next_funding_ms
from infra.sandbox.grid import utc_ms
from infra.sandbox.marks import PLACES
from infra.sandbox.params import Query, instrument, limit_of, optional_instrument, ordered, window_of
from infra.sandbox.render import amount, decimal, signed
from infra.sandbox.tickers import Ticker, last_number
from infra.sandbox.universe import Instrument

FUNDINGS_MAX: Final = 1_000
FUNDINGS_DEFAULT: Final = 100
_PERCENT_PLACES: Final = 3
_MARKS_SINCE_MS: Final = utc_ms(2023, 1)  # earlier fundings have no mark price (binance-facts section 2.1)
_RATE_TYPES_SINCE_MS: Final = utc_ms(2026, 7, 23)
"""Fundings have a rateType since then (binance-facts section 7); that earlier ones have none is unconfirmed."""

Json = dict[str, object]
_Describe = Callable[[Exchange, Instrument, int], Json]


def premium_index(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/premiumIndex."""
    return _one_or_all(exchange, query, now_ms, describe_premium, _listed)


def ticker_24hr(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/ticker/24hr; without a symbol only those that trade."""
    return _one_or_all(exchange, query, now_ms, describe_ticker, trading)


def ticker_price(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/ticker/price and v2; includes settled symbols, with their last price and time."""
    return _one_or_all(exchange, query, now_ms, _describe_price, _listed)


def book_ticker(exchange: Exchange, query: Query, now_ms: int) -> Json | list[Json]:
    """/fapi/v1/ticker/bookTicker."""
    return _one_or_all(exchange, query, now_ms, _describe_best, trading)


def open_interest(exchange: Exchange, query: Query, now_ms: int) -> Json:
    """/fapi/v1/openInterest."""
    item = instrument(exchange, query, now_ms)
    lots = exchange.marks.open_interest(item, now_ms)
    return {"openInterest": decimal(lots, item.quantity_precision), "symbol": item.symbol, "time": now_ms}


def funding_rates(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/fundingRate, ascending: the newest rows, or with startTime the oldest of the window."""
    item = optional_instrument(exchange, query, now_ms)
    limit = limit_of(query, FUNDINGS_DEFAULT, FUNDINGS_MAX)
    start_ms, end_ms = window_of(query)
    ordered(start_ms, end_ms)
    items = _listed(exchange, now_ms) if item is None else [item]
    last_ms = now_ms if end_ms is None else min(end_ms, now_ms)
    chosen = slice(-limit, None) if start_ms is None else slice(limit)
    found = [
        (hour_ms, place)
        for place, each in enumerate(items)
        for hour_ms in hours_ms(each, start_ms or 0, last_ms)[chosen]
    ]
    return [describe_funding(exchange, items[place], hour_ms) for hour_ms, place in sorted(found)[chosen]]


def describe_funding(exchange: Exchange, item: Instrument, hour_ms: int) -> Json:
    """One row of fundingRate: the funding of a full hour."""
    one = funding(item, hour_ms)
    mark = "" if hour_ms < _MARKS_SINCE_MS else decimal(exchange.marks.mark(item, hour_ms), PLACES)
    return {
        "symbol": item.symbol,
        "fundingTime": one.time_ms,
        "fundingRate": signed(one.rate, PLACES),
        "markPrice": mark,
        **({} if hour_ms < _RATE_TYPES_SINCE_MS else {"rateType": "Regular"}),
    }


def trading(exchange: Exchange, now_ms: int) -> list[Instrument]:
    """The symbols that trade now."""
    return [item for item in exchange.universe.at(now_ms) if item.status(now_ms) == "TRADING"]


def describe_premium(exchange: Exchange, item: Instrument, now_ms: int) -> Json:
    """One object of premiumIndex."""
    marks = exchange.marks
    next_ms = next_funding_ms(item, now_ms)
    mark = decimal(marks.mark(item, now_ms), PLACES)
    return {
        "symbol": item.symbol,
        "markPrice": mark,
        "indexPrice": decimal(index_price(exchange, item, now_ms), PLACES),
        "estimatedSettlePrice": mark,
        "lastFundingRate": signed(funding_rate(item, next_ms), PLACES),
        "interestRate": decimal(INTEREST if has_funding(item) else 0, PLACES),
        "nextFundingTime": next_ms,
        "time": now_ms,
    }


def index_price(exchange: Exchange, item: Instrument, now_ms: int) -> int:
    """The index price of the symbol's pair, which a quarterly shares with its perpetual."""
    base = exchange.universe.find(item.pair, now_ms)
    return exchange.marks.index(base or item, now_ms)


def describe_ticker(exchange: Exchange, item: Instrument, now_ms: int) -> Json:
    """One object of ticker/24hr."""
    ticker = exchange.tickers.at(item, now_ms)
    candle, text = ticker.candle, ticker_text(item, ticker)
    return {
        "symbol": item.symbol,
        "priceChange": text["p"],
        "priceChangePercent": text["P"],
        "weightedAvgPrice": text["w"],
        "lastPrice": text["c"],
        "lastQty": text["Q"],
        "openPrice": text["o"],
        "highPrice": text["h"],
        "lowPrice": text["l"],
        "volume": text["v"],
        "quoteVolume": text["q"],
        "openTime": ticker.open_ms,
        "closeTime": ticker.close_ms,
        "firstId": ticker.first_number if candle.trades else -1,
        "lastId": last_number(ticker),
        "count": candle.trades,
    }


def ticker_text(item: Instrument, ticker: Ticker) -> dict[str, str]:
    """The numbers of a ticker by the stream's field names, in the stream's order."""
    candle, price, lots = ticker.candle, item.price_precision, item.quantity_precision
    change = candle.close - candle.open
    percent = abs(change) * int("1" + "0" * (2 + _PERCENT_PLACES)) // candle.open
    mean = candle.quote // candle.volume if candle.volume else candle.close
    return {
        "p": signed(change, price),
        "P": signed(-percent if change < 0 else percent, _PERCENT_PLACES),
        "w": decimal(mean, price),
        "c": decimal(candle.close, price),
        "Q": amount(ticker.last.lots if ticker.last else 0, lots),
        "o": decimal(candle.open, price),
        "h": decimal(candle.high, price),
        "l": decimal(candle.low, price),
        "v": amount(candle.volume, lots),
        "q": amount(candle.quote // int("1" + "0" * lots), price),
    }


def _describe_price(exchange: Exchange, item: Instrument, now_ms: int) -> Json:
    last = exchange.tape.last(item, now_ms)
    price = last.price if last else exchange.market.minute_now(item, now_ms).close
    time_ms = last.time_ms if last else item.onboard_ms
    return {"symbol": item.symbol, "price": decimal(price, item.price_precision), "time": time_ms}


def _describe_best(exchange: Exchange, item: Instrument, now_ms: int) -> Json:
    if item.status(now_ms) != "TRADING":
        none = {"bidPrice": "0", "bidQty": "0", "askPrice": "0", "askQty": "0"}
        return {"symbol": item.symbol, **none, "time": now_ms, "lastUpdateId": 0}
    snapshot = exchange.book.snapshot(item, 1, now_ms)
    (bid, bid_lots), (ask, ask_lots) = snapshot.bids[0], snapshot.asks[0]
    price, lots = item.price_precision, item.quantity_precision
    return {
        "symbol": item.symbol,
        "bidPrice": decimal(bid, price),
        "bidQty": decimal(bid_lots, lots),
        "askPrice": decimal(ask, price),
        "askQty": decimal(ask_lots, lots),
        "time": snapshot.time_ms,
        "lastUpdateId": snapshot.update_id,
    }


def _listed(exchange: Exchange, now_ms: int) -> list[Instrument]:
    return [item for item in exchange.universe.at(now_ms) if item.status(now_ms) != "PENDING_TRADING"]


def _one_or_all(
    exchange: Exchange,
    query: Query,
    now_ms: int,
    describe: _Describe,
    all_of: Callable[[Exchange, int], list[Instrument]],
) -> Json | list[Json]:
    item = optional_instrument(exchange, query, now_ms)
    if item is not None:
        return describe(exchange, item, now_ms)
    return [describe(exchange, each, now_ms) for each in all_of(exchange, now_ms)]
