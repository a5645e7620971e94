"""OKX's websocket frames, and the messages that are sent."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Final

import msgspec

from app.domain import exact
from app.domain.instrument import Instrument
from app.domain.market_events import Accepted, Alive, BookUpdate, Closing, Event, Refused, Trades
from app.domain.unreadable import BAD_JSON, Unreadable
from app.okx import names, rows
from app.okx.rows import Time

PING: Final = "ping"
_PONG: Final = b"pong"
_UPGRADE: Final = "64008"
"""The notice that the connection will be closed for an upgrade."""
_NO_PREVIOUS: Final = -1
_CHANNEL: Final = re.compile(r"channel: ?([\w-]{1,40}), ?instId: ?([\w-]{1,64})")
"""How error 60018 names the channel: `Wrong URL or channel:books,instId:X doesn't exist. …`."""


class _Arg(msgspec.Struct, gc=False):
    channel: str = ""
    instId: str = ""  # noqa: N815  OKX's name


class _Named(msgspec.Struct, gc=False):
    instId: str  # noqa: N815


class _Row(msgspec.Struct, array_like=True, gc=False):
    price: str
    amount: str


class _Book(msgspec.Struct, gc=False):
    asks: list[_Row]
    bids: list[_Row]
    ts: Time
    seqId: Annotated[int, msgspec.Meta(ge=0)]  # noqa: N815
    prevSeqId: Annotated[int, msgspec.Meta(ge=_NO_PREVIOUS)]  # noqa: N815


class _TradesFrame(msgspec.Struct, gc=False):
    arg: _Named
    data: list[rows.TradeRow]


class _BookFrame(msgspec.Struct, gc=False):
    arg: _Named
    action: str
    data: list[_Book]


class _Frame(msgspec.Struct, gc=False):
    event: str = ""
    arg: _Arg | None = None
    code: str = ""
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw()


_trades_decoder: Final = msgspec.json.Decoder(_TradesFrame, strict=False)
_book_decoder: Final = msgspec.json.Decoder(_BookFrame, strict=False)
_frame_decoder: Final = msgspec.json.Decoder(_Frame)
_tickers: Final = msgspec.json.Decoder(list[rows.TickerRow], strict=False)
_fundings: Final = msgspec.json.Decoder(list[rows.FundingRow], strict=False)
_interests: Final = msgspec.json.Decoder(list[rows.OpenInterestRow], strict=False)
_candles: Final = msgspec.json.Decoder(list[rows.CandleRow], strict=False)

_TRADES_HEAD: Final = b'{"arg":{"channel":"trades-all"'
_BOOKS_HEAD: Final = b'{"arg":{"channel":"books"'
"""How the two busiest kinds of frames begin: they are then decoded in one step. In another order they are read too."""

_seen: Final = exact.Seen()
_tuple: Final = tuple.__new__


def command(operation: str, channels: Sequence[str]) -> str:
    """The message that subscribes to, or unsubscribes from, channels named `channel:instId`."""
    pairs = (name.partition(":") for name in channels)
    args = [{"channel": channel, "instId": native} for channel, _, native in pairs]
    return msgspec.json.encode({"op": operation, "args": args}).decode()


def read(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    """What a frame says about `instruments` (by native name). Raises Unreadable."""
    try:
        if frame.startswith(_TRADES_HEAD):
            return _trades(frame, instruments, received_ms)
        if frame.startswith(_BOOKS_HEAD):
            return _books(frame, instruments, received_ms)
        if frame == _PONG:
            return (Alive(),)
        return _other(frame, instruments, received_ms)
    except (*BAD_JSON, KeyError) as error:
        raise Unreadable(f"expected a frame of OKX ({error!s:.200}), got {frame[:100]!r}") from error


def _trades(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    message = _trades_decoder.decode(frame)
    instrument = instruments[message.arg.instId]
    return (_tuple(Trades, (instrument, rows.trades_of(instrument, message.data, received_ms))),)


def _books(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    message = _book_decoder.decode(frame)
    if message.action not in ("snapshot", "update"):
        raise Unreadable(f"expected a snapshot or an update of a book, got {message.action!r:.40}")
    instrument = instruments[message.arg.instId]
    return [_book(instrument, book, message.action == "snapshot", received_ms) for book in message.data]


def _book(instrument: Instrument, book: _Book, is_snapshot: bool, received_ms: int) -> BookUpdate:
    bids = [(row.price, row.amount) for row in book.bids]
    asks = [(row.price, row.amount) for row in book.asks]
    _seen.check(bids)
    _seen.check(asks)
    previous = None if book.prevSeqId == _NO_PREVIOUS else book.prevSeqId
    return BookUpdate(instrument, is_snapshot, book.seqId, book.seqId, previous, bids, asks, book.ts, received_ms)


def _other(frame: bytes, instruments: Mapping[str, Instrument], received_ms: int) -> Sequence[Event]:
    message = _frame_decoder.decode(frame)
    if message.event:
        return (_event(message),)
    arg = message.arg
    if arg is None:
        return (Alive(),)
    if arg.channel == names.TRADES:
        return _trades(frame, instruments, received_ms)
    if arg.channel == names.BOOKS:
        return _books(frame, instruments, received_ms)
    if (interval := names.INTERVALS.get(arg.channel)) is not None:
        instrument = instruments[arg.instId]
        candles = _candles.decode(message.data)
        return [rows.kline_of(instrument, interval, row, received_ms) for row in candles]
    make = _MAKERS.get(arg.channel)
    return (Alive(),) if make is None else make(instruments[arg.instId], message.data, received_ms)


def _event(message: _Frame) -> Event:
    name = f"{message.arg.channel}:{message.arg.instId}" if message.arg is not None else ""
    if message.event == "subscribe" and name:
        return Accepted(None, (name,))
    if message.event == "error":
        if not name and (named := _CHANNEL.search(message.msg)):
            name = f"{named[1]}:{named[2]}"
        return Refused(None, _code(message.code), message.msg[:200], name)
    if message.event == "notice" and message.code == _UPGRADE:
        return Closing(message.msg[:200])
    return Alive()


def _code(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0


def _make_tickers(instrument: Instrument, data: msgspec.Raw, received_ms: int) -> Sequence[Event]:
    return [rows.ticker_of(instrument, row, received_ms) for row in _tickers.decode(data)]


def _make_fundings(instrument: Instrument, data: msgspec.Raw, received_ms: int) -> Sequence[Event]:
    return [rows.forecast_of(instrument, row, received_ms) for row in _fundings.decode(data)]


def _make_interests(instrument: Instrument, data: msgspec.Raw, received_ms: int) -> Sequence[Event]:
    return [rows.open_interest_of(instrument, row, received_ms) for row in _interests.decode(data)]


_MAKERS: Final[dict[str, Callable[[Instrument, msgspec.Raw, int], Sequence[Event]]]] = {
    names.TICKERS: _make_tickers,
    names.FUNDING: _make_fundings,
    names.OPEN_INTEREST: _make_interests,
}
