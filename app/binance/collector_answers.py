"""Binance's REST answers as records of the collector."""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from app.binance import rest_rows
from app.binance.collector_frames import AggTradeRow, Count, Time, check_levels, trade_of
from app.domain import exact
from app.domain.instrument import Instrument
from app.domain.interval import INTERVALS
from app.domain.kline import BadKline
from app.domain.market_events import BookUpdate
from app.domain.records import Feed, FundingRate, KlineRecord, OpenInterest, Trade
from app.domain.unreadable import BAD_JSON, Unreadable

TRADES_MAX: Final = 1_000
KLINES_MAX: Final = 1_500
FUNDINGS_MAX: Final = 1_000
LEVELS_MAX: Final = 1_000
"""The most rows, and levels of a side, that one answer has (binance-facts section 2.1)."""
CLOCK_MS: Final = 5_000
"""The newest kline of an answer has no flag: it is final so long after its end, as our clock may be ahead."""


class _Depth(msgspec.Struct, rename="camel", gc=False):
    last_update_id: Count
    bids: Annotated[list[tuple[str, str]], Meta(max_length=LEVELS_MAX)]
    asks: Annotated[list[tuple[str, str]], Meta(max_length=LEVELS_MAX)]
    E: Time = msgspec.field(name="E", default=0)
    T: Time = msgspec.field(name="T", default=0)


class _Funding(msgspec.Struct, rename="camel", gc=False):
    symbol: str
    funding_time: Time
    funding_rate: str


class _OpenInterest(msgspec.Struct, rename="camel", gc=False):
    symbol: str
    open_interest: str
    time: Time


_trades: Final = msgspec.json.Decoder(Annotated[list[AggTradeRow], Meta(max_length=TRADES_MAX)])
_fundings: Final = msgspec.json.Decoder(Annotated[list[_Funding], Meta(max_length=FUNDINGS_MAX)])
_interest: Final = msgspec.json.Decoder(_OpenInterest)
_depth: Final = msgspec.json.Decoder(_Depth)


def trades(instrument: Instrument, body: bytes, received_ms: int) -> list[Trade]:
    """The rows of aggTrades, ascending. Raises Unreadable."""
    rows: list[AggTradeRow] = _decoded(_trades, body)
    rows.sort(key=lambda row: row.a)
    return [trade_of(instrument, row, received_ms) for row in rows]


def klines(feed: Feed, body: bytes, received_ms: int) -> list[KlineRecord]:
    """The final rows of klines, ascending: those that another follows, and those that ended long enough ago."""
    grid = INTERVALS[feed.interval].grid
    try:
        rows = rest_rows.decode(body, grid)
    except BadKline as error:
        raise Unreadable(f"expected klines ({error!s:.200}), got {body[:100]!r}") from error
    if rows and grid.shift(rows[-1].open_ms, 1) + CLOCK_MS > received_ms:
        rows.pop()
    return [
        KlineRecord(
            feed.instrument,
            feed.interval,
            *row[:6],
            is_final=True,
            timestamp_ms=grid.shift(row.open_ms, 1),
            received_ms=received_ms,
            quote_volume=row.quote_volume,
            trades=row.trades,
        )
        for row in rows
    ]


def fundings(instrument: Instrument, body: bytes, received_ms: int) -> list[FundingRate]:
    """The rates that were paid, ascending. Raises Unreadable."""
    rows: list[_Funding] = _decoded(_fundings, body)
    rows.sort(key=lambda row: row.funding_time)
    for row in rows:
        _check_symbol(instrument, row.symbol)
    return [
        FundingRate(instrument, exact.signed(row.funding_rate), row.funding_time, row.funding_time, received_ms, True)
        for row in rows
    ]


def open_interest(instrument: Instrument, body: bytes, received_ms: int) -> OpenInterest:
    """The open interest, in coins. Raises Unreadable."""
    row: _OpenInterest = _decoded(_interest, body)
    _check_symbol(instrument, row.symbol)
    amount = exact.unsigned(row.open_interest)
    return OpenInterest(instrument, amount, amount, row.time, received_ms)


def book(instrument: Instrument, body: bytes, received_ms: int) -> BookUpdate:
    """The book, to 1,000 levels a side. Raises Unreadable."""
    depth: _Depth = _decoded(_depth, body)
    check_levels(depth.bids, depth.asks)
    number = depth.last_update_id
    return BookUpdate(instrument, True, number, number, None, depth.bids, depth.asks, depth.T, received_ms, depth.E)


def _decoded(decoder: "msgspec.json.Decoder[Any]", body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except BAD_JSON as error:
        raise Unreadable(f"expected an answer of Binance ({error!s:.200}), got {body[:100]!r}") from error


def _check_symbol(instrument: Instrument, symbol: str) -> None:
    if symbol != instrument.native:
        raise Unreadable(f"expected an answer for {instrument.native}, got {symbol!r:.60}")
