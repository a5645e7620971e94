"""The session with one exchange: what happens on its sockets and requests goes in, what is to be done comes out."""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from random import Random
from typing import Final, NamedTuple

from app.collecting.book_chain import BookChain, BookRule
from app.collecting.book_feed import BookFeed
from app.collecting.effects import Effect
from app.collecting.feed_rules import NEVER_MS, FeedEvent, FeedStatus
from app.collecting.followed import FeedFactory, Followed
from app.collecting.ledger import SequenceLedger
from app.collecting.outlet import Outlet
from app.collecting.requests import Requests
from app.collecting.socket_place import Socket
from app.collecting.sockets import Sockets, SocketStatus
from app.domain.gap_reason import GapReason
from app.domain.instrument import Instrument
from app.domain.market_events import Accepted, Alive, BookUpdate, Closing, Event, Refused, Reply, Trades
from app.domain.records import DataType, Feed, FundingRate, KlineRecord, OpenInterest, Ticker
from app.domain.unreadable import Unreadable
from app.domain.venue import Channel
from app.ports.venue import Venue

WAITING_MS: Final = 1_000
"""A feed whose request waits for room is looked at this often, for what else is due."""
FOUND_PART: Final = 2
"""Instruments are read anew from time to time, and equal ones replace them: so many times the feeds are remembered."""
FAULT_SHOWN: Final = 200
"""Characters of the newest fault that the status shows."""


class SessionStatus(NamedTuple):
    """How the session stands. `refused` are channels, why they were refused and when they are asked for again.

    `not_offered` are feeds that the exchange does not have. `stand_down_ms`: until then nothing is asked.
    """

    exchange: str
    sockets: list[SocketStatus]
    feeds: list[FeedStatus]
    refused: list[tuple[Channel, str, int]]
    not_offered: list[Feed]
    counters: dict[str, int]
    stand_down_ms: int
    fault: str


class Session:
    """Follows feeds of one exchange. Every method takes the time, and those that act return what is to be done.

    `epoch` tells a book's numbers from those it had before: each book that is begun takes the next one. Give the time
    of the start in ms, which grows faster than books are begun. `ledger` is only read, when a feed
    is begun; whoever stores the records writes it.
    """

    def __init__(self, venue: Venue, ledger: SequenceLedger, book_rule: BookRule, epoch: int, chance: Random) -> None:
        self._venue = venue
        self._factory = FeedFactory(venue, ledger, book_rule, epoch, chance)
        self._outlet = Outlet()
        self._request_id = 0
        self._sockets = Sockets(venue, self, self._outlet, self._next_id, chance)
        self._requests = Requests(venue.limits.weight_per_minute, self._outlet)
        self._feeds: dict[Feed, Followed] = {}
        self._by_channel: dict[Channel, list[Followed]] = {}
        self._found: dict[tuple[type, int], tuple[Instrument, Followed]] = {}
        """Feeds by type of event and identity of the instrument, which is kept beside, so that no other can have it: to
        compute an instrument's hash takes longer than all else that is done with most frames. Bounded by FOUND_PART."""
        self._not_offered: list[Feed] = []
        self._timers: list[tuple[int, int, Followed]] = []
        self._timer = 0
        self._fault = ""

    @property
    def exchange(self) -> str:
        """The name of the exchange."""
        return self._venue.name

    # --- what is followed

    def follow(self, feeds: frozenset[Feed], now_ms: int) -> list[Effect]:
        """Follow exactly these feeds from now on. Those the exchange does not have are named in the status."""
        for feed in [feed for feed in self._feeds if feed not in feeds]:
            self._end(feed).rules.leave(now_ms)
        self._begin(feeds, GapReason.START, now_ms)
        return self._finish(now_ms)

    def begin_again(self, feeds: frozenset[Feed], now_ms: int) -> list[Effect]:
        """Begin these feeds, as far as they are followed, again at what the ledger holds: records were refused."""
        wanted = frozenset((*self._feeds, *self._not_offered))
        for feed in [feed for feed in self._feeds if feed in feeds]:
            self._end(feed)
        self._begin(wanted, GapReason.OVERFLOW, now_ms)
        return self._finish(now_ms)

    def snapshot(self, instrument: Instrument, now_ms: int) -> list[Effect]:
        """Publish the whole book of `instrument` again, if it is held."""
        followed = self._feeds.get(Feed(instrument, DataType.ORDERBOOK))
        if followed is not None and isinstance(followed.rules, BookFeed):
            followed.rules.repeat(now_ms)
            self._look(followed, now_ms)
        return self._finish(now_ms)

    def book(self, instrument: Instrument) -> BookChain | None:
        """The book of `instrument` as it is held now; None: it is not followed, or not proven contiguous."""
        followed = self._feeds.get(Feed(instrument, DataType.ORDERBOOK))
        return followed.rules.held() if followed is not None and isinstance(followed.rules, BookFeed) else None

    # --- sockets

    def opened(self, socket: int, now_ms: int) -> list[Effect]:
        """The socket is open."""
        self._sockets.opened(socket, now_ms)
        return self._finish(now_ms)

    def closed(self, socket: int, reason: str, now_ms: int) -> list[Effect]:
        """The socket closed, or could not be opened; `reason` is what the library says."""
        self._fault = reason[:FAULT_SHOWN]
        self._sockets.closed(socket, now_ms)
        return self._finish(now_ms)

    def received(self, socket: int, frame: bytes, now_ms: int) -> list[Effect]:
        """A frame came."""
        heard = self._sockets.heard(socket, now_ms)
        if heard is None:
            return []
        self._outlet.counters["messages"] += 1
        try:
            events = self._venue.read(heard.place.route, frame, now_ms)
        except Unreadable as error:
            self._note_unreadable(error)
            return []
        for event in events:
            self._take(event, heard, now_ms)
        return self._finish(now_ms)

    # --- requests

    def answered(self, fetch: int, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> list[Effect]:
        """An answer came to the request, whatever its status."""
        followed = self._requests.ended(fetch)
        until_ms = self._venue.refusal(status, headers, body, now_ms)
        if until_ms is not None:
            self._outlet.counters["stand_downs"] += 1
            self._requests.gate.stand_down(until_ms)
        if followed is not None:
            self._take_answer(followed, status, body, until_ms is not None, now_ms)
        return self._finish(now_ms)

    def failed(self, fetch: int, reason: str, now_ms: int) -> list[Effect]:
        """No answer will come to the request."""
        followed = self._requests.ended(fetch)
        self._fault = reason[:FAULT_SHOWN]
        if followed is not None:
            self._outlet.counters["requests_failed"] += 1
            followed.rules.failed(now_ms)
            self._look(followed, now_ms)
        return self._finish(now_ms)

    # --- time

    def tick(self, now_ms: int) -> list[Effect]:
        """Do what is due."""
        for fetch in self._requests.overdue(now_ms):
            followed = self._requests.ended(fetch)
            if followed is not None:
                followed.rules.failed(now_ms)
                self._look(followed, now_ms)
        self._sockets.tick(now_ms)
        return self._finish(now_ms)

    def wake_ms(self) -> int:
        """When `tick` is needed next, if nothing else happens before."""
        wake_ms = min(self._sockets.due_ms(), self._requests.due_ms())
        return min(wake_ms, self._timers[0][0]) if self._timers else wake_ms

    def status(self) -> SessionStatus:
        """How the session stands."""
        return SessionStatus(
            self._venue.name,
            self._sockets.status(),
            [followed.rules.status() for followed in self._feeds.values()],
            self._sockets.refusals(),
            list(self._not_offered),
            dict(self._outlet.counters),
            self._requests.gate.stand_down_ms,
            self._fault,
        )

    # --- what the sockets ask (Carried)

    def cut(self, socket: int, channels: Iterable[Channel], reason: GapReason, is_replaced: bool, now_ms: int) -> None:
        """Tell the feeds that `socket` brings nothing more; replaced, only books care, which belong to one socket."""
        for channel in channels:
            for followed in self._by_channel.get(channel, ()):
                if not is_replaced or followed.rules.feed.data_type is DataType.ORDERBOOK:
                    followed.rules.cut(socket, reason, now_ms)
                    self._look(followed, now_ms)

    def delivers(self, channel: Channel, socket: int) -> bool:
        """Whether all books, or one of the other feeds, of the channel come by this socket."""
        rules = [followed.rules for followed in self._by_channel.get(channel, ())]
        books = [each for each in rules if each.feed.data_type is DataType.ORDERBOOK]
        return all(each.delivers_on(socket) for each in books) and any(each.delivers_on(socket) for each in rules)

    # --- inside

    def _end(self, feed: Feed) -> Followed:
        followed = self._feeds.pop(feed)
        followed.scheduled_ms = NEVER_MS
        self._requests.forget(followed)
        return followed

    def _begin(self, feeds: frozenset[Feed], reason: GapReason, now_ms: int) -> None:
        """Begin those of `feeds` that are not followed yet."""
        self._not_offered = []
        begun = []
        for feed in sorted(feeds - self._feeds.keys(), key=_order):
            new = self._factory.begin(feed, self._outlet, reason)
            if new is None:
                self._not_offered.append(feed)
            else:
                self._feeds[feed] = new
                begun.append(new)
        self._by_channel = {}
        self._found = {}
        for followed in self._feeds.values():
            for channel in followed.channels:
                self._by_channel.setdefault(channel, []).append(followed)
        self._sockets.follow(self._by_channel.keys(), now_ms)
        for new in begun:
            new.rules.tick(now_ms)
            self._look(new, now_ms)

    def _take(self, event: Event, socket: Socket, now_ms: int) -> None:
        if isinstance(event, _FEED_EVENTS):
            self._take_data(event, socket, now_ms)
        elif type(event) is Accepted:
            socket.subscriptions.accepted(event)
        elif type(event) is Refused:
            self._outlet.counters["refused"] += 1
            self._fault = f"{event.code} {event.message} {event.channel}"[:FAULT_SHOWN]
            socket.subscriptions.refused(event, now_ms)
        elif type(event) is Reply:
            self._sockets.reply(socket, event.text, now_ms)
        elif type(event) is Closing:
            self._sockets.closing(socket, now_ms)
        else:
            assert type(event) is Alive, f"an event of no known kind: {event!r}"

    def _take_data(self, event: FeedEvent, socket: Socket, now_ms: int) -> None:
        if not socket.is_useful:
            self._sockets.useful(socket)
        kind = type(event)
        found = self._found.get((kind, id(event.instrument))) if kind is not KlineRecord else None
        if found is not None:
            followed = found[1]
        else:
            sought = self._feed_of(event)
            if sought is None:
                self._outlet.counters["not_followed"] += 1
                return
            followed = sought
        followed.rules.received(event, socket.number, now_ms)
        if followed.rules.due_ms < followed.scheduled_ms:
            self._look(followed, now_ms)

    def _feed_of(self, event: FeedEvent) -> Followed | None:
        interval = event.interval if type(event) is KlineRecord else ""
        followed = self._feeds.get(Feed(event.instrument, _DATA[type(event)], interval))
        if followed is not None and not interval:
            if len(self._found) >= FOUND_PART * len(self._feeds):
                self._found.clear()
            self._found[type(event), id(event.instrument)] = (event.instrument, followed)
        return followed

    def _take_answer(self, followed: Followed, status: int, body: bytes, is_refusal: bool, now_ms: int) -> None:
        if status != 200 or is_refusal:
            self._outlet.counters["requests_failed"] += 1
            self._fault = f"HTTP {status} {body[:FAULT_SHOWN].decode(errors='replace')}"[:FAULT_SHOWN]
            followed.rules.failed(now_ms)
        else:
            try:
                followed.rules.answered(body, now_ms)
            except Unreadable as error:
                self._note_unreadable(error)
                followed.rules.failed(now_ms)
        self._look(followed, now_ms)

    def _look(self, followed: Followed, now_ms: int) -> None:
        """Let the feed's request wait if it wants one, and set its timer."""
        if self._feeds.get(followed.rules.feed) is not followed:
            return
        if not self._requests.is_waiting(followed) and followed.rules.wanted(now_ms) is not None:
            self._requests.want(followed)
        due_ms = followed.rules.due_ms
        if due_ms <= now_ms:
            due_ms = now_ms + WAITING_MS
        if due_ms != followed.scheduled_ms and due_ms < NEVER_MS:
            followed.scheduled_ms = due_ms
            self._timer += 1
            heappush(self._timers, (due_ms, self._timer, followed))

    def _finish(self, now_ms: int) -> list[Effect]:
        """End a step: do what is due, send the requests there is room for, and return all effects."""
        timers, outlet = self._timers, self._outlet
        while timers and timers[0][0] <= now_ms:
            due_ms, _, followed = heappop(timers)
            if due_ms == followed.scheduled_ms:
                followed.scheduled_ms = NEVER_MS
                followed.rules.tick(now_ms)
                self._look(followed, now_ms)
        for followed in self._requests.send(now_ms):
            self._look(followed, now_ms)
        if outlet.resubscribes:
            for feed, socket in outlet.resubscribes:
                for channel in self._feeds[feed].channels if feed in self._feeds else ():
                    self._sockets.again(channel, socket, now_ms)
            outlet.resubscribes.clear()
            self._sockets.tick(now_ms)
        return outlet.take()

    def _note_unreadable(self, error: Unreadable) -> None:
        self._outlet.counters["unreadable"] += 1
        self._fault = str(error)[:FAULT_SHOWN]

    def _next_id(self) -> int:
        self._request_id += 1
        return self._request_id


_DATA: Final[dict[type, DataType]] = {
    Trades: DataType.TRADE,
    BookUpdate: DataType.ORDERBOOK,
    Ticker: DataType.TICKER,
    FundingRate: DataType.FUNDING_RATE,
    OpenInterest: DataType.OPEN_INTEREST,
    KlineRecord: DataType.KLINE,
}
_FEED_EVENTS: Final = (Trades, BookUpdate, KlineRecord, Ticker, FundingRate, OpenInterest)


def _order(feed: Feed) -> tuple[str, ...]:
    instrument = feed.instrument
    return (instrument.symbol, instrument.market.value, feed.data_type.value, feed.interval)
