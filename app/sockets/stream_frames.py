"""The encoding of websocket frames that a server sends: unmasked and unfragmented, so that all clients share them."""

from typing import Final

_TEXT: Final = 0x81  # whole message, text
_SHORT_MAX: Final = 125
_MEDIUM_MAX: Final = 0xFFFF


def text_frame(payload: bytes) -> bytes:
    """A text message as one frame."""
    length = len(payload)
    if length <= _SHORT_MAX:
        return bytes((_TEXT, length)) + payload
    if length <= _MEDIUM_MAX:
        return bytes((_TEXT, 126, length >> 8, length & 0xFF)) + payload
    return bytes((_TEXT, 127)) + length.to_bytes(8, "big") + payload


def combined(stream: str, payload: bytes) -> bytes:
    """An event in the combined form of `/stream`. Stream names need no escaping (app/binance/stream_name.py)."""
    return b'{"stream":"%b","data":%b}' % (stream.encode(), payload)
