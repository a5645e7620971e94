"""The sockets we serve: who is connected, which frame goes to whom, and when a connection has to end."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final, Protocol

from app.binance.stream_name import StreamName, is_uncertain, parse
from app.market.stream_hub import STREAMS_MAX as HUB_STREAMS_MAX
from app.market.stream_hub import Hub
from app.ports.clock import Clock
from app.ports.streams import StreamsFull
from app.sockets.stream_batch import Batches
from app.sockets.stream_channel import Channel
from app.sockets.stream_client import POLICY, Client, Wire
from app.sockets.stream_commands import CommandError
from app.sockets.stream_shares import Shares
from app.sockets.stream_silent import SilentNames

LIFE_S: Final = 24 * 3_600  # of a connection, as at the exchange
PING_EVERY_S: Final = 180
PONG_S_MAX: Final = 600
STALL_S_MAX: Final = 60  # a client that reads nothing for so long while frames wait for it is gone, or as good as gone
SWEEP_S: Final = 1.0  # between two looks at all connections
LOOK_S: Final = 2.0  # between two looks whether the exchange's list should be read anew
LOOK_S_MAX: Final = 600  # after a name was subscribed that it did not have; then the regular reading has to do
PROCESS_STREAMS_MIN: Final = 2_048  # of the streams of all, however many processes there are: twice one client's
UNCERTAIN_MAX: Final = 400  # streams of names that no list has, such as coin-margined ones: two sockets to the exchange
GOING_AWAY: Final = 1001
SERVICE_RESTART: Final = 1012


def streams_of(workers: int) -> int:
    """How many streams the clients of one of so many processes may have together."""
    return max(PROCESS_STREAMS_MIN, HUB_STREAMS_MAX // workers)


class Listed(Protocol):
    """Knows which names the exchange lists, in upper case."""

    def is_listed(self, name: str) -> bool | None:
        """Whether a symbol or pair is listed; None while the list was never read."""
        ...

    async def learn(self, name: str) -> bool:
        """Whether a symbol is listed by now; the list is read again if it is not new."""
        ...


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the clients of one process may have."""

    clients_max: int
    queue_bytes_max: int
    """Bytes that wait for one client."""
    streams_max: int = HUB_STREAMS_MAX
    """Different streams of all clients together."""


class StreamServer:
    """All clients of this process."""

    def __init__(
        self,
        hub: Hub,
        clock: Clock,
        limits: StreamLimits,
        listed: Listed,
        joined: Callable[[str], None],
        batches: Batches | None = None,
    ) -> None:
        """`joined` is called with each stream that a client receives from now on."""
        self._hub = hub
        self._clock = clock
        self._clients_max = limits.clients_max
        self._queue_bytes_max = limits.queue_bytes_max
        self._streams_max = limits.streams_max
        self._listed = listed
        self._joined = joined
        self._channels: dict[str, Channel] = {}
        self._silent = SilentNames()
        self._looks_until_ms = 0
        self._uncertain = 0
        self._charged = Shares[Client]()
        """By client: the streams that it was the first to hear. Whoever hears them too has them for nothing."""
        self._lost: dict[Client, list[str]] = {}
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
        finally:
            self._tell_losers()

    def exit(self, client: Client, streams: Iterable[str]) -> None:
        """See Fanout."""
        for stream in streams:
            channel = self._channels.get(stream)
            if channel is None:
                self._silent.discard(client, stream)
                continue
            channel.plain.pop(client, None)
            channel.wrapped.pop(client, None)
            if channel.charged is client:
                self._charge(channel, next(chain(channel.plain, channel.wrapped), None))
            if not channel.plain and not channel.wrapped:
                del self._channels[stream]
                self._uncertain -= channel.is_uncertain
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

    def listed_changed(self) -> None:
        """The exchange's list was read: deliver what it has by now, and no longer what it never had."""
        for channel in [channel for channel in self._channels.values() if channel.is_provisional]:
            channel.is_provisional = False
            if self._standing(channel.name) is False:
                for client in (*channel.plain, *channel.wrapped):
                    self._move(client, channel.stream)
        for client, stream in self._silent.found(lambda name: self._standing(name) is True):
            self._move(client, stream)
        self._tell_losers()

    def _move(self, client: Client, stream: str) -> None:
        """A client's stream has begun to exist, or does not exist after all."""
        self.exit(client, (stream,))
        try:
            self._enter(client, stream)
        except StreamsFull:
            self._lose(client, stream)

    def _enter(self, client: Client, stream: str) -> None:
        """Have a client hear a stream. Raises StreamsFull."""
        channel = self._channels.get(stream)
        if channel is None:
            name = parse(stream)
            standing = False if name is None else self._standing(name)
            if name is None or standing is False:
                self._wait(client, stream, name)
                return
            channel = self._open(client, name, is_provisional=standing is None)
        (channel.wrapped if client.is_combined else channel.plain)[client] = None
        self._joined(stream)

    def _open(self, client: Client, name: StreamName, *, is_provisional: bool) -> Channel:
        """The channel of a stream that nobody hears yet. Raises StreamsFull."""
        channel = Channel(self, name, is_provisional=is_provisional)
        if channel.is_uncertain and self._uncertain >= UNCERTAIN_MAX:
            raise StreamsFull("so many streams of symbols that no list has are subscribed already")
        while min(self._hub.room, self._streams_max - len(self._channels)) < 1:
            self._make_room(client)
        self._hub.join(name.name, channel.deliver)
        self._channels[name.name] = channel
        self._uncertain += channel.is_uncertain
        self._charge(channel, client)
        return channel

    def _make_room(self, client: Client) -> None:
        """Take a stream from the client who has most; from one that others hear too its share passes to them."""
        giver = self._charged.giver_to(client)
        if giver is None:
            raise StreamsFull("the node has all the streams it may have; unsubscribe from others first")
        theirs = self._charged.of(giver)
        alone = (stream for stream in reversed(theirs) if self._channels[stream].listeners == 1)
        stream = next(alone, None) or next(reversed(theirs))
        self.exit(giver, (stream,))
        self._lose(giver, stream)

    def _lose(self, client: Client, stream: str) -> None:
        client.streams.pop(stream, None)
        self._lost.setdefault(client, []).append(stream)

    def _tell_losers(self) -> None:
        lost, self._lost = self._lost, {}
        for client, streams in lost.items():
            text = f"Too many subscriptions: others with fewer need the room of {', '.join(streams)}"
            client.tell(CommandError(4, text).answer())

    def _charge(self, channel: Channel, client: Client | None) -> None:
        """Have `client` be the one to whose share a stream counts."""
        if channel.charged is not None:
            self._charged.discard(channel.charged, channel.stream)
        channel.charged = client
        if client is not None:
            self._charged.add(client, channel.stream)

    def _wait(self, client: Client, stream: str, name: StreamName | None) -> None:
        """Acknowledged and silent, as at the exchange, until a symbol of the name is listed. Raises StreamsFull."""
        gone = self._silent.add(client, stream, name)
        if gone is not None:
            self._lose(*gone)
        if name is not None:
            self._looks_until_ms = self._clock.now_ms() + LOOK_S_MAX * 1_000

    def _standing(self, name: StreamName) -> bool | None:
        """Whether the exchange has a stream; None while nobody can say."""
        if is_uncertain(name) or not name.listed:
            return True
        known = [self._listed.is_listed(symbol) for symbol in name.listed]
        return True if True in known else None if None in known else False

    # --- time -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ping, and end what has to end, for ever."""
        while True:
            await self._clock.sleep(SWEEP_S)
            self.sweep()

    async def look_for_listings(self) -> None:
        """Have the exchange's list read anew while somebody waits for a symbol that it did not have, for ever."""
        while True:
            await self._clock.sleep(LOOK_S)
            symbol = self._silent.wanted()
            if symbol is not None and self._clock.now_ms() < self._looks_until_ms:
                await self._listed.learn(symbol)

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
