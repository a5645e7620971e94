"""The sockets we serve: who is connected, which frame goes to whom, and when a connection has to end."""

from collections.abc import Callable, Iterable
from typing import Final

from app.http.stream_batch import Batches
from app.http.stream_client import POLICY, Client, Wire
from app.http.stream_frames import combined, text_frame
from app.ports import Clock, StreamHub, StreamsFull
from app.wire.stream_name import is_closing, parse

LIFE_S: Final = 24 * 3_600  # of a connection, as at the exchange
PING_EVERY_S: Final = 180
PONG_S_MAX: Final = 600
STALL_S_MAX: Final = 60  # a client that reads nothing for so long while frames wait for it is gone, or as good as gone
SWEEP_S: Final = 1.0  # between two looks at all connections
GOING_AWAY: Final = 1001
SERVICE_RESTART: Final = 1012


class Channel:
    """One stream and the clients that want its frames, plain or wrapped."""

    __slots__ = ("_server", "is_kline", "is_state", "plain", "stream", "wrapped")

    def __init__(self, server: "StreamServer", stream: str) -> None:
        name = parse(stream)
        self.stream = stream
        self.is_state = name is not None and name.is_state
        self.is_kline = name is not None and bool(name.interval)
        self.plain: dict[Client, None] = {}
        self.wrapped: dict[Client, None] = {}
        self._server = server

    def deliver(self, stream: str, payload: bytes) -> None:
        """Send an event to everybody; its frame is made once."""
        if self.plain:
            self._spread(self.plain, text_frame(payload), payload)
        if self.wrapped:
            self._spread(self.wrapped, text_frame(combined(stream, payload)), payload)
        self._server.end_doomed()

    def _spread(self, clients: dict[Client, None], frame: bytes, payload: bytes) -> None:
        held = 0
        for client in clients:
            if client.is_flowing:
                if not client.batch:
                    self._server.batch(client)
                client.batch.append(frame)
            else:
                held += 1
                self._hold(client, frame, payload)
        self._server.frames_out += len(clients) - held

    def _hold(self, client: Client, frame: bytes, payload: bytes) -> None:
        outbox = client.outbox
        conflated = outbox.conflated
        if not self.is_state:
            outbox.put(frame)
        elif self.is_kline and is_closing(payload):
            outbox.put_last(self.stream, frame)
        else:
            outbox.put_state(self.stream, frame)
        self._server.conflated += outbox.conflated - conflated
        if outbox.is_over:
            self._server.cut(client, client.too_slow())


class StreamServer:
    """All clients of this process."""

    def __init__(
        self,
        hub: StreamHub,
        clock: Clock,
        *,
        clients_max: int,
        queue_bytes_max: int,
        batches: Batches | None = None,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._clients_max = clients_max
        self._queue_bytes_max = queue_bytes_max
        self._channels: dict[str, Channel] = {}
        self.joined: Callable[[str], None] = lambda stream: None
        """Told of each stream that a client hears from now on."""
        self._batches = batches or Batches()
        self.batch = self._batches.add
        """See Fanout."""
        self._doomed: list[tuple[Client, str]] = []
        self.clients: dict[Client, None] = {}
        self.frames_out = 0
        """Events sent; of slow clients also the answers that had to wait with them."""
        self.conflated = 0
        self.cut_total = 0

    @property
    def is_full(self) -> bool:
        """Whether nobody more may connect."""
        return len(self.clients) >= self._clients_max

    @property
    def streams(self) -> int:
        """Different streams that clients want."""
        return len(self._channels)

    @property
    def waiting_bytes(self) -> int:
        """What waits for slow clients."""
        return sum(client.outbox.bytes for client in self.clients)

    def connect(self, wire: Wire) -> Client:
        """A client came."""
        client = Client(wire, self, self._clock.now_ms, self._queue_bytes_max)
        self.clients[client] = None
        return client

    def disconnect(self, client: Client) -> None:
        """It went."""
        client.leave()
        self.clients.pop(client, None)

    # --- for clients --------------------------------------------------------------------------------------------

    def enter(self, client: Client, streams: Iterable[str]) -> None:
        """See Fanout."""
        entered = []
        try:
            for stream in streams:
                self._enter(client, stream)
                entered.append(stream)
        except StreamsFull:
            self.exit(client, entered)
            raise

    def exit(self, client: Client, streams: Iterable[str]) -> None:
        """See Fanout."""
        for stream in streams:
            channel = self._channels.get(stream)
            if channel is None:
                continue
            channel.plain.pop(client, None)
            channel.wrapped.pop(client, None)
            if not channel.plain and not channel.wrapped:
                del self._channels[stream]
                self._hub.leave(stream, channel.deliver)

    def cut(self, client: Client, reason: str) -> None:
        """See Fanout."""
        self._doomed.append((client, reason))

    def sent_late(self, frames: int) -> None:
        """See Fanout."""
        self.frames_out += frames

    def end_doomed(self) -> None:
        """Cut those who did not keep up; not to be called while they are being walked through."""
        while self._doomed:
            client, reason = self._doomed.pop()
            if not client.is_over:
                self.cut_total += 1
                client.end(POLICY, reason)

    def _enter(self, client: Client, stream: str) -> None:
        channel = self._channels.get(stream)
        if channel is None:
            if parse(stream) is None:
                return  # acknowledged and silent, as at the exchange
            channel = Channel(self, stream)
            self._hub.join(stream, channel.deliver)
            self._channels[stream] = channel
        (channel.wrapped if client.is_combined else channel.plain)[client] = None
        self.joined(stream)

    # --- time -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ping, and end what has to end, for ever."""
        while True:
            await self._clock.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """Look at every connection once."""
        now_ms = self._clock.now_ms()
        for client in tuple(self.clients):
            if not client.is_over:
                self._look_at(client, now_ms)
        self.end_doomed()

    def _look_at(self, client: Client, now_ms: int) -> None:
        if now_ms - client.opened_ms >= LIFE_S * 1_000:
            client.end(GOING_AWAY, "A connection lives 24 hours; connect again")
        elif now_ms - client.ponged_ms >= PONG_S_MAX * 1_000:
            client.end(POLICY, "No pong came")
        elif self._is_stuck(client, now_ms):
            self.cut(client, f"Too slow: nothing read for {STALL_S_MAX} s")
        elif now_ms - client.pinged_ms >= PING_EVERY_S * 1_000:
            client.pinged_ms = now_ms
            client.wire.ping(b"%d" % now_ms)

    def _is_stuck(self, client: Client, now_ms: int) -> bool:
        if client.is_flowing:
            return False
        waiting_bytes = client.wire.waiting_bytes()
        if waiting_bytes < client.stuck_bytes:
            client.moved_ms = now_ms
        client.stuck_bytes = waiting_bytes
        return now_ms - client.moved_ms >= STALL_S_MAX * 1_000
