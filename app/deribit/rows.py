"""The rows of Deribit's pushes and answers as records of the collector."""

from typing import Annotated, Final, Literal

import msgspec

from app.deribit import numbers
from app.deribit.numbers import Digits
from app.domain import exact
from app.domain.instrument import QUANTITY_DECIMALS, Instrument
from app.domain.interval import HOUR_MS, INTERVALS
from app.domain.kline import OPEN_MS_MAX
from app.domain.records import FundingRate, KlineRecord, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable

Time = Annotated[int, msgspec.Meta(ge=0, le=OPEN_MS_MAX)]


class TradeRow(msgspec.Struct, gc=False):
    """A trade; the direction is the taker's."""

    trade_seq: Annotated[int, msgspec.Meta(ge=0)]
    trade_id: Annotated[str, msgspec.Meta(max_length=64)]
    timestamp: Time
    price: Digits
    amount: Digits
    direction: Literal["buy", "sell"]


class _Stats(msgspec.Struct, gc=False):
    volume: Digits = None
    high: Digits = None
    low: Digits = None


class TickerRow(msgspec.Struct, gc=False):
    """A ticker; fields are null, or missing, where there is no such number."""

    timestamp: Time
    stats: _Stats
    last_price: Digits = None
    best_bid_price: Digits = None
    best_bid_amount: Digits = None
    best_ask_price: Digits = None
    best_ask_amount: Digits = None
    mark_price: Digits = None
    index_price: Digits = None
    open_interest: Digits = None
    current_funding: Digits = None


class CandleRow(msgspec.Struct, gc=False):
    """A candle of `chart.trades`; `volume` in coins, `cost` in the quote currency."""

    tick: Time
    open: Digits
    high: Digits
    low: Digits
    close: Digits
    volume: Digits
    cost: Digits


class PaidRow(msgspec.Struct, gc=False):
    """What was paid in the hour that ended at `timestamp`."""

    timestamp: Time
    interest_1h: Digits


_quotients: Final = exact.Quotients(QUANTITY_DECIMALS)


def trades_of(instrument: Instrument, rows: list[TradeRow], received_ms: int) -> list[Trade]:
    """The trades of one instrument, in the order of the rows. Raises Unreadable."""
    text, is_inverse, quotients = numbers.text, instrument.is_inverse, _quotients
    trades = []
    for row in rows:
        price, amount = text[row.price], text[row.amount]
        quantity = quotients[amount, price] if is_inverse else amount
        is_sell = row.direction == "sell"
        number, at_ms = row.trade_seq, row.timestamp
        trades.append(Trade(instrument, number, row.trade_id, price, quantity, amount, at_ms, received_ms, is_sell))
    return trades


def ticker_of(instrument: Instrument, row: TickerRow, received_ms: int) -> Ticker:
    """The ticker; Deribit counts the volume in coins, but what stands in the book in its amounts."""
    number = numbers.unsigned_or_none
    bid, ask = _best(row.best_bid_price), _best(row.best_ask_price)
    return Ticker(
        instrument,
        row.timestamp,
        received_ms,
        last_price=number(row.last_price),
        best_bid_price=bid,
        best_bid_quantity=_quantity(instrument, row.best_bid_amount, bid),
        best_ask_price=ask,
        best_ask_quantity=_quantity(instrument, row.best_ask_amount, ask),
        high_price=number(row.stats.high),
        low_price=number(row.stats.low),
        volume=number(row.stats.volume),
        mark_price=number(row.mark_price),
        index_price=number(row.index_price),
    )


def open_interest_of(instrument: Instrument, row: TickerRow, received_ms: int) -> OpenInterest | None:
    """The open interest of a ticker; that of inverse contracts is converted at the mark price."""
    if row.open_interest is None or row.mark_price is None:
        return None
    amount = numbers.unsigned(row.open_interest)
    quantity = instrument.quantity(amount, numbers.unsigned(row.mark_price))
    return OpenInterest(instrument, quantity, amount, row.timestamp, received_ms)


def forecast_of(instrument: Instrument, row: TickerRow, received_ms: int) -> FundingRate | None:
    """The rate in force, which Deribit states for eight hours; those that were paid are of one hour."""
    if row.current_funding is None:
        return None
    rate = numbers.signed(row.current_funding)
    funding_ms = row.timestamp - row.timestamp % HOUR_MS + HOUR_MS
    return FundingRate(instrument, rate, funding_ms, row.timestamp, received_ms, is_final=False)


def paid_of(instrument: Instrument, row: PaidRow, received_ms: int) -> FundingRate:
    """The rate of an hour that is over."""
    rate = numbers.signed(row.interest_1h)
    return FundingRate(instrument, rate, row.timestamp, row.timestamp, received_ms, is_final=True)


def kline_of(instrument: Instrument, interval: str, row: CandleRow, received_ms: int, is_final: bool) -> KlineRecord:
    """The candle. Its time is its end once it is final, and until then when it was received: Deribit states none."""
    unsigned, grid = numbers.unsigned, INTERVALS[interval].grid
    if grid.floor(row.tick) != row.tick:
        raise Unreadable(f"expected a candle of {instrument.native} on the grid of {interval}, got {row.tick}")
    end_ms = grid.shift(row.tick, 1)
    return KlineRecord(
        instrument,
        interval,
        row.tick,
        unsigned(row.open),
        unsigned(row.high),
        unsigned(row.low),
        unsigned(row.close),
        unsigned(row.volume),
        is_final=is_final,
        timestamp_ms=end_ms if is_final else min(received_ms, end_ms),
        received_ms=received_ms,
        quote_volume=unsigned(row.cost),
    )


_NONE: Final = frozenset({"0", "0.0"})
"""How Deribit prints the best price of an empty side."""


def _best(price: Digits) -> str | None:
    text = numbers.unsigned_or_none(price)
    return None if text in _NONE else text


def _quantity(instrument: Instrument, amount: Digits, price: str | None) -> str | None:
    if amount is None or price is None:
        return None
    return instrument.quantity(numbers.unsigned(amount), price)
