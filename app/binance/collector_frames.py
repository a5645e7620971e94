"""Binance's market streams as events of the collector, and the messages that are sent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from app.binance import collector_names as names
from app.binance import stream_event
from app.domain import exact
from app.domain.instrument import Instrument
from app.domain.kline import OPEN_MS_MAX, BadKline
from app.domain.market_events import Accepted, Alive, BookUpdate, Closing, Event, Refused, Trades
from app.domain.records import FundingRate, KlineRecord, Ticker, Trade
from app.domain.unreadable import BAD_JSON, Unreadable

Time = Annotated[int, Meta(ge=0, le=OPEN_MS_MAX)]
Count = Annotated[int, Meta(ge=0)]
_Event = TypeVar("_Event")


class AggTradeRow(msgspec.Struct, gc=False):
    """An aggregate trade of the stream or of REST; `s` is "" in REST's rows, which belong to one symbol."""

    a: Count
    p: str
    q: str
    T: Time
    m: bool
    s: str = ""


class _Depth(msgspec.Struct, gc=False):
    s: str
    U: Count
    u: Count
    pu: Count
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]
    E: Time
    T: Time


class _Ticker(msgspec.Struct, gc=False):
    s: str
    E: Time
    c: str
    h: str
    l: str  # noqa: E741  Binance's name
    v: str


class _Mark(msgspec.Struct, gc=False):
    s: str
    E: Time
    r: str
    T: Time


class _Error(msgspec.Struct, gc=False):
    code: int = 0
    msg: str = ""


class _Frame(msgspec.Struct, gc=False):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None
    code: int | None = None
    msg: str = ""


_frame_decoder: Final = msgspec.json.Decoder(_Frame)
_checked: Final = exact.Checked()
_seen: Final = exact.Seen()
_trade_decoder: Final = msgspec.json.Decoder(AggTradeRow)
_depth_decoder: Final = msgspec.json.Decoder(_Depth)
_ticker_decoder: Final = msgspec.json.Decoder(_Ticker)
_mark_decoder: Final = msgspec.json.Decoder(_Mark)


def command(number: int, method: str, params: Sequence[str]) -> str:
    """A control message."""
    return msgspec.json.encode({"method": method, "params": params, "id": number}).decode()


def subscription_id(request_id: int) -> int:
    """The id of a subscription on the wire: even. Other calls are acknowledged alike, so their ids are odd."""
    return 2 * request_id


def other_id(request_id: int) -> int:
    """The id of any other call."""
    return 2 * request_id + 1


def read(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    """What a frame of a combined stream says about `instruments` (by native name). Raises Unreadable."""
    try:
        message = _frame_decoder.decode(frame)
        if not message.stream:
            return (_control(message, frame),)
        kind = message.stream.partition("@")[2]
        if (make := _MAKERS.get(kind)) is not None:
            return (make(message.data, instruments, received_ms),)
        return (_kline(frame, instruments, received_ms) if kind.startswith(names.KLINE) else _notice(frame),)
    except (*BAD_JSON, BadKline, KeyError) as error:
        raise Unreadable(f"expected a frame of Binance ({error!s:.200}), got {frame[:100]!r}") from error


def trade_of(instrument: Instrument, row: AggTradeRow, received_ms: int) -> Trade:
    """The trade. Raises Unreadable."""
    price, amount = _checked[row.p], _checked[row.q]
    return Trade(instrument, row.a, str(row.a), price, amount, amount, row.T, received_ms, row.m)


def check_levels(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
    """Raise Unreadable for a level that is none."""
    _seen.check(bids)
    _seen.check(asks)


def _trade(data: msgspec.Raw, instruments: Mapping[str, Instrument], received_ms: int) -> Event:
    row = _trade_decoder.decode(data)
    instrument = instruments[row.s]
    return Trades(instrument, [trade_of(instrument, row, received_ms)])


def _depth(data: msgspec.Raw, instruments: Mapping[str, Instrument], received_ms: int) -> Event:
    depth = _depth_decoder.decode(data)
    check_levels(depth.b, depth.a)
    instrument = instruments[depth.s]
    return BookUpdate(instrument, False, depth.U, depth.u, depth.pu, depth.b, depth.a, depth.T, received_ms, depth.E)


def _ticker(data: msgspec.Raw, instruments: Mapping[str, Instrument], received_ms: int) -> Event:
    """A ticker without the best prices, which are a stream of their own, of many frames a second."""
    row = _ticker_decoder.decode(data)
    exact.all_unsigned((row.c, row.h, row.l, row.v))
    return Ticker(
        instruments[row.s],
        row.E,
        received_ms,
        last_price=row.c,
        high_price=row.h,
        low_price=row.l,
        volume=row.v,
    )


def _mark(data: msgspec.Raw, instruments: Mapping[str, Instrument], received_ms: int) -> Event:
    row = _mark_decoder.decode(data)
    instrument = instruments[row.s]
    if not row.T or not row.r:
        return Alive()  # a contract without funding
    return FundingRate(instrument, exact.signed(row.r), row.T, row.E, received_ms, is_final=False)


_MAKERS: Final[dict[str, Callable[[msgspec.Raw, Mapping[str, Instrument], int], Event]]] = {
    names.AGG_TRADE: _trade,
    names.DEPTH: _depth,
    names.TICKER: _ticker,
    names.MARK_PRICE: _mark,
}


def _kline(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Event:
    event = stream_event.decode(frame)
    if not isinstance(event, stream_event.KlineEvent):
        return _notice(frame)
    kline = event.kline
    return KlineRecord(
        instruments[event.symbol],
        event.interval.code,
        *kline[:6],
        is_final=event.is_final,
        timestamp_ms=event.event_ms,
        received_ms=received_ms,
        quote_volume=kline.quote_volume,
        trades=kline.trades,
    )


def _notice(frame: bytes) -> Event:
    """The end of the connection that the exchange announces, or a frame that only shows life."""
    is_shutdown = isinstance(stream_event.decode(frame), stream_event.ServerShutdown)
    return Closing("the exchange shuts its server down") if is_shutdown else Alive()


def _control(message: _Frame, frame: bytes) -> Event:
    number = message.id
    request_id = number // 2 if isinstance(number, int) else None
    error = message.error
    if error is None and message.code is not None:
        error = _Error(message.code, message.msg)
    if error is not None:
        return Refused(request_id, error.code, error.msg[:200])
    if number is None:
        return _notice(frame)
    is_subscription = isinstance(number, int) and number % 2 == 0
    return Accepted(request_id, ()) if is_subscription and bytes(message.result) == b"null" else Alive()
