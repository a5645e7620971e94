"""A websocket connection that cuts whole messages out of the received bytes itself; `websockets` does all the rest.

The library parses a frame in a generator, makes an object of it, and hands it to a reader through a queue and a future.
Nearly every frame of an exchange is a whole message in its usual form, which takes a comparison and a slice.
"""

import asyncio
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.protocol import Event, State

MESSAGES_BUFFERED_MAX: Final = 256  # not yet taken; when one read has brought more, reading pauses
PARTS_MAX: Final = 4_096  # of one message: empty parts do not count against its limit of size
_WHOLE: Final = (0x81, 0x82)  # the first byte of a frame that is a whole message, of text or binary
_LENGTH_16: Final = 126  # the length is in the next two bytes
_LENGTH_64: Final = 127  # the length is in the next eight bytes
_MASKED: Final = 0x80  # added to the length of a masked frame, which a server must not send
_OPCODE: Final = 0x0F  # its bits in the first byte
_OPCODES: Final = frozenset(int(each) for each in Opcode)
_HEAD_END: Final = b"\r\n\r\n"


class MessageConnection(ClientConnection):
    """The library's connection, from which messages are taken by `messages` instead of `recv`.

    The library gets every byte of the handshake, every frame that is not a whole message, and everything from a frame
    on that is too long or masked: it answers pings and close frames, and ends connections that break the protocol.
    """

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        assert protocol.max_message_size is not None, "messages have a limit"
        self._bytes_max = protocol.max_message_size
        self._rest = bytearray()
        """Received and not processed: an incomplete frame; during the handshake what may be the begin of its end."""
        self._frame_bytes = 0
        """The length of the incomplete frame, as far as it is known."""
        self._parts: list[bytes] = []
        self._messages: list[bytes] = []
        self._has_news = asyncio.Event()
        self._is_held = False

    async def messages(self) -> list[bytes]:
        """The messages received since the last call, at least one. Raises ConnectionClosed when there will be none."""
        while not self._messages:
            if self.connection_lost_waiter.done():
                raise self.close_exc
            self._has_news.clear()
            await self._has_news.wait()
        found, self._messages = self._messages, []
        if self._is_held:
            self._is_held = False
            self.transport.resume_reading()
        return found

    def data_received(self, data: bytes) -> None:
        """Take whole messages out of `data`, and pass everything else to the library."""
        if self.response is None:
            data = self._shake_hands(data)
        if data and self.protocol.state is State.OPEN:
            data = self._cut(data)
        elif data and self._rest:  # closing in the middle of a frame
            data = bytes(self._rest) + data
            self._rest.clear()
        if data:
            super().data_received(data)

    def process_event(self, event: Event) -> None:
        """Join the parts of a message, and drop what arrives once closing has begun; all else is the library's."""
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            super().process_event(event)
            return
        if self.protocol.state is not State.OPEN:
            return
        self._parts.append(bytes(event.data))
        if event.fin:
            self._messages.append(b"".join(self._parts))
            self._parts.clear()
        elif len(self._parts) >= PARTS_MAX:
            self.protocol.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {PARTS_MAX} parts of a message")
            self.send_data()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended: `messages` returns what is left, then raises."""
        super().connection_lost(exc)
        self._has_news.set()

    def _shake_hands(self, data: bytes) -> bytes:
        """Pass the handshake's response to the library, up to the end of its head; returns what follows."""
        before = len(self._rest)
        self._rest += data
        found = self._rest.find(_HEAD_END)
        if found < 0:
            self._rest = self._rest[1 - len(_HEAD_END) :]
            end = len(data)
        else:
            self._rest.clear()
            end = found + len(_HEAD_END) - before
        super().data_received(data[:end])
        return data[end:]

    def _cut(self, data: bytes) -> bytes:
        """Take the messages out of `data`, up to an incomplete frame; returns what the library has to reject."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._frame_bytes:
                return b""
            data = bytes(self._rest)
            self._rest.clear()
        library, messages = self.protocol, self._messages
        room, is_parted = self._room()
        self._frame_bytes = 0
        at, end = 0, len(data)
        while end - at >= 2:
            first, length = data[at], data[at + 1]
            if length >= _MASKED or (first not in _WHOLE and first & _OPCODE not in _OPCODES):
                return self._rejected(data[at:])
            begin = at + 2
            if length == _LENGTH_16:
                begin = at + 4
                if begin > end:
                    break
                length = data[at + 2] << 8 | data[at + 3]
            elif length == _LENGTH_64:
                begin = at + 10
                if begin > end:
                    break
                length = int.from_bytes(data[at + 2 : begin])
            if length > room:
                return self._rejected(data[at:])
            after = begin + length
            if after > end:
                self._frame_bytes = after - at
                break
            if first in _WHOLE and not is_parted:
                messages.append(data[begin:after])
            else:
                super().data_received(data[at:after])
                if library.state is not State.OPEN:
                    return self._rejected(data[after:])
                room, is_parted = self._room()
            at = after
        self._rest += data[at:]
        self._tell()
        return b""

    def _room(self) -> tuple[int, bool]:
        """The most bytes that the next frame may have, and whether a message has come in part."""
        begun = self.protocol.current_size
        return (self._bytes_max, False) if begun is None else (self._bytes_max - begun, True)

    def _rejected(self, data: bytes) -> bytes:
        self._tell()
        return data

    def _tell(self) -> None:
        if self._messages:
            self._has_news.set()
            if len(self._messages) > MESSAGES_BUFFERED_MAX and not self._is_held:
                self._is_held = True
                self.transport.pause_reading()
