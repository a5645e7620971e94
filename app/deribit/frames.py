"""Deribit's websocket frames, and the messages that are sent."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec

from app.deribit import names, numbers, rows
from app.deribit.envelope import RpcError
from app.deribit.numbers import Digits
from app.deribit.rows import Time
from app.domain.instrument import Instrument, Market
from app.domain.market_events import Accepted, Alive, BookUpdate, Event, Refused, Reply, Trades
from app.domain.unreadable import BAD_JSON, Unreadable

HEARTBEAT_S: Final = 10
"""The shortest interval that Deribit accepts."""
_SUBSCRIPTION: Final = "subscription"
_HEARTBEAT: Final = "heartbeat"
_TEST_REQUEST: Final = "test_request"

_Change = tuple[Literal["new", "change", "delete"], Digits, Digits]


class _Book(msgspec.Struct, gc=False):
    type: Literal["snapshot", "change"]
    timestamp: Time
    change_id: Annotated[int, msgspec.Meta(ge=0)]
    bids: list[_Change]
    asks: list[_Change]
    prev_change_id: Annotated[int, msgspec.Meta(ge=0)] | None = None


class _TradesParams(msgspec.Struct, gc=False):
    channel: str
    data: list[rows.TradeRow]


class _TradesFrame(msgspec.Struct, gc=False):
    params: _TradesParams


class _BookParams(msgspec.Struct, gc=False):
    channel: str
    data: _Book


class _BookFrame(msgspec.Struct, gc=False):
    params: _BookParams


class _Params(msgspec.Struct, gc=False):
    channel: str = ""
    type: str = ""
    data: msgspec.Raw = msgspec.Raw()


class _Frame(msgspec.Struct, gc=False):
    method: str = ""
    params: _Params | None = None
    id: int | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: RpcError | None = None


_trades_decoder: Final = numbers.decoder(_TradesFrame)
_book_decoder: Final = numbers.decoder(_BookFrame)
_ticker_decoder: Final = numbers.decoder(rows.TickerRow)
_candle_decoder: Final = numbers.decoder(rows.CandleRow)
_frame_decoder: Final = msgspec.json.Decoder(_Frame)
_channels_decoder: Final = msgspec.json.Decoder(list[str])

_HEAD: Final = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_TRADES: Final = f"{names.TRADES}."
_BOOK: Final = f"{names.BOOK}."
_TRADES_HEAD: Final = _HEAD + _TRADES.encode()
_BOOK_HEAD: Final = _HEAD + _BOOK.encode()
"""How the two busiest kinds of frames begin: they are then decoded in one step. In another order they are read too."""
_tuple: Final = tuple.__new__


def command(number: int, method: str, **params: object) -> str:
    """A call of a public method."""
    call = {"jsonrpc": "2.0", "id": number, "method": f"public/{method}", "params": params}
    return msgspec.json.encode(call).decode()


def subscription_id(request_id: int) -> int:
    """The id of a subscription on the wire: even. An acknowledged unsubscription looks alike, so its id is odd."""
    return 2 * request_id


def other_id(request_id: int) -> int:
    """The id of any other call."""
    return 2 * request_id + 1


_TEST: Final = Reply(command(other_id(0), "test"))


def read(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    """What a frame says about `instruments` (by native name). Raises Unreadable."""
    try:
        if frame.startswith(_TRADES_HEAD):
            return _trades(frame, instruments, received_ms)
        if frame.startswith(_BOOK_HEAD):
            return _book(frame, instruments, received_ms)
        message = _frame_decoder.decode(frame)
        if message.method == _SUBSCRIPTION and message.params is not None:
            return _data(message.params, frame, instruments, received_ms)
        return (_control(message),)
    except (*BAD_JSON, KeyError, TypeError) as error:  # TypeError: a list where a number belongs
        raise Unreadable(f"expected a frame of Deribit ({error!s:.200}), got {frame[:100]!r}") from error


def _trades(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    params = _trades_decoder.decode(frame).params
    instrument = _find(params.channel, _TRADES, instruments)
    if instrument is None:
        return (Alive(),)
    return (_tuple(Trades, (instrument, rows.trades_of(instrument, params.data, received_ms))),)


def _book(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    params = _book_decoder.decode(frame).params
    instrument = _find(params.channel, _BOOK, instruments)
    if instrument is None:
        return (Alive(),)
    book: _Book = params.data
    bids, asks = _levels(book.bids), _levels(book.asks)
    is_snapshot, number = book.type == "snapshot", book.change_id
    previous = None if is_snapshot else book.prev_change_id
    if previous is None and not is_snapshot:
        raise Unreadable(f"expected prev_change_id in a change, got {frame[:200]!r}")
    update = BookUpdate(instrument, is_snapshot, number, number, previous, bids, asks, book.timestamp, received_ms)
    return (update,)


def _find(channel: str, kind_of_channel: str, instruments: Mapping[str, Instrument]) -> Instrument | None:
    """The instrument of a channel; None for a channel of another form. KeyError: the instrument is not known."""
    if (instrument := instruments.get(channel.removeprefix(kind_of_channel).removesuffix(names.PACE))) is not None:
        return instrument
    kind, native, _ = names.split(channel)
    return instruments[native] if kind else None


def _levels(changes: list[_Change]) -> list[tuple[str, str]]:
    """The levels; what is deleted has the amount "0"."""
    prices, text = numbers.canonical, numbers.text
    return [(prices[price], "0" if what == "delete" else text[amount]) for what, price, amount in changes]


def _data(params: _Params, frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    kind, native, detail = names.split(params.channel)
    if kind == names.TRADES:
        return _trades(frame, instruments, received_ms)
    if kind == names.BOOK:
        return _book(frame, instruments, received_ms)
    if kind == names.TICKER:
        return _ticker(instruments[native], _ticker_decoder.decode(params.data), received_ms)
    if kind == names.CHART and (interval := names.INTERVALS.get(detail)) is not None:
        row: rows.CandleRow = _candle_decoder.decode(params.data)
        return (rows.kline_of(instruments[native], interval, row, received_ms, is_final=False),)
    return (Alive(),)


def _ticker(instrument: Instrument, row: rows.TickerRow, received_ms: int) -> Sequence[Event]:
    events: list[Event] = [rows.ticker_of(instrument, row, received_ms)]
    if instrument.market is Market.SWAP and (rate := rows.forecast_of(instrument, row, received_ms)) is not None:
        events.append(rate)
    if instrument.market is not Market.SPOT:
        interest = rows.open_interest_of(instrument, row, received_ms)
        if interest is not None:
            events.append(interest)
    return events


def _control(message: _Frame) -> Event:
    if message.method == _HEARTBEAT:
        is_test = message.params is not None and message.params.type == _TEST_REQUEST
        return _TEST if is_test else Alive()
    number = message.id
    request_id = number // 2 if isinstance(number, int) else None
    if message.error is not None:
        return Refused(request_id, message.error.code, message.error.message[:200])
    if isinstance(number, int) and number % 2 == 0 and bytes(message.result)[:1] == b"[":
        return Accepted(request_id, tuple(_channels_decoder.decode(message.result)))
    return Alive()
