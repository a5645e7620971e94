"""Deribit's public methods that answer the same over REST and sockets."""

from collections.abc import Callable
from typing import Final

import orjson

from infra.sandbox.deribit import rows
from infra.sandbox.deribit.query import Params, count, invalid, listing_of, needed, whole
from infra.sandbox.funding import has_funding
from infra.sandbox.grid import HOUR_MS, MINUTE_MS, Grid
from infra.sandbox.listings import Listing
from infra.sandbox.tape import Trade
from infra.sandbox.venue import Venue

DEPTHS: Final = (1, 5, 10, 20, 50, 100, 1_000, 10_000)
TRADES_MAX: Final = 1_000
CANDLES_MAX: Final = 5_000
FUNDINGS_MAX: Final = 744
RESOLUTIONS: Final = {
    **{str(minutes): f"{minutes}m" for minutes in (1, 3, 5, 15, 30)},
    "60": "1h",
    "120": "2h",
    "360": "6h",
    "720": "12h",
    "1D": "1d",
}

Method = Callable[[Venue, Params, int], object]


def grid_of(resolution: str) -> Grid | None:
    """The grid of a chart's resolution; None if there is no such."""
    interval = RESOLUTIONS.get(resolution)
    return None if interval is None else Grid(interval)


def _time(venue: Venue, params: Params, now_ms: int) -> object:
    del venue, params
    return now_ms


def _test(venue: Venue, params: Params, now_ms: int) -> object:
    del venue, params, now_ms
    return {"version": "1.2.26"}


def _status(venue: Venue, params: Params, now_ms: int) -> object:
    del venue, params, now_ms
    return {"locked": "false"}


def _instruments(venue: Venue, params: Params, now_ms: int) -> object:
    currency, kind = str(params.get("currency", "")), params.get("kind", "future")
    if not currency:
        raise invalid("currency", "is missing")
    is_expired = params.get("expired") in (True, "true")
    found = [each for each in venue.listings.at(now_ms) if currency in ("any", each.settle)]
    return [rows.instrument(each) for each in found if kind == "future" and not is_expired]


def _instrument(venue: Venue, params: Params, now_ms: int) -> object:
    return rows.instrument(listing_of(venue, params, now_ms))


def _ticker(venue: Venue, params: Params, now_ms: int) -> object:
    return rows.ticker(venue, listing_of(venue, params, now_ms), now_ms)


def _order_book(venue: Venue, params: Params, now_ms: int) -> object:
    depth = whole(params, "depth")
    if depth is not None and depth not in DEPTHS:
        raise invalid("depth", "unsupported depth")
    return rows.order_book(venue, listing_of(venue, params, now_ms), depth or 5, now_ms)


def _trades(venue: Venue, params: Params, now_ms: int) -> object:
    """By trade_seq: both bounds are part of the answer."""
    listing = listing_of(venue, params, now_ms)
    newest = venue.exchange.tape.newest_number(listing.item, now_ms)
    first, last = whole(params, "start_seq"), whole(params, "end_seq")
    first = 1 if first is None else max(1, first)
    last = newest if last is None else min(newest, last)
    return _page(venue, listing, params, (first, last), now_ms)


def _trades_by_time(venue: Venue, params: Params, now_ms: int) -> object:
    """By time: both bounds are part of the answer."""
    listing = listing_of(venue, params, now_ms)
    start_ms, end_ms = needed(params, "start_timestamp"), needed(params, "end_timestamp")
    if start_ms > end_ms:
        raise invalid("start_timestamp", "must not be greater than end_timestamp")
    bounds = _number_at(venue, listing, start_ms, now_ms), _number_at(venue, listing, end_ms + 1, now_ms) - 1
    return _page(venue, listing, params, bounds, now_ms)


def _page(venue: Venue, listing: Listing, params: Params, bounds: tuple[int, int], now_ms: int) -> object:
    (first, last), rows_max = bounds, count(params, 10, TRADES_MAX)
    is_ascending = params.get("sorting", "default") == "asc"
    has_more = last - first + 1 > rows_max
    if has_more:
        first, last = (first, first + rows_max - 1) if is_ascending else (last - rows_max + 1, last)
    found: list[Trade] = []
    if first <= last:
        found = list(venue.exchange.tape.numbered(listing.item, first, last, now_ms))
    text = rows.TradeText(listing)
    printed = [text.row(venue, trade) for trade in found]
    printed = printed if is_ascending else printed[::-1]
    return {"trades": orjson.Fragment(f"[{','.join(printed)}]"), "has_more": has_more}


def _number_at(venue: Venue, listing: Listing, time_ms: int, now_ms: int) -> int:
    """The number of the first published trade at or after `time_ms`, or of the next trade to come."""
    tape, item = venue.exchange.tape, listing.item
    time_ms = max(item.onboard_ms, min(time_ms, now_ms + 1))
    open_ms = time_ms // MINUTE_MS * MINUTE_MS
    part = tape.part(item, open_ms, 0, tape.published(item, open_ms, now_ms))
    return venue.exchange.market.numbers.first(item, open_ms) + sum(trade.time_ms < time_ms for trade in part)


def _fundings(venue: Venue, params: Params, now_ms: int) -> object:
    listing = listing_of(venue, params, now_ms)
    start_ms, end_ms = needed(params, "start_timestamp"), needed(params, "end_timestamp")
    if not has_funding(listing.item):
        raise invalid("instrument_name", "not a perpetual")
    first = -(-max(start_ms, listing.item.onboard_ms + HOUR_MS) // HOUR_MS)
    hours = range(first, min(end_ms, now_ms) // HOUR_MS + 1)
    return [rows.funding_history_row(venue, listing, hour * HOUR_MS) for hour in hours[-FUNDINGS_MAX:]]


def _chart(venue: Venue, params: Params, now_ms: int) -> object:
    listing = listing_of(venue, params, now_ms)
    start_ms, end_ms = needed(params, "start_timestamp"), needed(params, "end_timestamp")
    grid = grid_of(str(params.get("resolution", "")))
    if grid is None:
        raise invalid("resolution")
    first = grid.index(max(start_ms, listing.item.onboard_ms) - 1) + 1
    indexes = range(first, grid.index(min(end_ms, now_ms, listing.item.delivery_ms - 1)) + 1)[-CANDLES_MAX:]
    opens = [(grid.open_ms(index), grid.open_ms(index + 1)) for index in indexes]
    candles = [rows.candle_row(venue, listing, *each, now_ms) for each in opens]
    names = ("volume", "open", "low", "high", "cost", "close")
    columns = {name: [candle[name] for candle in candles] for name in names}
    return {**columns, "ticks": [candle["tick"] for candle in candles], "status": "ok" if candles else "no_data"}


METHODS: Final[dict[str, Method]] = {
    "public/test": _test,
    "public/hello": _test,
    "public/status": _status,
    "public/get_time": _time,
    "public/get_instruments": _instruments,
    "public/get_instrument": _instrument,
    "public/ticker": _ticker,
    "public/get_order_book": _order_book,
    "public/get_last_trades_by_instrument": _trades,
    "public/get_last_trades_by_instrument_and_time": _trades_by_time,
    "public/get_funding_rate_history": _fundings,
    "public/get_tradingview_chart_data": _chart,
}
