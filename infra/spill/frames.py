"""The bytes of messages in a segment: length, checksum and content of each, so that a torn end is seen."""

import zlib
from collections.abc import Iterable
from struct import Struct
from typing import Final

import msgspec

from app.ports.publishing import Message

MAGIC: Final = b"KNSPILL1"
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""The largest that a NATS server can be set to take; a greater length is no frame of ours."""

_HEAD: Final = Struct("<II")
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Message).decode


def packed(messages: Iterable[Message]) -> bytes:
    """The frames of `messages`, one behind the other."""
    parts: list[bytes] = []
    for message in messages:
        content = _encode(message)
        parts += (_HEAD.pack(len(content), zlib.crc32(content)), content)
    return b"".join(parts)


def unpacked(data: bytes) -> tuple[list[Message], int]:
    """The messages of the whole frames that `data` begins with, and how many bytes these take.

    What follows is a frame that is not whole, or is damaged.
    """
    messages: list[Message] = []
    at, view = 0, memoryview(data)
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        content = view[at + _HEAD.size : at + _HEAD.size + length]
        if length > FRAME_BYTES_MAX or len(content) < length or zlib.crc32(content) != checksum:
            break
        try:
            messages.append(_decode(content))
        except msgspec.MsgspecError:
            break
        at += _HEAD.size + length
    return messages, at


def frame_bytes(head: bytes) -> int:
    """The bytes of the frame that begins with `head`; 0 if it is too short to tell, or no frame of ours."""
    if len(head) < _HEAD.size:
        return 0
    length = int(_HEAD.unpack_from(head)[0])
    return _HEAD.size + length if length <= FRAME_BYTES_MAX else 0
