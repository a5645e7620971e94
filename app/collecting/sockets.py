"""The sockets of one exchange: how many, when they are opened, replaced and given up."""

from collections.abc import Callable, Iterable, Set
from random import Random
from typing import Final, NamedTuple, Protocol

from app.collecting.effects import Close, Open, Send
from app.collecting.feed_rules import NEVER_MS
from app.collecting.outlet import Outlet
from app.collecting.socket_place import Place, Socket
from app.collecting.subscriptions import Subscriptions
from app.domain.gap_reason import GapReason
from app.domain.venue import Channel
from app.ports.venue import Venue

OPEN_MS: Final = 20_000
"""A connection that is neither open nor refused after so long is given up."""
OVERLAP_MS: Final = 60_000
"""How long a new socket waits for channels that seldom speak before it replaces the old one."""
ROTATE_AGAIN_MS: Final = 30_000
"""The pause before another attempt to replace a socket."""
CHANNEL_TRIES: Final = 3
TRIES_WITHIN_MS: Final = 600_000
"""A channel that is subscribed again more often than so within ten minutes has a bad socket: that is replaced."""
_LOOK_MS: Final = 500  # how often a new socket is looked at while it waits to take over


class Carried(Protocol):
    """What the sockets ask of the session."""

    def cut(self, socket: int, channels: Iterable[Channel], reason: GapReason, is_replaced: bool, now_ms: int) -> None:
        """`socket` brings nothing more; `is_replaced`: another one already carries these channels."""
        ...

    def delivers(self, channel: Channel, socket: int) -> bool:
        """Whether what `socket` brings of `channel` is enough to close the socket before it."""
        ...


class SocketStatus(NamedTuple):
    """How a socket stands; `channels` are those acknowledged, of `wanted`."""

    socket: int
    route: str
    is_open: bool
    since_ms: int
    channels: int
    wanted: int


class Sockets:
    """All sockets of one exchange."""

    def __init__(
        self, venue: Venue, carried: Carried, outlet: Outlet, next_id: Callable[[], int], chance: Random
    ) -> None:
        self._venue = venue
        self._limits = venue.limits
        self._carried = carried
        self._outlet = outlet
        self._next_id = next_id
        self._chance = chance
        self._places: list[Place] = []
        self._place_of: dict[Channel, Place] = {}
        self._sockets: dict[int, Socket] = {}
        self._number = 0
        self._connect_ms = 0

    def follow(self, channels: Set[Channel], now_ms: int) -> None:
        """Carry exactly these channels."""
        for channel in sorted(self._place_of.keys() - channels):
            place = self._place_of.pop(channel)
            del place.names[channel.name]
            place.refusals.pop(channel.name, None)
            for socket in place.sockets():
                socket.subscriptions.remove(channel.name)
        for place in [place for place in self._places if not place.names]:
            self._places.remove(place)
            for socket in place.sockets():
                self._drop(socket)
        for channel in sorted(channels - self._place_of.keys()):
            place = self._place_with_room(channel.route)
            self._place_of[channel] = place
            place.names[channel.name] = None
            for socket in place.sockets():
                socket.subscriptions.add([channel.name])
        self.tick(now_ms)

    def opened(self, number: int, now_ms: int) -> None:
        """The socket is open: greet, then subscribe."""
        socket = self._sockets.get(number)
        if socket is None:
            self._outlet.effects.append(Close(number))
            return
        socket.is_open = True
        socket.age_ms = socket.last_frame_ms = socket.last_sent_ms = now_ms
        if socket is socket.place.current:
            socket.place.rotate_ms = self._rotate_ms(now_ms)
        greeting = self._venue.greeting(self._next_id())
        if greeting is not None:
            self._outlet.effects.append(Send(number, greeting))
        socket.subscriptions.add(socket.place.names)
        self._send(socket, now_ms)

    def closed(self, number: int, now_ms: int) -> None:
        """The socket is gone, or could not be opened."""
        socket = self._sockets.pop(number, None)
        if socket is not None:
            self._lost(socket, GapReason.DISCONNECTED, now_ms)

    def heard(self, number: int, now_ms: int) -> Socket | None:
        """A frame came by this socket; None: it is none of ours any more."""
        socket = self._sockets.get(number)
        if socket is not None:
            socket.last_frame_ms = now_ms
        return socket

    def useful(self, socket: Socket) -> None:
        """The socket brought data: its exchange works, and the next pause is the shortest again."""
        socket.is_useful = True
        socket.place.pause.succeeded()

    def reply(self, socket: Socket, text: str, now_ms: int) -> None:
        """Answer a demand of the exchange."""
        socket.last_sent_ms = now_ms
        self._outlet.effects.append(Send(socket.number, text))

    def closing(self, socket: Socket, now_ms: int) -> None:
        """The exchange will close the socket: replace it now."""
        if socket is socket.place.current:
            socket.place.rotate_ms = min(socket.place.rotate_ms, now_ms)

    def again(self, channel: Channel, number: int, now_ms: int) -> None:
        """Subscribe to a channel again, on one socket (0: the one in use); too often, and the socket is replaced."""
        place = self._place_of.get(channel)
        if place is None:
            return
        socket = self._sockets.get(number) if number else place.current
        if socket is None or not socket.is_open or socket.place is not place:
            return
        tries = [time_ms for time_ms in place.tries.get(channel.name, ()) if time_ms > now_ms - TRIES_WITHIN_MS]
        tries.append(now_ms)
        place.tries[channel.name] = tries
        if len(tries) > CHANNEL_TRIES:
            place.tries.clear()
            place.rotate_ms = min(place.rotate_ms, now_ms)
        socket.subscriptions.again(channel.name)

    def tick(self, now_ms: int) -> None:
        """Do what is due: close dead sockets, open missing ones, send, and end overlaps."""
        for socket in list(self._sockets.values()):
            reason = self._fault(socket, now_ms)
            if reason is not None:
                self._drop(socket)
                self._lost(socket, reason, now_ms)
            elif socket.is_open:
                self._send(socket, now_ms)
        for place in self._places:
            if place.current is None:
                if now_ms >= max(place.pause.until_ms, self._connect_ms):
                    place.current = self._open(place, now_ms)
                    place.rotate_ms = NEVER_MS
            elif place.successor is None:
                if now_ms >= max(place.rotate_ms, self._connect_ms):
                    place.successor = self._open(place, now_ms)
                    place.look_ms = now_ms + _LOOK_MS
            elif now_ms >= place.look_ms:
                place.look_ms = now_ms + _LOOK_MS
                if self._is_ready(place, place.successor, now_ms):
                    self._replace(place, place.current, place.successor, now_ms)

    def due_ms(self) -> int:
        """When `tick` is needed next."""
        due_ms = NEVER_MS
        for socket in self._sockets.values():
            if socket.is_open:
                due_ms = min(due_ms, socket.last_frame_ms + self._limits.silence_ms, socket.subscriptions.due_ms())
                due_ms = min(due_ms, socket.last_sent_ms + self._limits.keepalive_ms)
            else:
                due_ms = min(due_ms, socket.age_ms + OPEN_MS)
        for place in self._places:
            if place.current is None:
                due_ms = min(due_ms, max(place.pause.until_ms, self._connect_ms))
            elif place.successor is None:
                due_ms = min(due_ms, max(place.rotate_ms, self._connect_ms))
            else:
                due_ms = min(due_ms, place.look_ms)
        return due_ms

    def status(self) -> list[SocketStatus]:
        """How the sockets stand."""
        return [
            SocketStatus(
                socket.number,
                socket.place.route,
                socket.is_open,
                socket.age_ms,
                len(socket.subscriptions.active),
                len(socket.place.names),
            )
            for socket in self._sockets.values()
        ]

    def refusals(self) -> list[tuple[Channel, str, int]]:
        """The refused channels: why, and when they are asked for again."""
        return [
            (Channel(place.route, name), refusal.message, refusal.pause.until_ms)
            for place in self._places
            for name, refusal in place.refusals.items()
        ]

    def _place_with_room(self, route: str) -> Place:
        for place in self._places:
            if place.route == route and len(place.names) < self._limits.channels_per_socket_max:
                return place
        place = Place(route, self._chance)
        self._places.append(place)
        return place

    def _open(self, place: Place, now_ms: int) -> Socket:
        self._number += 1
        subscriptions = Subscriptions(self._venue, place.refusals, self._next_id, self._chance)
        socket = self._sockets[self._number] = Socket(self._number, place, subscriptions, now_ms)
        self._connect_ms = now_ms + -(-1_000 // self._limits.connects_per_s_max)
        self._outlet.effects.append(Open(socket.number, place.route))
        return socket

    def _send(self, socket: Socket, now_ms: int) -> None:
        texts = socket.subscriptions.texts(now_ms)
        if not texts and now_ms - socket.last_sent_ms >= self._limits.keepalive_ms:
            socket.last_sent_ms = now_ms
            keepalive = self._venue.keepalive(self._next_id())
            texts = [] if keepalive is None else [keepalive]
        for text in texts:
            socket.last_sent_ms = now_ms
            self._outlet.effects.append(Send(socket.number, text))

    def _fault(self, socket: Socket, now_ms: int) -> GapReason | None:
        if not socket.is_open:
            return GapReason.UNANSWERED if now_ms - socket.age_ms >= OPEN_MS else None
        if now_ms - socket.last_frame_ms >= self._limits.silence_ms:
            return GapReason.SILENT
        return GapReason.UNANSWERED if socket.subscriptions.is_overdue(now_ms) else None

    def _drop(self, socket: Socket) -> None:
        self._sockets.pop(socket.number, None)
        self._outlet.effects.append(Close(socket.number))

    def _lost(self, socket: Socket, reason: GapReason, now_ms: int) -> None:
        place = socket.place
        self._outlet.counters["sockets_lost"] += 1
        if socket is place.successor:
            place.successor = None
            place.rotate_ms = now_ms + ROTATE_AGAIN_MS
            self._carried.cut(socket.number, place.channels(), reason, True, now_ms)
            return
        if socket is not place.current:
            return
        successor, place.successor = place.successor, None
        place.current = successor
        is_replaced = successor is not None and successor.is_open and successor.subscriptions.is_settled()
        if successor is None:
            place.pause.failed(now_ms)
        elif successor.is_open:
            place.rotate_ms = self._rotate_ms(successor.age_ms)
        self._carried.cut(socket.number, place.channels(), reason, is_replaced, now_ms)

    def _is_ready(self, place: Place, successor: Socket, now_ms: int) -> bool:
        if not successor.is_open or not successor.subscriptions.is_settled():
            return False
        if now_ms - successor.age_ms >= OVERLAP_MS:
            return True
        return all(
            name in place.refusals or self._carried.delivers(Channel(place.route, name), successor.number)
            for name in place.names
        )

    def _replace(self, place: Place, old: Socket, successor: Socket, now_ms: int) -> None:
        place.current, place.successor = successor, None
        place.rotate_ms = self._rotate_ms(successor.age_ms)
        self._outlet.counters["rotations"] += 1
        self._drop(old)
        self._carried.cut(old.number, place.channels(), GapReason.ROTATION, True, now_ms)

    def _rotate_ms(self, opened_ms: int) -> int:
        return opened_ms + int(self._limits.age_ms_max * self._chance.uniform(0.8, 0.9))
