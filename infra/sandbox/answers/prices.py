"""The endpoints of current prices: premiumIndex, fundingRate, the tickers, openInterest."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from infra.sandbox.exchange import Exchange
from infra.sandbox.grid import HOUR_MS
from infra.sandbox.marks import FUNDING_JITTER_MS, INTEREST, PLACES, has_funding
from infra.sandbox.params import Query, instrument, limit_of, optional_instrument, ordered, window_of
from infra.sandbox.render import amount, decimal, signed
from infra.sandbox.tickers import Ticker, last_number
from infra.sandbox.universe import Instrument

FUNDINGS_MAX: Final = 1_000
_FUNDINGS_DEFAULT: Final = 100
_PERCENT_PLACES: Final = 3
_FUNDING_STEP_MS: Final = 4 * HOUR_MS  # every funding interval is a multiple of it

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


def funding_rate(exchange: Exchange, query: Query, now_ms: int) -> list[Json]:
    """/fapi/v1/fundingRate, ascending: the newest rows, or with startTime the oldest of the window."""
    item = optional_instrument(exchange, query, now_ms)
    limit = limit_of(query, _FUNDINGS_DEFAULT, FUNDINGS_MAX)
    start_ms, end_ms = window_of(query)
    ordered(start_ms, end_ms)
    items = _listed(exchange, now_ms) if item is None else [item]
    first_ms = max(start_ms or 0, min((each.onboard_ms for each in items), default=0))
    last_ms = now_ms if end_ms is None else min(end_ms, now_ms)
    if item is not None:
        hours: Iterable[int] = exchange.marks.funding_hours_ms(item, first_ms, last_ms)
        found = _pick([(hour_ms, item) for hour_ms in hours], start_ms, limit)
    else:
        events = _of_all(exchange, items, (first_ms, last_ms), oldest_first=start_ms is not None)
        found = list(islice(events, limit))
        found = found if start_ms is not None else found[::-1]
    return [_describe_funding(exchange, each, hour_ms) for hour_ms, each in found]


def trading(exchange: Exchange, now_ms: int) -> list[Instrument]:
    """The symbols that trade now."""
    return [item for item in exchange.universe.at(now_ms) if item.status(now_ms) == "TRADING"]


def describe_premium(exchange: Exchange, item: Instrument, now_ms: int) -> Json:
    """One object of premiumIndex."""
    marks = exchange.marks
    next_ms = marks.next_funding_ms(item, now_ms)
    mark = decimal(marks.mark(item, now_ms), PLACES)
    return {
        "symbol": item.symbol,
        "markPrice": mark,
        "indexPrice": decimal(index_price(exchange, item, now_ms), PLACES),
        "estimatedSettlePrice": mark,
        "lastFundingRate": signed(marks.funding_rate(item, next_ms), PLACES),
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


def _describe_funding(exchange: Exchange, item: Instrument, hour_ms: int) -> Json:
    funding, mark = exchange.marks.funding(item, hour_ms), exchange.marks.funding_mark(item, hour_ms)
    return {
        "symbol": item.symbol,
        "fundingTime": funding.time_ms,
        "fundingRate": signed(funding.rate, PLACES),
        "markPrice": "" if mark is None else decimal(mark, PLACES),
        "rateType": "Regular",
    }


def _pick(events: list[tuple[int, Instrument]], start_ms: int | None, limit: int) -> list[tuple[int, Instrument]]:
    return events[:limit] if start_ms is not None else events[-limit:]


def _of_all(
    exchange: Exchange, items: list[Instrument], bounds: tuple[int, int], *, oldest_first: bool
) -> Iterable[tuple[int, Instrument]]:
    first_ms, last_ms = bounds
    hours = range(
        max(0, first_ms - FUNDING_JITTER_MS) // _FUNDING_STEP_MS * _FUNDING_STEP_MS, last_ms + 1, _FUNDING_STEP_MS
    )
    for hour_ms in hours if oldest_first else reversed(hours):
        for item in items:
            each = exchange.marks.funding_hours_ms(
                item, max(first_ms, hour_ms), min(last_ms, hour_ms + FUNDING_JITTER_MS)
            )
            if each:
                yield hour_ms, item


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
