"""OKX's text forms of instruments, trades, levels, candles, tickers, fundings and open interest."""

from collections.abc import Iterable, Sequence
from typing import Final

from infra.sandbox.book import step_at
from infra.sandbox.candles import Candle
from infra.sandbox.funding import funding_rate, next_funding_ms
from infra.sandbox.grid import DAY_MS, HOUR_MS
from infra.sandbox.listings import COIN_PLACES, SPOT, SWAP, Listing
from infra.sandbox.marks import PLACES
from infra.sandbox.render import decimal, trimmed
from infra.sandbox.tape import Trade
from infra.sandbox.universe import NEVER_MS
from infra.sandbox.venue import Venue

DEPTH: Final = 400  # levels of the channel books and of /market/books
_RATE_LIMIT: Final = 375_000  # 0.00375, the highest funding rate
_EAST_MS: Final = 8 * HOUR_MS  # days begin at UTC+8 unless the candle's name ends with utc
_ONE_COIN: Final = int("1" + "0" * COIN_PLACES)

Json = dict[str, object]


def instrument(listing: Listing) -> Json:
    """A row of /public/instruments."""
    item, is_spot = listing.item, listing.kind == SPOT
    contract_type = "inverse" if listing.is_inverse else "linear"
    pair = f"{listing.base}-{listing.quote}"
    smallest = listing.size(1)
    return {
        "instType": listing.kind,
        "instId": listing.name,
        "uly": "" if is_spot else pair,
        "instFamily": "" if is_spot else pair,
        "category": "1",
        "baseCcy": listing.base if is_spot else "",
        "quoteCcy": listing.quote if is_spot else "",
        "settleCcy": listing.settle,
        "ctVal": listing.contract,
        "ctMult": "" if is_spot else "1",
        "ctValCcy": "" if is_spot else "USD" if listing.is_inverse else listing.base,
        "ctType": "" if is_spot else contract_type,
        "optType": "",
        "stk": "",
        "listTime": str(item.onboard_ms),
        "expTime": "" if item.delivery_ms == NEVER_MS else str(item.delivery_ms),
        "lever": "10" if is_spot else "100",
        "tickSz": listing.price(item.tick_units),
        "lotSz": smallest,
        "minSz": smallest,
        "alias": "" if item.delivery_ms == NEVER_MS else "quarter",
        "state": "live",
        "ruleType": "normal",
    }


def side(trade: Trade) -> str:
    """The taker's side of a trade."""
    return "sell" if trade.maker else "buy"


def trade_row(listing: Listing, trade: Trade) -> Json:
    """A row of /market/trades."""
    return {
        "instId": listing.name,
        "side": side(trade),
        "sz": listing.size(trade.lots),
        "source": "0",
        "px": listing.price(trade.price),
        "tradeId": str(trade.number),
        "ts": str(trade.time_ms),
    }


def level(listing: Listing, price: int, lots: int) -> str:
    """A level as JSON text; one that was removed has size and orders 0."""
    if not lots:
        return f'["{listing.price(price)}","0","0","0"]'
    return f'["{listing.price(price)}","{listing.size(lots)}","0","{1 + lots % 7}"]'


def levels(listing: Listing, side: Iterable[tuple[int, int]]) -> str:
    """One side of a book as JSON text."""
    return f"[{','.join([level(listing, price, lots) for price, lots in side])}]"


def candle_row(venue: Venue, listing: Listing, open_ms: int, end_ms: int, now_ms: int) -> list[str]:
    """A row of candles: open time, prices, volumes in sizes, coins and quote asset, and whether it is closed."""
    candle = venue.span(listing, open_ms, end_ms, now_ms)
    prices = [listing.price(units) for units in candle[1:5]]
    volumes = volume_texts(listing, candle, venue.coins(listing, open_ms, end_ms, now_ms))
    return [str(open_ms), *prices, *volumes, "1" if now_ms >= end_ms else "0"]


def volume_texts(listing: Listing, candle: Candle, coins: int) -> Sequence[str]:
    """The volume of a candle in sizes, in coins and in the quote asset. Those of spot are coins, coins, quote."""
    item = listing.item
    if listing.is_inverse:
        quote = trimmed(candle.volume * item.lot_usd, 0)
    else:
        quote = trimmed(candle.quote, item.price_precision + item.quantity_precision)
    sizes = listing.size(candle.volume)
    in_coins = trimmed(coins, COIN_PLACES)
    return sizes, in_coins if listing.kind != SPOT else quote, quote


def ticker(venue: Venue, listing: Listing, now_ms: int) -> Json:
    """A row of /market/tickers and of the channel tickers."""
    item = listing.item
    day = venue.exchange.tickers.at(item, now_ms)
    best = venue.ladders.best(item, step_at(now_ms), 1)
    (bid, bid_lots), (ask, ask_lots) = next(iter(best.bids.items())), next(iter(best.asks.items()))
    coins = listing.coins(day.candle.volume, max(1, day.candle.quote // max(1, day.candle.volume)))
    sizes, in_coins, _ = volume_texts(listing, day.candle, coins)
    return {
        "instType": listing.kind,
        "instId": listing.name,
        "last": listing.price(day.candle.close),
        "lastSz": listing.size(day.last.lots) if day.last else "0",
        "askPx": listing.price(ask),
        "askSz": listing.size(ask_lots),
        "bidPx": listing.price(bid),
        "bidSz": listing.size(bid_lots),
        "open24h": listing.price(day.candle.open),
        "high24h": listing.price(day.candle.high),
        "low24h": listing.price(day.candle.low),
        "volCcy24h": in_coins,
        "vol24h": sizes,
        "ts": str(now_ms),
        "sodUtc0": _start_of_day(venue, listing, now_ms, 0),
        "sodUtc8": _start_of_day(venue, listing, now_ms, _EAST_MS),
    }


def funding(listing: Listing, now_ms: int) -> Json:
    """The row of /public/funding-rate and of the channel funding-rate."""
    item = listing.item
    next_ms = next_funding_ms(item, now_ms)
    return {
        "instType": SWAP,
        "instId": listing.name,
        "method": "current_period",
        "formulaType": "noRate",
        "fundingRate": trimmed(funding_rate(item, next_ms), PLACES),
        "nextFundingRate": "",
        "fundingTime": str(next_ms),
        "nextFundingTime": str(next_funding_ms(item, next_ms)),
        "minFundingRate": trimmed(-_RATE_LIMIT, PLACES),
        "maxFundingRate": trimmed(_RATE_LIMIT, PLACES),
        "interestRate": "0.0001",
        "impactValue": "20000",
        "settState": "settled",
        "settFundingRate": trimmed(funding_rate(item, _funding_before_ms(listing, now_ms)), PLACES),
        "premium": trimmed(funding_rate(item, next_ms) // 2, PLACES),
        "ts": str(now_ms),
    }


def funding_history_row(listing: Listing, hour_ms: int) -> Json:
    """A row of /public/funding-rate-history."""
    rate = trimmed(funding_rate(listing.item, hour_ms), PLACES)
    return {
        "instType": SWAP,
        "instId": listing.name,
        "formulaType": "noRate",
        "fundingRate": rate,
        "realizedRate": rate,
        "fundingTime": str(hour_ms),
        "method": "current_period",
    }


def open_interest(venue: Venue, listing: Listing, now_ms: int) -> Json:
    """The row of /public/open-interest and of the channel open-interest."""
    item = listing.item
    lots, mark = venue.exchange.marks.open_interest(item, now_ms), venue.exchange.marks.mark(item, now_ms)
    coins = listing.coins(lots, max(1, mark // int("1" + "0" * (PLACES - item.price_precision))))
    usd = lots * item.lot_usd * _ONE_COIN if listing.is_inverse else coins * mark // _ONE_COIN
    return {
        "instType": listing.kind,
        "instId": listing.name,
        "oi": listing.size(lots),
        "oiCcy": trimmed(coins, COIN_PLACES),
        "oiUsd": trimmed(usd, PLACES),
        "ts": str(now_ms),
    }


def mark_price(venue: Venue, listing: Listing, now_ms: int) -> Json:
    """The row of /public/mark-price and of the channel mark-price."""
    mark = decimal(venue.exchange.marks.mark(listing.item, now_ms), PLACES)
    return {"instType": listing.kind, "instId": listing.name, "markPx": mark, "ts": str(now_ms)}


def _start_of_day(venue: Venue, listing: Listing, now_ms: int, east_ms: int) -> str:
    open_ms = (now_ms + east_ms) // DAY_MS * DAY_MS - east_ms
    return listing.price(venue.exchange.market.block(listing.item, open_ms).minute(open_ms)[0].open)


def _funding_before_ms(listing: Listing, now_ms: int) -> int:
    hour_ms = now_ms // HOUR_MS * HOUR_MS
    while next_funding_ms(listing.item, hour_ms - 1) != hour_ms:
        hour_ms -= HOUR_MS
    return hour_ms
