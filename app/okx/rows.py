"""The rows of OKX's pushes and answers, which share their fields, as records of the collector."""

from typing import Annotated, Final, Literal

import msgspec

from app.domain import exact
from app.domain.instrument import QUANTITY_DECIMALS, Instrument, Market
from app.domain.interval import INTERVALS
from app.domain.kline import OPEN_MS_MAX
from app.domain.records import FundingRate, KlineRecord, OpenInterest, Ticker, Trade
from app.domain.unreadable import Unreadable

Time = Annotated[int, msgspec.Meta(ge=0, le=OPEN_MS_MAX)]
"""Milliseconds; OKX prints them as text, which the decoders turn into integers."""


class TradeRow(msgspec.Struct, gc=False):
    """A trade of `trades-all` or of history-trades; the side is the taker's."""

    tradeId: Annotated[int, msgspec.Meta(ge=0)]  # noqa: N815  OKX's name
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: Time


class TickerRow(msgspec.Struct, rename="camel", gc=False):
    """A ticker; numbers are "" where there is none."""

    last: str
    ask_px: str
    ask_sz: str
    bid_px: str
    bid_sz: str
    high24h: str
    low24h: str
    vol_ccy24h: str = msgspec.field(name="volCcy24h")
    vol24h: str
    ts: Time


class FundingRow(msgspec.Struct, rename="camel", gc=False):
    """The rate that will be paid next."""

    funding_rate: str
    funding_time: Time
    ts: Time


class PaidRow(msgspec.Struct, rename="camel", gc=False):
    """A rate that was paid."""

    realized_rate: str
    funding_time: Time


class OpenInterestRow(msgspec.Struct, rename="camel", gc=False):
    """What is open, in contracts and in coins."""

    oi: str
    oi_ccy: str
    ts: Time


CandleRow = tuple[Time, str, str, str, str, str, str, str, Literal["0", "1"]]
"""Open time, open, high, low, close, volume (contracts, or coins of spot), in coins (or quote), in quote, is final."""

_checked: Final = exact.Checked()


class _Multiples(dict[str, exact.Multiples]):
    """What amounts are worth, by contract size: a few tens of sizes exist."""

    def __missing__(self, size: str) -> exact.Multiples:
        if len(self) >= _SIZES_MAX:
            self.clear()
        self[size] = found = exact.Multiples(size)
        return found


_SIZES_MAX: Final = 64
_values: Final = _Multiples()
_quotients: Final = exact.Quotients(QUANTITY_DECIMALS)


def trades_of(instrument: Instrument, rows: list[TradeRow], received_ms: int) -> list[Trade]:
    """The trades of one instrument, in the order of the rows. Raises Unreadable."""
    size, checked, is_inverse, quotients = instrument.contract_size, _checked, instrument.is_inverse, _quotients
    values = checked if size == "1" else _values[size]
    trades = []
    for row in rows:
        price, amount, number = checked[row.px], row.sz, row.tradeId
        value = values[amount]  # coins, or dollars of an inverse contract
        quantity = quotients[value, price] if is_inverse else value
        is_sell = row.side == "sell"
        trades.append(Trade(instrument, number, str(number), price, quantity, amount, row.ts, received_ms, is_sell))
    return trades


def ticker_of(instrument: Instrument, row: TickerRow, received_ms: int) -> Ticker:
    """The ticker; `vol24h` counts contracts of derivatives, and `volCcy24h` counts coins there, but quote of spot."""
    volume = row.vol24h if instrument.market is Market.SPOT else row.vol_ccy24h
    bid, ask = _number(row.bid_px), _number(row.ask_px)
    return Ticker(
        instrument,
        row.ts,
        received_ms,
        last_price=_number(row.last),
        best_bid_price=bid,
        best_bid_quantity=_quantity(instrument, row.bid_sz, bid),
        best_ask_price=ask,
        best_ask_quantity=_quantity(instrument, row.ask_sz, ask),
        high_price=_number(row.high24h),
        low_price=_number(row.low24h),
        volume=_number(volume),
    )


def forecast_of(instrument: Instrument, row: FundingRow, received_ms: int) -> FundingRate:
    """The rate that is expected at the next payment."""
    rate = exact.signed(row.funding_rate)
    return FundingRate(instrument, rate, row.funding_time, row.ts, received_ms, is_final=False)


def paid_of(instrument: Instrument, row: PaidRow, received_ms: int) -> FundingRate:
    """A rate that was paid."""
    rate = exact.signed(row.realized_rate)
    return FundingRate(instrument, rate, row.funding_time, row.funding_time, received_ms, is_final=True)


def open_interest_of(instrument: Instrument, row: OpenInterestRow, received_ms: int) -> OpenInterest:
    """The open interest; OKX prints the coins itself, of inverse contracts too."""
    exact.all_unsigned((row.oi, row.oi_ccy))
    return OpenInterest(instrument, row.oi_ccy, row.oi, row.ts, received_ms)


def kline_of(instrument: Instrument, interval: str, row: CandleRow, received_ms: int) -> KlineRecord:
    """The candle. Its time is its end once it is final, and until then when it was received: OKX states none."""
    open_ms, opened, high, low, close, contracts, coins, quote, confirm = row
    volume = contracts if instrument.market is Market.SPOT else coins
    exact.all_unsigned((opened, high, low, close, volume, quote))
    grid = INTERVALS[interval].grid
    if grid.floor(open_ms) != open_ms:
        raise Unreadable(f"expected a candle of {instrument.native} on the grid of {interval}, got {open_ms}")
    end_ms, is_final = grid.shift(open_ms, 1), confirm == "1"
    return KlineRecord(
        instrument,
        interval,
        open_ms,
        opened,
        high,
        low,
        close,
        volume,
        is_final=is_final,
        timestamp_ms=end_ms if is_final else min(received_ms, end_ms),
        received_ms=received_ms,
        quote_volume=quote,
    )


def _number(text: str) -> str | None:
    return exact.unsigned(text) if text else None


def _quantity(instrument: Instrument, amount: str, price: str | None) -> str | None:
    return instrument.quantity(exact.unsigned(amount), price) if amount and price else None
