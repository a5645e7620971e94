"""The server side of the node's sockets: connected clients, their subscriptions, and the end of connections."""

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

LIFE_S: Final = 24 * 3_600  # of a connection, as at the exchange (binance-facts section 5.2)
PING_EVERY_S: Final = 180
PONG_S_MAX: Final = 600
STALL_S_MAX: Final = 60  # a client that reads nothing for so long while frames wait is cut
SWEEP_S: Final = 1.0  # between two checks of all connections
LOOK_S: Final = 2.0  # between two checks whether to read the exchange's list of symbols again
LOOK_S_MAX: Final = 600  # after a subscription to an unlisted symbol; from then on the regular symbol sync has to do
PROCESS_STREAMS_MIN: Final = 2_048  # streams for each process, however many processes: two clients' STREAMS_MAX
UNCERTAIN_MAX: Final = 400  # streams whose names no list can confirm, such as coin-margined ones: two sockets upstream
GOING_AWAY: Final = 1001
SERVICE_RESTART: Final = 1012


def streams_of(workers: int) -> int:
    """How many different streams the clients of one process may have together, when there are `workers` processes."""
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
    """All socket clients of this process, and the channels that deliver streams to them; implements Fanout."""

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
        """By client: the streams it was the first to subscribe to. Later subscribers are not charged for them."""
        self._lost: dict[Client, list[str]] = {}
        self._batches = batches or Batches()
        self.batch = self._batches.add
        """Schedule a client to be flushed within GAP_S."""
        self._doomed: list[tuple[Client, str]] = []
        self.clients: dict[Client, None] = {}
        self.frames_out = 0
        """Events sent to clients, including answers that waited in the outbox of a slow client."""
        self.conflated = 0
        self.cut_total = 0

    @property
    def is_full(self) -> bool:
        """Whether as many clients are connected as may be."""
        return len(self.clients) >= self._clients_max

    @property
    def streams(self) -> int:
        """How many different streams the clients are subscribed to, without silent names."""
        return len(self._channels)

    @property
    def waiting_bytes(self) -> int:
        """The bytes in the outboxes of slow clients."""
        return sum(client.outbox.bytes for client in self.clients)

    def connect(self, wire: Wire) -> Client:
        """Register a client that has just connected."""
        client = Client(wire, self, self._clock.now_ms, self._queue_bytes_max)
        self.clients[client] = None
        return client

    def disconnect(self, client: Client) -> None:
        """The client disconnected; free its subscriptions."""
        client.leave()
        self.clients.pop(client, None)

    # --- for clients --------------------------------------------------------------------------------------------

    def enter(self, client: Client, streams: Iterable[str]) -> None:
        """Subscribe a client to streams: to all of them, or to none and raise StreamsFull."""
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
        """Unsubscribe a client from streams; a stream without clients leaves the hub."""
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
        """Mark a client that is too slow; `end_doomed` closes its connection."""
        self._doomed.append((client, reason))

    def sent_late(self, frames: int) -> None:
        """Count frames that were sent after waiting in an outbox."""
        self.frames_out += frames

    def end_doomed(self) -> None:
        """Close the connections of the clients that `cut` marked. Never call it while iterating over clients."""
        while self._doomed:
            client, reason = self._doomed.pop()
            if not client.is_over:
                self.cut_total += 1
                client.end(POLICY, reason)

    def listed_changed(self) -> None:
        """The exchange's list of symbols was read: start streams it has now, and silence those it does not have."""
        for channel in [channel for channel in self._channels.values() if channel.is_provisional]:
            channel.is_provisional = False
            if self._standing(channel.name) is False:
                for client in (*channel.plain, *channel.wrapped):
                    self._move(client, channel.stream)
        for client, stream in self._silent.found(lambda name: self._standing(name) is True):
            self._move(client, stream)
        self._tell_losers()

    def _move(self, client: Client, stream: str) -> None:
        """Subscribe a client again, to a stream that has begun to exist or has turned out not to exist."""
        self.exit(client, (stream,))
        try:
            self._enter(client, stream)
        except StreamsFull:
            self._lose(client, stream)

    def _enter(self, client: Client, stream: str) -> None:
        """Subscribe a client to one stream, or keep it as a silent name. Raises StreamsFull."""
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
        """Make the channel of a stream that has no client yet, and join the hub. Raises StreamsFull."""
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
        """Take a stream from the client with the most streams, if possible one that no other client has.

        If another client has it too, the stream stays open and its charge passes to that client. Raises StreamsFull.
        """
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
        """Count a stream towards the share of `client` instead of the client charged before; None: towards nobody's."""
        if channel.charged is not None:
            self._charged.discard(channel.charged, channel.stream)
        channel.charged = client
        if client is not None:
            self._charged.add(client, channel.stream)

    def _wait(self, client: Client, stream: str, name: StreamName | None) -> None:
        """Keep a stream as a silent name, as the exchange does, until its symbol is listed. Raises StreamsFull."""
        gone = self._silent.add(client, stream, name)
        if gone is not None:
            self._lose(*gone)
        if name is not None:
            self._looks_until_ms = self._clock.now_ms() + LOOK_S_MAX * 1_000

    def _standing(self, name: StreamName) -> bool | None:
        """Whether the exchange has a stream; None while its list of symbols has not been read yet."""
        if is_uncertain(name) or not name.listed:
            return True
        known = [self._listed.is_listed(symbol) for symbol in name.listed]
        return True if True in known else None if None in known else False

    # --- time -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Call `sweep` every SWEEP_S, for ever."""
        while True:
            await self._clock.sleep(SWEEP_S)
            self.sweep()

    async def look_for_listings(self) -> None:
        """Have the exchange's list of symbols read again while a client waits for an unlisted symbol, for ever."""
        while True:
            await self._clock.sleep(LOOK_S)
            symbol = self._silent.wanted()
            if symbol is not None and self._clock.now_ms() < self._looks_until_ms:
                await self._listed.learn(symbol)

    def sweep(self) -> None:
        """Check each client: ping it, or end its connection for age, a missing pong or a stall."""
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
