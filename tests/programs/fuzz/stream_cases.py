"""Fuzz targets of the streams: the exchange's frames, and what clients send to the node's sockets."""

import json
from urllib.parse import unquote

from app.binance.stream_event import StreamFrame, decode_any
from app.domain.kline import BadKline
from app.sockets.stream_commands import METHODS, CommandError, accepted, parse_command, parse_target
from infra.binance.stream_order import is_newer


def run_stream_frame(data: bytes) -> bool:
    """Decode a frame of any stream; its event is passed on unchanged, so it must be complete JSON text."""
    try:
        frame = decode_any(data)
    except BadKline:
        return False
    if isinstance(frame, StreamFrame):
        said = json.loads(data.decode(errors="replace"), strict=False)
        assert frame.stream == said["stream"]
        assert json.loads(frame.payload.decode(), strict=False) == said["data"]
        is_newer(frame.stream, frame.payload, frame.payload)
        is_newer(frame.stream, frame.payload, b'{"E":1}')
    return True


def run_stream_command(data: bytes) -> bool:
    """Parse a client's control message."""
    text = data.decode(errors="replace")
    try:
        command = parse_command(text)
    except CommandError as error:
        json.loads(error.answer())
        return False
    said = json.loads(text)
    assert command.method in METHODS
    assert (command.method, command.id) == (said["method"], said.get("id"))
    assert type(command.id) is type(said.get("id"))
    assert json.loads(accepted(command.id)) == {"result": None, "id": said.get("id")}
    if command.streams:
        assert list(command.streams) == said["params"]
    return True


def run_stream_target(data: bytes) -> bool:
    """Parse the path and query of a handshake."""
    target = data.decode("latin-1")
    address = parse_target(target)
    if address is None:
        return False
    assert all(address.streams)
    assert ("stream" if address.is_combined else "ws") in unquote(target)
    return True


def frame_seeds() -> list[bytes]:
    """Frames of each kind of stream whose events the node orders."""
    events: dict[str, object] = {
        "btcusdt@kline_1m": {"e": "kline", "E": 2, "s": "BTCUSDT", "k": {"t": 1, "n": 2, "x": False, "c": "1.10"}},
        "btcusdt@depth": {"e": "depthUpdate", "E": 1, "u": 7, "pu": 3, "b": [["1.0", "2"]], "a": []},
        "btcusdt@aggTrade": {"e": "aggTrade", "E": 1, "a": 5, "p": "1.0", "m": True},
        "btcusdt@trade": {"e": "trade", "E": 1, "t": 5, "p": "1.0", "X": "MARKET"},
        "!markPrice@arr": [{"e": "markPriceUpdate", "E": 5, "s": "币安人生USDT", "p": "1.0"}],
    }
    made = [{"stream": stream, "data": event} for stream, event in events.items()]
    return [json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode() for frame in made]


def command_seeds() -> list[bytes]:
    """One control message of each method."""
    return [
        b'{"method":"SUBSCRIBE","params":["btcusdt@aggTrade","ethusdt@depth5@100ms"],"id":1}',
        b'{"method":"UNSUBSCRIBE","params":["btcusdt@aggTrade"],"id":"abc"}',
        b'{"method":"LIST_SUBSCRIPTIONS","id":3}',
        b'{"method":"SET_PROPERTY","params":["combined",true],"id":null}',
        b'{"method":"GET_PROPERTY","params":["combined"],"id":18446744073709551615}',
    ]


def target_seeds() -> list[bytes]:
    """Paths and queries of handshakes."""
    return [
        b"/ws",
        b"/ws/btcusdt@kline_1m/ethusdt@trade",
        b"/market/ws/0",
        b"/stream?streams=btcusdt@depth/!ticker@arr",
        b"/private/stream?streams=&listenKey=x",
        b"/stream?streams=btcusdt%40trade%2Fethusdt%40trade",
    ]
