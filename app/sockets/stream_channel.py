"""One stream that we serve, and who hears it."""

from typing import Protocol

from app.binance.stream_name import StreamName, is_closing, is_uncertain
from app.sockets.stream_client import Client
from app.sockets.stream_frames import combined, text_frame


class Sending(Protocol):
    """What a channel needs of the server."""

    frames_out: int
    conflated: int

    def batch(self, client: Client) -> None:
        """See Fanout."""
        ...

    def cut(self, client: Client, reason: str) -> None:
        """See Fanout."""
        ...

    def end_doomed(self) -> None:
        """Cut those who did not keep up."""
        ...


class Channel:
    """One stream and the clients that want its frames, plain or wrapped."""

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
        """Whether the exchange's list was never read when it was subscribed."""
        self.plain: dict[Client, None] = {}
        self.wrapped: dict[Client, None] = {}
        self.charged: Client | None = None
        """The client to whose share it counts."""
        self._fanout = fanout

    @property
    def listeners(self) -> int:
        """How many clients hear it."""
        return len(self.plain) + len(self.wrapped)

    def deliver(self, stream: str, payload: bytes) -> None:
        """Send an event to everybody; its frame is made once."""
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
