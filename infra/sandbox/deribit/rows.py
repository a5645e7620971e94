"""Deribit's JSON of instruments, trades, levels, tickers, candles and fundings; its numbers are printed exactly."""

from collections.abc import Iterable
from functools import partial
from typing import Final

import orjson

from infra.sandbox.book import step_at
from infra.sandbox.candles import Candle
from infra.sandbox.funding import funding_rate, has_funding
from infra.sandbox.grid import HOUR_MS
from infra.sandbox.ladders import DEPTH_MAX, Change
from infra.sandbox.listings import COIN_PLACES, SWAP, Listing
from infra.sandbox.marks import PLACES
from infra.sandbox.params import lower
from infra.sandbox.render import json_number
from infra.sandbox.tape import Trade
from infra.sandbox.universe import NEVER_MS
from infra.sandbox.venue import Venue

_NO_END_MS: Final = 32_503_708_800_000  # what perpetuals have as expiration
_MARK_PLACES: Final = 4
_CUT: Final = int("1" + "0" * (PLACES - _MARK_PLACES))
_HOURS: Final = 8  # of funding_8h
_EIGHTH: Final = 125  # a rate ÷ 8 in units of 10^-11
_EIGHTH_PLACES: Final = PLACES + 3

Json = dict[str, object]


def number(units: int, places: int) -> orjson.Fragment:
    """A JSON number."""
    return orjson.Fragment(json_number(units, places))


def amount(listing: Listing, lots: int) -> str:
    """The amount of so many lots: dollars of inverse contracts, else coins."""
    return json_number(lots * listing.size_lot, listing.size_places)


def price(listing: Listing, units: int) -> str:
    """A price."""
    return json_number(units, listing.item.price_precision)


def instrument(listing: Listing) -> Json:
    """A row of get_instruments."""
    item = listing.item
    form, smallest = "reversed" if listing.is_inverse else "linear", orjson.Fragment(amount(listing, 1))
    return {
        "instrument_name": listing.name,
        "instrument_id": sum(ord(letter) << place for place, letter in enumerate(listing.name)),
        "kind": "future",
        "base_currency": listing.base,
        "counter_currency": listing.quote,
        "quote_currency": listing.quote,
        "settlement_currency": listing.settle,
        "settlement_period": "perpetual" if listing.kind == SWAP else "month",
        "instrument_type": form,
        "future_type": form,
        "price_index": lower(f"{listing.base}_{listing.quote}"),
        "tick_size": orjson.Fragment(price(listing, item.tick_units)),
        "tick_size_steps": [],
        "min_trade_amount": smallest,
        "contract_size": smallest,
        "is_active": True,
        "state": "open",
        "creation_timestamp": item.onboard_ms,
        "expiration_timestamp": _NO_END_MS if item.delivery_ms == NEVER_MS else item.delivery_ms,
        "maker_commission": 0.0,
        "taker_commission": 0.0005,
        "max_leverage": 50,
    }


class TradeText:
    """Prints trades; what consecutive ones have in common is printed once."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._key = (-1, -1)
        self._middle = ""
        self._lots, self._tail = -1, ""
        self._name = f'"instrument_name":"{listing.name}"'
        self._ids = sum(ord(letter) for letter in listing.name) % _ID_LANES

    def row(self, venue: Venue, trade: Trade) -> str:
        """A trade as JSON text."""
        listing, minute = self._listing, trade.time_ms // 60_000
        if self._key != (minute, trade.price):
            self._key = (minute, trade.price)
            index, mark = venue.exchange.marks.of_price(listing.item, trade.time_ms, trade.price)
            self._middle = (
                f'"price":{price(listing, trade.price)},"mark_price":{json_number(mark // _CUT, _MARK_PLACES)},'
                f'{self._name},"index_price":{json_number(index // _CUT, _MARK_PLACES)},"direction":'
            )
        if self._lots != trade.lots:
            self._lots = trade.lots
            self._tail = f',"contracts":{trade.lots}.0,"amount":{amount(listing, trade.lots)}}}'
        direction, tick = ('"sell"', 3) if trade.maker else ('"buy"', 1)
        return (
            f'{{"trade_seq":{trade.number},"trade_id":"{trade.number * _ID_LANES + self._ids}",'
            f'"timestamp":{trade.time_ms},"tick_direction":{tick},{self._middle}{direction}{self._tail}'
        )


def levels(listing: Listing, side: Iterable[tuple[int, int]]) -> str:
    """One side of a book as JSON text: [price, amount]."""
    return f"[{','.join([f'[{price(listing, units)},{amount(listing, lots)}]' for units, lots in side])}]"


def new_levels(listing: Listing, side: Iterable[tuple[int, int]]) -> str:
    """One side of a snapshot as JSON text."""
    return changes(listing, (Change(units, 0, lots) for units, lots in side))


def changes(listing: Listing, side: Iterable[Change]) -> str:
    """The changes of one side as JSON text: [new, change or delete, price, amount]."""
    return f"[{','.join([_change(listing, each) for each in side])}]"


def _change(listing: Listing, each: Change) -> str:
    action = "delete" if not each.after else "change" if each.before else "new"
    return f'["{action}",{price(listing, each.price)},{amount(listing, each.after)}]'


def ticker(venue: Venue, listing: Listing, now_ms: int) -> Json:
    """The result of ticker and the data of its channel."""
    item, marks, to_price = listing.item, venue.exchange.marks, partial(_price, listing)
    day = venue.exchange.tickers.at(item, now_ms)
    candle, mark, index = day.candle, marks.mark(item, now_ms), marks.index(item, now_ms)
    best = venue.ladders.best(item, step_at(now_ms), DEPTH_MAX)
    (bid, bid_lots), (ask, ask_lots) = next(iter(best.bids.items())), next(iter(best.asks.items()))
    coins = listing.coins(candle.volume, max(1, candle.quote // max(1, candle.volume)))
    change = (candle.close - candle.open) * 1_000_000 // candle.open
    found: Json = {
        "timestamp": now_ms,
        "instrument_name": listing.name,
        "state": "open",
        "stats": {
            "volume_usd": number(dollars(listing, candle), 2),
            "volume": number(coins, COIN_PLACES),
            "price_change": number(change, 4),
            "low": to_price(candle.low),
            "high": to_price(candle.high),
        },
        "open_interest": orjson.Fragment(amount(listing, marks.open_interest(item, now_ms))),
        "mark_price": number(mark // _CUT, _MARK_PLACES),
        "index_price": number(index // _CUT, _MARK_PLACES),
        "estimated_delivery_price": number(index // _CUT, _MARK_PLACES),
        "settlement_price": to_price(candle.open),
        "last_price": to_price(candle.close),
        "min_price": to_price(candle.close * 98 // 100 // item.tick_units * item.tick_units),
        "max_price": to_price(candle.close * 102 // 100 // item.tick_units * item.tick_units),
        "best_bid_price": to_price(bid),
        "best_bid_amount": orjson.Fragment(amount(listing, bid_lots)),
        "best_ask_price": to_price(ask),
        "best_ask_amount": orjson.Fragment(amount(listing, ask_lots)),
    }
    if has_funding(item):
        found["current_funding"] = number(current_funding(listing, now_ms), PLACES)
        found["funding_8h"] = number(funding_8h(listing, now_ms), _EIGHTH_PLACES)
        found["interest_value"] = number(current_funding(listing, now_ms) * 100, PLACES)
    return found


def order_book(venue: Venue, listing: Listing, depth: int, now_ms: int) -> Json:
    """The result of get_order_book."""
    step = step_at(now_ms)
    best = venue.ladders.best(listing.item, step, min(depth, DEPTH_MAX))
    bids, asks = (orjson.Fragment(levels(listing, side.items())) for side in best)
    sequence = venue.sequence(listing, step)
    return {**ticker(venue, listing, now_ms), "change_id": sequence, "bids": bids, "asks": asks}


def current_funding(listing: Listing, now_ms: int) -> int:
    """The rate of the hour in progress for eight hours, in units of 10^-8."""
    return funding_rate(listing.item, (now_ms // HOUR_MS + 1) * HOUR_MS)


def funding_8h(listing: Listing, now_ms: int) -> int:
    """The rates of the last eight full hours together, in units of 10^-11."""
    last = now_ms // HOUR_MS
    return sum(funding_rate(listing.item, hour * HOUR_MS) * _EIGHTH for hour in range(last - _HOURS + 1, last + 1))


def funding_history_row(venue: Venue, listing: Listing, hour_ms: int) -> Json:
    """A row of get_funding_rate_history; the rates are those of the hour before."""
    marks, rate = venue.exchange.marks, funding_rate(listing.item, hour_ms)
    return {
        "timestamp": hour_ms,
        "index_price": number(marks.index(listing.item, hour_ms) // _CUT, _MARK_PLACES),
        "prev_index_price": number(marks.index(listing.item, hour_ms - HOUR_MS) // _CUT, _MARK_PLACES),
        "interest_8h": number(rate, PLACES),
        "interest_1h": number(rate * _EIGHTH, _EIGHTH_PLACES),
    }


def dollars(listing: Listing, candle: Candle) -> int:
    """The volume of a candle in cents."""
    item = listing.item
    if listing.is_inverse:
        return candle.volume * item.lot_usd * 100
    return candle.quote * 100 // int("1" + "0" * (item.price_precision + item.quantity_precision))


def candle_row(venue: Venue, listing: Listing, open_ms: int, end_ms: int, now_ms: int) -> Json:
    """The data of a candle: its time, prices, and volume in coins and in dollars."""
    candle, to_price = venue.span(listing, open_ms, end_ms, now_ms), partial(_price, listing)
    return {
        "volume": number(venue.coins(listing, open_ms, end_ms, now_ms), COIN_PLACES),
        "tick": open_ms,
        "open": to_price(candle.open),
        "low": to_price(candle.low),
        "high": to_price(candle.high),
        "cost": number(dollars(listing, candle), 2),
        "close": to_price(candle.close),
    }


def perpetual(venue: Venue, listing: Listing, now_ms: int) -> Json:
    """The data of the channel perpetual."""
    return {
        "timestamp": now_ms,
        "interest": number(current_funding(listing, now_ms), PLACES),
        "index_price": number(venue.exchange.marks.index(listing.item, now_ms) // _CUT, _MARK_PLACES),
    }


_ID_LANES: Final = 1_000  # a trade_id is the trade_seq and three digits of the instrument


def _price(listing: Listing, units: int) -> orjson.Fragment:
    return orjson.Fragment(price(listing, units))
