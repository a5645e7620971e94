"""One stream that the node serves, with the clients subscribed to it."""

from typing import Protocol

from app.binance.stream_name import StreamName, is_closing, is_uncertain
from app.sockets.stream_client import Client
from app.sockets.stream_frames import combined, text_frame


class Sending(Protocol):
    """What a channel needs of the StreamServer."""

    frames_out: int
    conflated: int

    def batch(self, client: Client) -> None:
        """Schedule `client` to be flushed within GAP_S."""
        ...

    def cut(self, client: Client, reason: str) -> None:
        """Mark a client that is too slow; `end_doomed` closes its connection."""
        ...

    def end_doomed(self) -> None:
        """Close the connections of the clients that `cut` marked."""
        ...


class Channel:
    """One stream, with the clients that want its events plain and those that want them in the combined form."""

    __slots__ = (
        "_fanout", "charged", "is_kline", "is_provisional", "is_state", "is_uncertain", "name", "plain", "stream",
        "wrapped",
    )  # fmt: skip

    def __init__(self, fanout: Sending, name: StreamName, *, is_provisional: bool) -> None:
        self.name = name
        self.stream = name.name
        self.is_state = name.is_state
        self.is_kline = bool(name.interval)
        self.is_uncertain = is_uncertain(name)
        self.is_provisional = is_provisional
        """Whether the exchange's list of symbols had not been read yet when the stream was subscribed."""
        self.plain: dict[Client, None] = {}
        self.wrapped: dict[Client, None] = {}
        self.charged: Client | None = None
        """The client whose share the stream counts towards."""
        self._fanout = fanout

    @property
    def listeners(self) -> int:
        """How many clients are subscribed to the stream."""
        return len(self.plain) + len(self.wrapped)

    def deliver(self, stream: str, payload: bytes) -> None:
        """Send an event to every client; the frame is made once for each form."""
        if self.plain:
            self._spread(self.plain, text_frame(payload), payload)
        if self.wrapped:
            self._spread(self.wrapped, text_frame(combined(stream, payload)), payload)
        self._fanout.end_doomed()

    def _spread(self, clients: dict[Client, None], frame: bytes, payload: bytes) -> None:
        held = 0
        for client in clients:
            if client.is_flowing:
                if not client.batch:
                    self._fanout.batch(client)
                client.batch.append(frame)
            else:
                held += 1
                self._hold(client, frame, payload)
        self._fanout.frames_out += len(clients) - held

    def _hold(self, client: Client, frame: bytes, payload: bytes) -> None:
        outbox = client.outbox
        conflated = outbox.conflated
        if not self.is_state:
            outbox.put(frame)
        elif self.is_kline and is_closing(payload):
            outbox.put_last(self.stream, frame)
        else:
            outbox.put_state(self.stream, frame)
        self._fanout.conflated += outbox.conflated - conflated
        if outbox.is_over:
            self._fanout.cut(client, client.too_slow())
